"""Rates from a table make a field with kinks; steps that end at each of them meet the tolerance."""

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TIMES = np.linspace(0.0, 1.0, 12)
RATES = 10.0 ** np.array([0, 1, -1, 2, 0, 1.5, -2, 1, 0.5, 2, -1, 0.0])


@eqx.filter_jit
def solve(controller):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -jnp.interp(t, TIMES, RATES) * (y - 1)),
        srx.RadauIIA9(),
        0.0,
        1.0,
        None,
        jnp.array(2.0),
        stepsize_controller=controller,
    ).ys[-1]


@pytest.mark.slow
def test_a_solve_that_is_told_of_the_kinks_meets_the_tolerance():
    rtol = 1e-8
    controller = diffrax.PIDController(rtol=rtol, atol=rtol * 1e-9)
    told = diffrax.ClipStepSizeController(controller, jump_ts=TIMES[1:-1])
    exact = 1 + np.exp(-jnp.trapezoid(RATES, TIMES))
    np.testing.assert_allclose(solve(told), exact, rtol=2 * rtol)
