"""Net production rates and their derivatives, against closed forms and Cantera's own."""

import copy
from types import SimpleNamespace as Plain

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.cantera._rates import Troe

R = 8314.46261815324

# Two rates that add up, one of them negative; reactions that do not go back; falloffs with three
# and four numbers and with none; products of three molecules; a collider by name; rates by pressure,
# of two terms at one pressure and one of them negative, with third bodies and two polynomials.
NASTY = """
- {equation: OH + HO2 <=> H2O + O2, duplicate: true, rate-constant: {A: 5.0e13, b: 0.1, Ea: 500}}
- {equation: OH + HO2 <=> H2O + O2, duplicate: true, negative-A: true,
   rate-constant: {A: -2.0e12, b: 0.2, Ea: 100}}
- {equation: 2 H2O2 => 2 OH + H2 + O2, rate-constant: {A: 1.0e13, b: 0.0, Ea: 3e4}}
- {equation: H + O2 + AR <=> HO2 + AR, rate-constant: {A: 7.0e17, b: -0.8, Ea: 0}}
- {equation: H2O + M => H + OH + M, type: three-body, efficiencies: {H2O: 0, AR: 3.5, CH4: 2},
   rate-constant: {A: 2.0e15, b: 0.0, Ea: 1e5}}
- {equation: 2 OH (+ M) <=> H2O2 (+ M), type: falloff, efficiencies: {H2: 2.0},
   low-P-rate-constant: {A: 2.3e18, b: -0.9, Ea: -1700},
   high-P-rate-constant: {A: 7.4e13, b: -0.37, Ea: 0}, Troe: {A: 0.73, T3: 94.0, T1: 1756.0}}
- {equation: H + O2 (+ M) <=> HO2 (+ M), type: falloff,
   low-P-rate-constant: {A: 3.5e16, b: -0.41, Ea: -1116},
   high-P-rate-constant: {A: 1.5e12, b: 0.6, Ea: 0},
   Troe: {A: 0.5, T3: 1.0e-30, T1: 1.0e30, T2: 5182}}
- {equation: H2 (+ M) <=> 2 H (+ M), type: falloff,
   low-P-rate-constant: {A: 4.6e19, b: -1.4, Ea: 104380},
   high-P-rate-constant: {A: 1.0e14, b: 0.0, Ea: 90000}}
- {equation: O + H2 (+ M) <=> H + OH (+ M), type: chemically-activated, efficiencies: {H2: 3.0},
   low-P-rate-constant: {A: 2.8e5, b: 2.0, Ea: 8600},
   high-P-rate-constant: {A: 1.5e2, b: 2.5, Ea: 6000}, Troe: {A: 0.6, T3: 100, T1: 1500}}
- {equation: H + O2 <=> O + OH, type: pressure-dependent-Arrhenius, rate-constants: [
   {P: 0.1 atm, A: 3.0e14, b: -0.2, Ea: 14000}, {P: 1 atm, A: 3.2e14, b: -0.2, Ea: 15000},
   {P: 1 atm, A: 8.0e12, b: 0.1, Ea: 9000}, {P: 20 atm, A: 4.0e14, b: -0.2, Ea: 15000},
   {P: 20 atm, A: -2.0e12, b: 0.0, Ea: 15000}]}
- {equation: HO2 + AR <=> H + O2 + AR, type: pressure-dependent-Arrhenius, rate-constants: [
   {P: 0.1 atm, A: 7.0e15, b: 0.0, Ea: 300}, {P: 10 atm, A: 9.0e15, b: 0.0, Ea: 200}]}
- {equation: O + HO2 => O2 + OH, type: pressure-dependent-Arrhenius,
   rate-constants: [{P: 1 atm, A: 3.0e13, b: 0.0, Ea: 100}]}
- {equation: H2 + O2 <=> 2 OH, type: Chebyshev, temperature-range: [290, 3000],
   pressure-range: [0.01 atm, 100 atm],
   data: [[8.3, -1.1, -0.12], [1.9, 1.0, 0.007], [0.3, 0.27, 0.095], [0.2, 0.1, 0.01]]}
- {equation: HO2 + H2 => H2O2 + H, type: Chebyshev, temperature-range: [300, 2500],
   pressure-range: [0.1 atm, 10 atm], data: [[7.0, -1.0], [2.0, 0.5]]}
"""


