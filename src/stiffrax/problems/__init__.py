"""Test problems with known values: stiff, chaotic, differential-algebraic."""

from ._chaotic import (
    double_pendulum as double_pendulum,
    hyperchaotic_chen as hyperchaotic_chen,
    hyperchaotic_roessler as hyperchaotic_roessler,
    kuramoto_sivashinsky as kuramoto_sivashinsky,
    lorenz as lorenz,
    roessler as roessler,
)
from ._problem import Problem as Problem
from ._reactions import (
    hires as hires,
    hires_initial_states as hires_initial_states,
    oregonator as oregonator,
    pollution as pollution,
    robertson as robertson,
    robertson_dae as robertson_dae,
)
from ._small_systems import (
    kaps as kaps,
    linear_decay as linear_decay,
    linear_pair as linear_pair,
    linear_relaxation as linear_relaxation,
    lotka_volterra as lotka_volterra,
    prothero_robinson as prothero_robinson,
    quadratic_triple as quadratic_triple,
    van_der_pol as van_der_pol,
    van_der_pol_scaled as van_der_pol_scaled,
)
from ._transistor_amplifier import transistor_amplifier as transistor_amplifier
