"""Fields that subtract the time from the state, at times of which few digits are left."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

RATES = jnp.linspace(20.0, 200.0, 6)


def _follows_the_time(t, y, k):
    # Far from zero the difference is rounded as the time is.
    return -k * jnp.sin(y - t)


def _solve_from(t0, k, solver, **options):
    t0 = jnp.asarray(t0, k.dtype)
    term, y0 = diffrax.ODETerm(_follows_the_time), jnp.array([0.3], k.dtype)
    options = {"dt0": jnp.asarray(1 / 64, k.dtype), "throw": False, **options}
    return diffrax.diffeqsolve(term, solver, t0, t0 + 1, y0=y0, args=k, **options)


@pytest.mark.parametrize(
    ("solver", "t0", "dtype"),
    [
        (srx.RadauIIA5(), 1.7e9, jnp.float64),
        (srx.RadauIIA5(), 1024.0, jnp.float32),
        (srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2)), 1e6, jnp.float64),
    ],
    ids=["seconds of an epoch", "single precision", "slopes"],
)
def test_fixed_steps_are_solved_where_the_time_has_few_digits_after_the_point(solver, t0, dtype):
    k = RATES.astype(dtype)
    sol = jax.jit(jax.vmap(lambda k: _solve_from(t0, k, solver)))(k)
    assert np.all(sol.result == diffrax.RESULTS.successful)
    lag = np.sin(np.asarray(sol.ys[:, -1, 0], np.float64) - (t0 + 1))
    np.testing.assert_allclose(lag, -1 / RATES, atol=4 * t0 * np.finfo(dtype).eps + 2e-4)


@pytest.mark.slow
def test_gradients_of_steps_solved_again_are_finite_where_the_time_has_few_digits():
    def end(k):
        control = srx.PredictiveController(rtol=1e-6, atol=1e-8)
        adjoint = srx.DiscreteAdjoint(memory="steps")
        options = {"stepsize_controller": control, "adjoint": adjoint, "dt0": None}
        return _solve_from(1e6, k, srx.RadauIIA5(), **options).ys[-1, 0]

    gradients = jax.jit(jax.vmap(jax.grad(end)))(RATES)
    np.testing.assert_allclose(gradients, 1 / (RATES**2 * np.sqrt(1 - RATES**-2.0)), rtol=1e-2)