def random_states(gas, number):
    rng, states = np.random.default_rng(0), []
    for _ in range(number):
        fractions = rng.dirichlet(np.full(gas.n_species, 0.3))
        # Some species are not there at all.
        fractions[rng.integers(0, gas.n_species, 2)] = 0.0
        gas.TPY = rng.uniform(300, 3000), 10 ** rng.uniform(3, 7), fractions
        size = gas.creation_rates + gas.destruction_rates
        states.append((gas.T, gas.concentrations, gas.net_production_rates, size))
    return [np.array(x) for x in zip(*states, strict=True)]


def largest_error(gas, number=50):
    """Of the rates, in parts of what makes and unmakes each species."""
    T, c, expected, size = random_states(gas, number)
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    rates = jax.jit(jax.vmap(mechanism.net_production_rates))(jnp.asarray(T), jnp.asarray(c))
    return np.max(np.abs(rates - expected) / (size + 1e-300))


# The last has rates in tables of pressures, one of them with a third body.
MECHANISMS = ["h2o2.yaml", "gri30.yaml", "example_data/ammonia-CO-H2-Alzueta-2023.yaml"]


@pytest.mark.parametrize("name", MECHANISMS)
def test_rates_are_those_of_cantera(ct, name):
    assert largest_error(ct.Solution(name)) < 1e-12


def test_every_kind_of_reaction_has_the_rate_of_cantera(with_reactions):
    assert largest_error(with_reactions(NASTY)) < 1e-12


def test_every_rate_constant_is_that_of_cantera(with_reactions):
    gas = with_reactions(NASTY)
    gas.TPX = 1300, 3e5, "H2:2, O2:1, OH:0.1, AR:3"
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    kinds = [r.reaction_type for r in gas.reactions()]
    # Cantera multiplies with third bodies of others later on.
    bodies = np.where([k.startswith("three") for k in kinds], gas.third_body_concentrations, 1.0)
    expected = bodies * np.stack([gas.forward_rate_constants, gas.reverse_rate_constants])

    def constants(mechanism, T, P, c):
        return mechanism.rate_constants(T, P, mechanism.bodies(c))

    double = mechanism, jnp.asarray(gas.T), jnp.asarray(gas.P), jnp.asarray(gas.concentrations)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), double)
    compiled = eqx.filter_jit(constants)
    np.testing.assert_allclose(compiled(*double), expected, rtol=1e-12)
    np.testing.assert_allclose(compiled(*single), expected, rtol=1e-3)


def test_beyond_the_last_pressure_of_a_table_its_last_row_is_the_rate(with_reactions):
    gas = with_reactions(NASTY)
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    # Above all pressures of the second table, which is filled up to the length of the first one.
    T, P, M = jnp.asarray(1300.0), jnp.asarray(1e8), mechanism.bodies(jnp.ones(gas.n_species))
    reaction = int(np.flatnonzero(mechanism.reactions.pressure_slots == 1)[0])

    def constant(log_A):
        changed = eqx.tree_at(lambda m: m.rates.by_pressure.tables.log_A, mechanism, log_A)
        return changed.rate_constants(T, P, M)[0, reaction]

    log_A = mechanism.rates.by_pressure.tables.log_A
    value, slopes = eqx.filter_jit(jax.value_and_grad(constant))(log_A)
    expected = np.zeros(log_A.shape)
    expected[1, 1, 0] = value
    np.testing.assert_allclose(slopes, expected, rtol=1e-12)


