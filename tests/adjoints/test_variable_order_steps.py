"""Derivatives of solves whose steps are of different orders."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = jnp.array([0.02, 0.5, 1.3, 3.0])
POINT = jnp.array([2.0, 50.0])


def solve(inputs, adjoint: Any = srx.DiscreteAdjoint(), order: Any = (5, 9), **saveat) -> Any:
    """Follows the cosine at a rate, at 1e-9: ten steps of order 5, and then others."""
    start, rate = inputs
    options: dict[str, Any] = {"ts": TS} | saveat
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, rate: -rate * (y - jnp.stack([jnp.cos(t), y[0] ** 2]))),
        srx.RadauIIA(order=order),
        0.0,
        3.0,
        1e-3,
        jnp.stack([start, 1.0]),
        rate,
        saveat=diffrax.SaveAt(**options),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        adjoint=adjoint,
        max_steps=128,
    )


def exact(inputs):
    start, k = inputs
    particular = lambda t: (k**2 * jnp.cos(t) + k * jnp.sin(t)) / (1 + k**2)
    return particular(TS) + (start - particular(0.0)) * jnp.exp(-k * TS)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_closed_form():
    def loss(inputs):
        solution = solve(inputs, solver_state=True)
        return jnp.sum(jnp.sin(solution.ys[:, 0])), solution.solver_state.level

    gradient, level = jax.jit(jax.grad(loss, has_aux=True))(POINT)
    assert level > 0
    expected = jax.grad(lambda inputs: jnp.sum(jnp.sin(exact(inputs))))(POINT)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "order"), [("full", "auto"), ("steps", (5, 9))])
def test_it_is_that_of_sensitivities_carried_along_with_the_steps(memory, order):
    def jacobian(adjoint):
        return jax.jit(jax.jacrev(lambda inputs: solve(inputs, adjoint, order).ys))(POINT)

    # Several runs of one order in a chunk, and runs that go over its end.
    found = jacobian(srx.DiscreteAdjoint(memory=memory, chunk=16))
    rtol = 1e-10 if memory == "full" else 1e-6
    np.testing.assert_allclose(found, jacobian(srx.ForwardSensitivity()), rtol=rtol, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["ts", "steps", "dense"])
def test_both_modes_give_the_same_jacobian(save):
    def values(inputs):
        start, rate, end = inputs
        if save == "dense":
            solution = solve((start, rate), ts=None, dense=True)
            return jax.vmap(solution.evaluate)(end * TS)
        if save == "steps":
            return solve((start, rate), ts=None, steps=True, fn=lambda t, y, args: end * y).ys
        return solve((start, rate), ts=end * TS).ys

    inputs = jnp.append(POINT, 0.9)
    forward, reverse = (jax.jit(of(values))(inputs) for of in (jax.jacfwd, jax.jacrev))
    filled = np.isfinite(np.asarray(values(inputs)))
    forward, reverse = forward[filled], reverse[filled]
    np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-11)


@pytest.mark.slow
def test_lanes_that_change_their_order_at_different_steps_have_the_derivatives_of_each():
    points = jnp.stack([POINT, jnp.array([1.0, 1e4]), jnp.array([0.5, 3.0])])
    jacobian = jax.jacrev(lambda inputs: solve(inputs).ys)
    together = jax.jit(jax.vmap(jacobian))(points)
    for point, found in zip(points, together, strict=True):
        np.testing.assert_allclose(found, jax.jit(jacobian)(point), rtol=1e-9, atol=1e-12)
