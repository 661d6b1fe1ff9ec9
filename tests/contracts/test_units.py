"""Nothing depends on the units of states, times and parameters, from 1e-60 to 1e60."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

RATES = jnp.array([0.04, 3e7, 1e4])
RTOL = 1e-8


def reactions(y, rates):
    k1, k2, k3 = rates
    slow, fast, back = k1 * y[0], k3 * y[1] * y[2], k2 * y[1] ** 2
    return jnp.stack([-slow + fast, slow - fast - back, back])


@eqx.filter_jit
def value_and_gradients(solver, adjoint, states, time, parameters):
    """The end of a solve in these units, and its gradients by start and rates, in units of one."""

    def end(y0, rates):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(
                lambda t, y, rates: reactions(y / states, rates / parameters) * states / time
            ),
            solver,
            0.0,
            1e5 * time,
            1e-6 * time,
            y0,
            rates,
            stepsize_controller=diffrax.PIDController(
                rtol=RTOL, atol=RTOL * jnp.array([1e-2, 1e-8, 1e-2]) * states
            ),
            adjoint=adjoint,
            max_steps=256,
        )
        return sol.ys[-1, 0] / states[0]

    y0, rates = jnp.array([1.0, 0.0, 0.0]) * states, RATES * parameters
    value, (by_start, by_rates) = jax.value_and_grad(end, argnums=(0, 1))(y0, rates)
    return value, by_start * states, by_rates * parameters * RATES


ADJOINTS = {
    "DiscreteAdjoint": srx.DiscreteAdjoint(),
    "RecursiveCheckpointAdjoint": diffrax.RecursiveCheckpointAdjoint(),
}


@pytest.mark.parametrize("name", ADJOINTS)
def test_solutions_and_gradients_do_not_depend_on_units(name):
    solver, adjoint = srx.RadauIIA9(), ADJOINTS[name]
    one = jnp.ones(3)
    expected = value_and_gradients(solver, adjoint, one, jnp.array(1.0), one)
    rng = np.random.default_rng(0)
    draws = [(np.array([0, -12, 12]), 0, np.zeros(3))]
    size = lambda *n: rng.integers(-60, 61, n)  # noqa: E731
    draws += [(size(3), size(), size(3)) for _ in range(20)]
    for states, time, parameters in draws:
        states, time, parameters = (10.0 ** jnp.asarray(x) for x in (states, time, parameters))
        found = value_and_gradients(solver, adjoint, states, time, parameters)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * np.max(np.abs(b)))