def test_multipliers_of_reactions_are_kept(with_reactions):
    gas = with_reactions(NASTY)
    for i, factor in enumerate(
        [0.5, 2.0, 0.0, 3.0, 1.5, 4.0, 0.0, 0.25, 3.0, 2.0, 0.5, 0.0, 7.0, 0.1]
    ):
        gas.set_multiplier(factor, i)
    assert largest_error(gas) < 1e-12


@pytest.mark.parametrize("molecules", [1, 2])
def test_reversible_reaction_without_cantera_has_the_rate_of_its_closed_form(stand_in, molecules):
    T, c = 800.0, np.array([0.02, 0.03])
    gas = stand_in(multiplier=2.0, molecules=molecules)
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    forward = 2.0 * 3.0 * T * np.exp(-1000 / T)
    # Gibbs energies over R T: the parts of heat capacities are 2.5 (1 - log T).
    g = 2.5 * (1 - np.log(T)) + np.array([-500.0, 200.0]) / T - np.array([1.0, 2.0])
    standard = (1e5 / (R * T)) ** (molecules - 1)
    equilibrium = np.exp(g[0] - molecules * g[1]) * standard
    speed = forward * (c[0] - c[1] ** molecules / equilibrium)
    rates, slopes = jax.jit(
        lambda c: jax.jvp(
            lambda c: mechanism.net_production_rates(T, c), (c,), (jnp.array([1.0, 0.0]),)
        )
    )(jnp.asarray(c))
    np.testing.assert_allclose(rates, [-speed, molecules * speed], rtol=1e-12)
    np.testing.assert_allclose(slopes, [-forward, molecules * forward], rtol=1e-12)


def test_jacobian_is_that_of_the_reactions_written_out(with_reactions):
    # Also where concentrations are zero, and slightly below.
    gas = with_reactions(NASTY)
    T, c, _, _ = random_states(gas, 1)
    T, c = jnp.asarray(T[0]), jnp.asarray(c[0]).at[1].set(-1e-12).at[4].set(0.0)
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    r = mechanism.reactions

    def written_out(T, c):
        P = R * T * jnp.sum(c)
        forward, backward = mechanism.rate_constants(T, P, mechanism.efficiencies @ c)
        filled = jnp.append(c, jnp.ones(1))
        speeds = forward * jnp.prod(filled[r.reactants], axis=1)
        speeds = speeds - backward * jnp.prod(filled[r.products], axis=1)
        return jnp.asarray(r.stoichiometry) @ speeds

    expected = jax.jit(jax.jacrev(written_out, (0, 1)))(T, c)
    for mode in (jax.jacfwd, jax.jacrev):
        found = jax.jit(mode(mechanism.net_production_rates, (0, 1)))(T, c)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13 * np.max(np.abs(b)))


