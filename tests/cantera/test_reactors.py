"""Reactors against those of Cantera."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

KINDS = {
    "volume": (srx.cantera.ConstantVolumeReactor, "IdealGasReactor"),
    "pressure": (srx.cantera.ConstantPressureReactor, "IdealGasConstPressureReactor"),
}


@eqx.filter_jit
def solve(reactor, y0, t1):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(reactor),
        srx.RadauIIA5(),
        0.0,
        t1,
        None,
        y0,
        stepsize_controller=srx.PredictiveController(rtol=1e-7, atol=1e-14),
        max_steps=1024,
    )


def reference(ct, gas, kind, t1):
    """The state that Cantera's reactor ends in."""
    reactor = getattr(ct, KINDS[kind][1])(gas, clone=False)
    net = ct.ReactorNet([reactor])
    net.rtol, net.atol = 1e-12, 1e-20
    net.advance(t1)
    return np.array([gas.T, *gas.Y])


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_that_cantera_computes(ct, kind):
    gas = ct.Solution("h2o2.yaml")
    gas.basis = "molar"
    gas.TPY = 1500, 3e5, np.random.default_rng(0).dirichlet(np.full(gas.n_species, 0.5))
    reactor, y = KINDS[kind][0].from_solution(gas), srx.cantera.state(gas)
    gas.basis = "mass"
    energies, capacity = {
        "volume": (gas.partial_molar_int_energies, gas.cv_mass),
        "pressure": (gas.partial_molar_enthalpies, gas.cp_mass),
    }[kind]
    made = gas.net_production_rates / gas.density
    expected = np.array([-made @ energies / capacity, *(made * gas.molecular_weights)])
    slopes = eqx.filter_jit(reactor)(0.0, y)
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-12 * np.max(abs(expected[1:])))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ignition_of_hydrogen_ends_where_that_of_cantera_does(ct, air, kind):
    # Amid the ignition, where an error in any rate shows.
    reactor, y0, t1 = KINDS[kind][0].from_solution(air), srx.cantera.state(air), 2.6e-5
    found, expected = solve(reactor, y0, jnp.asarray(t1)).ys[-1], reference(ct, air, kind, t1)
    assert 1700 < expected[0] < 2200
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_mass_and_energy_are_conserved_without_cantera(stand_in, kind):
    gas = stand_in()
    reactor, y = KINDS[kind][0].from_solution(gas), srx.cantera.state(gas)
    slope = eqx.filter_jit(reactor)(0.0, y)
    heat = 1.5 if kind == "volume" else 2.5
    moles, rates = y[1:] / gas.molecular_weights, slope[1:] / gas.molecular_weights
    formation = heat * y[0] + np.array([-500.0, 200.0])
    assert abs(slope[1]) > 1
    np.testing.assert_allclose(slope[1] + slope[2], 0.0, atol=1e-12 * abs(slope[1]))
    np.testing.assert_allclose(rates @ formation, -heat * slope[0] * np.sum(moles), rtol=1e-12)


def test_field_takes_states_in_a_batch_and_single_precision(stand_in):
    gas = stand_in()
    reactor = srx.cantera.ConstantVolumeReactor.from_solution(gas)
    ys = srx.cantera.state(gas)[None] + jnp.arange(3.0)[:, None] * jnp.eye(3)[:1]
    slopes = eqx.filter_jit(eqx.filter_vmap(reactor))(jnp.zeros(3), ys)
    alone = eqx.filter_jit(reactor)
    np.testing.assert_allclose(slopes, [alone(0.0, y) for y in ys], rtol=1e-12)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), (reactor, ys[2]))
    np.testing.assert_allclose(eqx.filter_jit(single[0])(0.0, single[1]), slopes[2], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2,), (4, 3)], ids=["no temperature", "batch"])
@pytest.mark.usefixtures("unchecked_types")
def test_states_of_another_shape_are_named(stand_in, kind, shape):
    reactor = KINDS[kind][0].from_solution(stand_in())
    with pytest.raises(ValueError, match=r"it needs \(3,\), the temperature and the mass fraction"):
        reactor(0.0, jnp.ones(shape))
