"""Test problems with known values: stiff, chaotic, differential-algebraic."""

from ._chen import hyperchaotic_chen as hyperchaotic_chen
from ._double_pendulum import double_pendulum as double_pendulum
from ._hires import hires as hires, hires_initial_states as hires_initial_states
from ._kuramoto_sivashinsky import kuramoto_sivashinsky as kuramoto_sivashinsky
from ._linear import (
    linear_decay as linear_decay,
    linear_pair as linear_pair,
    linear_relaxation as linear_relaxation,
)
from ._lorenz import lorenz as lorenz
from ._lotka_volterra import lotka_volterra as lotka_volterra
from ._oregonator import oregonator as oregonator
from ._pollution import pollution as pollution
from ._problem import Problem as Problem
from ._prothero_robinson import prothero_robinson as prothero_robinson
from ._quadratic import kaps as kaps, quadratic_triple as quadratic_triple
from ._robertson import robertson as robertson, robertson_dae as robertson_dae
from ._roessler import hyperchaotic_roessler as hyperchaotic_roessler, roessler as roessler
from ._transistor_amplifier import transistor_amplifier as transistor_amplifier
from ._van_der_pol import van_der_pol as van_der_pol, van_der_pol_scaled as van_der_pol_scaled
