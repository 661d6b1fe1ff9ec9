"""Default tolerances of continuous adjoints bound their errors in any unit."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints._saved_values import CotangentJumps

KINDS = (srx.InterpolatingAdjoint, srx.QuadratureAdjoint, srx.GaussAdjoint, srx.ImexAdjoint)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_unit_of_cotangents_is_a_power_of_two_of_the_size_of_the_largest(dtype):
    about, none = jnp.finfo(dtype), jnp.zeros(1, int)

    def unit(node, value):
        nodes, values = (jnp.array([[x, 0.0]], dtype) for x in (node, value))
        return CotangentJumps(nodes, none, none, values, none[0]).unit()

    for node, value in [(-3e-9, 1e-12), (jnp.nan, 3e9), (jnp.inf, -about.max), (0.0, about.tiny)]:
        found, largest = unit(node, value), max(abs(x) for x in (node, value) if jnp.isfinite(x))
        assert jnp.frexp(found)[0] == 0.5
        assert 0.2 < largest / found < 4.1
        assert jnp.isfinite(1 / found)
    assert unit(0.0, 0.0) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [srx.InterpolatingAdjoint, srx.QuadratureAdjoint])
def test_an_integral_that_cancels_needs_no_digits_that_the_adjoint_has_not(kind):
    def field(t, y, rates):
        ahead, back = rates["ahead"] * y[0], rates["back"] * y[1]
        return jnp.stack([back - ahead, ahead - back - y[1], y[1]])

    def all_of_it(rates):
        return (
            diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                srx.RadauIIA5(),
                0.0,
                1.0,
                None,
                jnp.array([1.0, 0.0, 0.0]),
                rates,
                stepsize_controller=diffrax.PIDController(1e-6, 1e-6),
                adjoint=kind(max_steps=100),
                max_steps=64,
            )
            .ys[-1]
            .sum()
        )

    rates = {"ahead": jnp.array(1e6), "back": jnp.array(2e6)}
    for rate, gradient in zip(rates.values(), jax.grad(all_of_it)(rates).values(), strict=True):
        assert abs(gradient) * rate < 1e-9


@pytest.mark.slow_cases("GaussAdjoint", "QuadratureAdjoint", "ImexAdjoint")
@pytest.mark.parametrize("kind", KINDS)
def test_the_default_tolerance_bounds_the_error_in_any_unit_of_state_loss_and_parameter(kind):
    # The forward solve takes one step, which is far too long for one of the adjoint.
    @jax.jit
    def gradients(state, loss, parameter):
        def end(y0, rate):
            sol = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, rate: state * jnp.sin(3 * t) * rate / parameter - y),
                srx.BackwardEuler(),
                0.0,
                4.0,
                4.0,
                y0,
                rate,
                adjoint=kind(),
                max_steps=1,
            )
            return loss * sol.ys[-1]

        by_y0, by_rate = jax.grad(end, (0, 1))(state, parameter)
        return by_y0 / loss, by_rate * parameter / (state * loss)

    expected = np.exp(-4), (np.sin(12) - 3 * np.cos(12) + 3 * np.exp(-4)) / 10
    for units in [(1.0, 1.0, 1.0), (1e-9, 1e-9, 1.0), (1.0, 1.0, 1e12), (1e40, 1e-80, 1e-60)]:
        np.testing.assert_allclose(gradients(*units), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_quadratic_loss_of_small_states_has_the_gradient_of_larger_ones(kind):
    @jax.jit
    def gradient(mu, unit):
        def loss(mu):
            def field(t, y, args):
                x, v = y / unit
                return unit * jnp.stack([v, mu * (1 - x**2) * v - x])

            # Steps of order 13, in which one of order 5 is 50 % wrong.
            ys = diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                srx.RadauIIA13(),
                0.0,
                15.0,
                None,
                unit * jnp.array([2.0, 0.0]),
                stepsize_controller=diffrax.PIDController(1e-4, 1e-4 * unit),
                adjoint=kind(),
                max_steps=256,
            ).ys
            return jnp.sum(ys[-1] ** 2)

        return jax.grad(loss)(mu) / unit**2

    expected = gradient(5.0, 1.0)
    assert expected == pytest.approx(1.3665, rel=2e-4)
    for unit in (1e-9, 1e9, 1e-100):
        assert gradient(5.0, unit) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow_cases("GaussAdjoint", "QuadratureAdjoint", "ImexAdjoint")
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_in_a_small_unit_does_not_loosen_the_tolerance_of_another(kind):
    @jax.jit
    def gradient(unit):
        def end(rate):
            sol = diffrax.diffeqsolve(
                diffrax.ODETerm(
                    lambda t, y, rate: jnp.stack([0 * y[0], jnp.sin(3 * t) * rate - y[1]])
                ),
                srx.BackwardEuler(),
                0.0,
                4.0,
                4.0,
                jnp.stack([unit, 1.0]),
                rate,
                adjoint=kind(),
                max_steps=1,
            )
            return sol.ys[-1, 0] / unit + sol.ys[-1, 1]

        return jax.grad(end)(1.0)

    expected = (np.sin(12) - 3 * np.cos(12) + 3 * np.exp(-4)) / 10
    for unit in (1.0, 1e-12):
        np.testing.assert_allclose(gradient(unit), expected, rtol=1e-5)