def test_derivatives_by_every_number_are_central_differences(with_reactions):
    gas = with_reactions(NASTY)
    T, c, _, _ = random_states(gas, 1)
    T, c = jnp.asarray(T[0]), jnp.asarray(c[0])
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    weights = jnp.arange(1.0, len(c) + 1)

    @eqx.filter_jit
    def value(rates, efficiencies):
        changed = eqx.tree_at(lambda m: (m.rates, m.efficiencies), mechanism, (rates, efficiencies))
        return weights @ changed.net_production_rates(T, c)

    numbers = mechanism.rates, mechanism.efficiencies
    gradient = eqx.filter_jit(jax.grad(value, (0, 1)))(*numbers)
    leaves, tree = jax.tree.flatten(numbers)
    for k, (x, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        assert np.all(np.isfinite(slope))
        step = 1e-5 * jnp.where(x == 0, 1e-3, jnp.abs(x))
        ends = [
            value(*jax.tree.unflatten(tree, [*leaves[:k], x + s * step, *leaves[k + 1 :]]))
            for s in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / 2
        np.testing.assert_allclose(
            jnp.sum(slope * step), expected, rtol=1e-5, atol=1e-9 * abs(value(*numbers))
        )


def test_density_is_that_of_cantera(air):
    mechanism = srx.cantera.Mechanism.from_solution(air)
    np.testing.assert_allclose(mechanism.density(air.T, air.P, air.Y), air.density, rtol=1e-12)


def test_a_falloff_with_negative_rate_constants_is_taken_off(with_reactions):
    falloff = "- {{equation: H + O2 (+ M) <=> HO2 (+ M), type: falloff, duplicate: true, {more}\n"
    falloff += "   low-P-rate-constant: {{A: {sign}3.5e{low}, b: 0, Ea: 0}},\n"
    falloff += "   high-P-rate-constant: {{A: {sign}1.5e{high}, b: 0, Ea: 0}}}}\n"
    first = falloff.format(more="", sign="", low=16, high=12)
    second = falloff.format(more="negative-A: true,", sign="-", low=15, high=11)
    assert largest_error(with_reactions(first + second)) < 1e-12


def test_a_copy_and_what_is_read_again_are_the_same(stand_in):
    mechanism = srx.cantera.Mechanism.from_solution(stand_in())
    for other in (copy.deepcopy(mechanism), srx.cantera.Mechanism.from_solution(stand_in())):
        assert eqx.tree_equal(mechanism, other)
        assert hash(mechanism.reactions) == hash(other.reactions)
    other = srx.cantera.Mechanism.from_solution(stand_in(molecules=1))
    assert mechanism.reactions != other.reactions


@pytest.mark.usefixtures("unchecked_types")
def test_a_width_of_nothing_has_no_derivative_in_single_precision():
    one = jnp.ones(1, jnp.float32)
    troe = Troe(0.5 * one, 1e-30 * one, 1e30 * one, 0 * one)
    reactions = Plain(has_T2=np.array([False]), is_troe=np.array([True]))
    T = jnp.asarray(1000.0, jnp.float32)
    gradient = jax.grad(lambda troe: troe.logarithm(reactions, T, one)[0])(troe)
    assert gradient.T3[0] == 0
    assert np.isfinite(gradient.a[0])


def test_whole_numbers_are_temperatures_and_concentrations(with_reactions):
    gas = with_reactions(NASTY)
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    of_floats = mechanism.net_production_rates(1200.0, np.ones(gas.n_species))
    of_integers = mechanism.net_production_rates(1200, np.ones(gas.n_species, int))
    np.testing.assert_array_equal(of_integers, of_floats)


@pytest.mark.parametrize("more", ["", ", Troe: {A: 0.73, T3: 94.0, T1: 1756.0}"])
def test_a_falloff_whose_collider_is_not_there_has_a_derivative_by_it(with_reactions, more):
    falloff = "- {equation: 2 OH (+H2O) <=> H2O2 (+H2O), type: falloff,\n"
    falloff += "   low-P-rate-constant: {A: 2.3e12, b: -0.9, Ea: -1700},\n"
    falloff += f"   high-P-rate-constant: {{A: 7.4e13, b: -0.37, Ea: 0}}{more}}}\n"
    gas = with_reactions(falloff)
    OH, H2O = gas.species_index("OH"), gas.species_index("H2O")
    mechanism = srx.cantera.Mechanism.from_solution(gas)
    rate = jax.jit(lambda c: mechanism.net_production_rates(1200.0, c)[OH])
    c, tiny = jnp.zeros(gas.n_species).at[OH].set(1e-3), 1e-13
    difference = (rate(c.at[H2O].set(tiny)) - rate(c)) / tiny
    assert difference < -1e-3
    for derivative in (jax.jacfwd(rate), jax.jacrev(rate)):
        # The factor of Troe still falls, slowly, as the collider vanishes.
        np.testing.assert_allclose(derivative(c)[H2O], difference, rtol=1e-6 if not more else 0.05)
