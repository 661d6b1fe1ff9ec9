"""What is not read is refused by its name; sums by gathers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.cantera._reactions import GatheredSums

RATE = "rate-constant: {A: 1e10, b: 0, Ea: 0}"
REFUSED = {
    "falloff-SRI": "equation: H + O2 (+M) <=> HO2 (+M), type: falloff,"
    " low-P-rate-constant: {A: 1e16, b: 0, Ea: 0}, high-P-rate-constant: {A: 1e12, b: 0, Ea: 0},"
    " SRI: {A: 0.5, B: 300, C: 900}",
    "Blowers-Masel": "equation: H + O2 <=> OH + O, type: Blowers-Masel,"
    " rate-constant: {A: 1e10, b: 0, Ea0: 100, w: 1e5}",
    "has the orders": f"equation: H2 + O2 => 2 OH, {RATE}, orders: {{H2: 0.5}}",
    "has the coefficients": f"equation: H2 + 0.5 O2 => H2O, {RATE}",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_reactions_are_refused(with_reactions, kind):
    gas = with_reactions(f"- {{{REFUSED[kind]}}}")
    with pytest.raises(ValueError, match=f"The reaction '.*{kind}.*reactions of whole molecules"):
        srx.cantera.Mechanism.from_solution(gas)


def test_other_gases_are_refused(ct):
    gas = ct.Solution("h2o2.yaml", "ohmech-RK")
    with pytest.raises(ValueError, match="'ohmech-RK' is of the kind 'Redlich-Kwong'; ideal gases"):
        srx.cantera.Mechanism.from_solution(gas)


def test_other_thermodynamics_are_refused(stand_in):
    gas = stand_in()
    gas.species()[1].thermo = object()
    with pytest.raises(ValueError, match="thermodynamics of B are of another form; NASA7"):
        srx.cantera.Mechanism.from_solution(gas)


def test_gas_without_reactions_is_refused(stand_in):
    gas = stand_in()
    gas.reactions = list
    with pytest.raises(ValueError, match="'stand-in' has no reactions; it needs one or more"):
        srx.cantera.Mechanism.from_solution(gas)


def test_what_is_no_gas_of_cantera_is_named_with_what_to_install():
    with pytest.raises(ValueError, match=r"`str` was given.*pip install 'stiffrax\[cantera\]'"):
        srx.cantera.ConstantVolumeReactor.from_solution("gri30.yaml")


def test_sums_of_all_lengths_are_those_of_a_scatter():
    rng = np.random.default_rng(0)
    place = np.repeat([7, 2, 9, 4], [1, 2, 3, 37])
    source, weight = rng.integers(0, 5, place.size), rng.normal(size=place.size)
    mixed = rng.permutation(place.size)
    x, expected = rng.normal(size=5), np.zeros(10)
    np.add.at(expected, place, weight * x[source])
    sums = GatheredSums(place[mixed], source[mixed], weight[mixed], 10)
    np.testing.assert_allclose(jax.jit(sums)(jnp.asarray(x)), expected, rtol=1e-13, atol=1e-14)
