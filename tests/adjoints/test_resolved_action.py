"""What the forward solve resolved is in the gradient, wherever it is: no adjoint steps over it."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

KINDS = (srx.InterpolatingAdjoint, srx.QuadratureAdjoint, srx.GaussAdjoint, srx.ImexAdjoint)


@pytest.mark.slow_cases("InterpolatingAdjoint", "QuadratureAdjoint", "ImexAdjoint")
@pytest.mark.parametrize("kind", KINDS)
def test_a_spike_in_a_quiet_field_has_its_gradient(kind):
    # Nothing happens but within 0.3 +- 0.003; dy(1)/dp = I exp(p I), I the integral of the field.
    def end(p):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -100 * p * y * jnp.exp(-(((t - 0.3) / 1e-3) ** 2))),
            srx.RadauIIA5(),
            0.0,
            1.0,
            None,
            jnp.array(1.0),
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10, dtmax=0.01),
            adjoint=kind(),
            max_steps=256,
        ).ys[-1]

    integral = -0.1 * jnp.sqrt(jnp.pi)
    found = jax.jit(jax.grad(end))(1.0)
    assert found == pytest.approx(float(integral * jnp.exp(integral)), rel=1e-6)


RATES = jnp.array([1.0, 1e2, 1e5])


def exchange(t, y, k):
    a, b = k[0] * y[0] - k[1] * y[1], k[2] * y[1] - k[0] * y[2]
    return jnp.stack([-a, a - b, b])


WEIGHTS, LENGTH, COUNT = jnp.array([1.0, -3.0, 2.0]), 0.01, 400


def exactly(y0, rates):
    """The weighted sum of the exact solution at the ends of all steps."""
    step = jax.scipy.linalg.expm(LENGTH * jax.jacfwd(exchange, 1)(0.0, y0, rates))
    return jnp.sum(jax.lax.scan(lambda y, _: (step @ y,) * 2, y0, None, COUNT)[1] @ WEIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_jump_at_every_step_of_a_stiff_network_has_its_gradient(kind):
    # Ten and more steps of the adjoint follow each jump: 4096 are not enough for all of them.
    def total(y0, rates):
        ys = diffrax.diffeqsolve(
            diffrax.ODETerm(exchange),
            srx.RadauIIA5(),
            0.0,
            LENGTH * COUNT,
            LENGTH,
            y0,
            rates,
            adjoint=kind(rtol=1e-5, atol=1e-9),
            saveat=diffrax.SaveAt(steps=True),
            max_steps=COUNT,
        ).ys
        return jnp.sum(ys @ WEIGHTS)

    y0 = jnp.array([1.0, 0.0, 0.5])
    by_y0, by_rates = jax.jit(jax.grad(total, (0, 1)))(y0, RATES)
    expected_by_y0, expected_by_rates = jax.jit(jax.grad(exactly, (0, 1)))(y0, RATES)
    np.testing.assert_allclose(by_y0, expected_by_y0, rtol=1e-4)
    np.testing.assert_allclose(by_rates, expected_by_rates, rtol=1e-3)
