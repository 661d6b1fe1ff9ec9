"""Gradients by forward sensitivities against those of the discrete adjoint, and what is refused."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import EULER

import stiffrax as srx


def solve(inputs, adjoint, saveat=None, **options):
    rates, y0 = inputs

    def field(t, y, args):
        a, b = y
        return jnp.stack([rates[1] * b - rates[0] * a**2, rates[0] * a**2 - 40 * b])

    defaults = {
        "stepsize_controller": diffrax.PIDController(rtol=1e-6, atol=1e-8),
        "max_steps": 128,
        "throw": False,
    }
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        1.0,
        1e-3,
        y0,
        saveat=diffrax.SaveAt(ts=jnp.array([0.1, 0.7])) if saveat is None else saveat,
        adjoint=adjoint,
        **(defaults | options),
    )


def loss(inputs, adjoint, **options):
    ys = solve(inputs, adjoint, **options).ys
    return jnp.sum(jnp.where(jnp.isfinite(ys), ys, 0) ** 2)


def gradient(inputs, adjoint, **options):
    pull = jax.jit(jax.grad(functools.partial(loss, adjoint=adjoint, **options)))
    return jnp.concatenate(pull(inputs))


INPUTS = (jnp.array([2.0, 30.0]), jnp.array([1.0, 0.5]))


@functools.cache
def discrete():
    return gradient(INPUTS, srx.DiscreteAdjoint())


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 3])
def test_sensitivities_give_the_gradient_of_the_discrete_adjoint(chunk):
    # Three at a time: the second chunk is not full.
    found = gradient(INPUTS, srx.ForwardSensitivity(chunk))
    np.testing.assert_allclose(found, discrete(), rtol=1e-11)


@pytest.mark.slow
def test_the_number_of_steps_needs_no_bound():
    saveat = diffrax.SaveAt(t1=True)
    found = gradient(INPUTS, srx.ForwardSensitivity(), max_steps=None, saveat=saveat)
    bounded = gradient(INPUTS, srx.DiscreteAdjoint(), saveat=saveat)
    np.testing.assert_allclose(found, bounded, rtol=1e-11)


@pytest.mark.slow
def test_slots_never_filled_have_no_part_in_a_gradient():
    # 128 slots, most of them infinite.
    found = gradient(INPUTS, srx.ForwardSensitivity(), saveat=diffrax.SaveAt(steps=True))
    other = gradient(INPUTS, srx.DiscreteAdjoint(), saveat=diffrax.SaveAt(steps=True))
    np.testing.assert_allclose(found, other, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(("failed", "expected"), [("zero", 0.0), ("nan", np.nan)])
def test_a_failed_lane_changes_no_other(failed, expected):
    rates = jnp.array([[2.0, 30.0], [jnp.nan, 30.0]])
    y0 = jnp.stack([INPUTS[1]] * 2)

    def total(inputs):
        return jnp.sum(jax.vmap(lambda x: loss(x, srx.ForwardSensitivity(failed=failed)))(inputs))

    found = jnp.concatenate(jax.jit(jax.grad(total))((rates, y0)), axis=1)
    np.testing.assert_allclose(found[0], discrete(), rtol=1e-9)
    np.testing.assert_array_equal(found[1], expected)


@pytest.mark.slow
def test_hessian_vector_products_are_those_of_the_discrete_adjoint():
    direction = (jnp.array([1.0, -10.0]), jnp.zeros(2))

    def product(adjoint):
        slope = jax.grad(functools.partial(loss, adjoint=adjoint))
        return jax.jit(lambda x: jax.jvp(slope, (x,), (direction,))[1][0])(INPUTS)

    found, other = product(srx.ForwardSensitivity()), product(srx.DiscreteAdjoint())
    np.testing.assert_allclose(found, other, rtol=1e-6)


def test_dense_output_is_refused_under_a_gradient():
    def dense(inputs):
        saveat = diffrax.SaveAt(dense=True)
        return jnp.sum(solve(inputs, srx.ForwardSensitivity(), saveat=saveat).evaluate(0.3))

    with pytest.raises(ValueError, match=r"ForwardSensitivity.*SaveAt\(ts=\.\.\.\)"):
        jax.eval_shape(jax.grad(dense), INPUTS)


def test_a_chunk_without_parameters_is_refused():
    with pytest.raises(ValueError, match="`chunk=0` was given; it needs a positive integer"):
        srx.ForwardSensitivity(chunk=0)


def test_a_gradient_by_no_number_at_all_is_empty():
    # The explicit one, quick to trace.
    euler = srx.LearnableRungeKutta.from_tableau((np.zeros((1, 1)), np.ones(1), np.zeros(1)))

    def end(weights):
        field = lambda t, y, args: -y + jnp.sum(weights)
        adjoint = srx.ForwardSensitivity()
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), euler, 0.0, 1.0, 0.5, jnp.array(1.0), adjoint=adjoint
        ).ys[-1]

    assert jax.eval_shape(jax.grad(end), jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("adjoint", [srx.ForwardSensitivity(), srx.DiscreteAdjoint()], ids=repr)
def test_a_gradient_has_the_precision_of_what_it_is_by(adjoint):
    def end(single, start):
        field = diffrax.ODETerm(lambda t, y, args: -single.astype(y.dtype) * y)
        options = {"adjoint": adjoint, "max_steps": 4}
        return diffrax.diffeqsolve(field, EULER, 0.0, 1.0, 1.0, start, **options).ys[-1]

    inputs = (jnp.array(0.5, jnp.float32), jnp.array(2.0))
    # Of one step, `(1 - single) start`.
    for arguments, expected in [(0, -2.0), ((0, 1), (-2.0, 0.5))]:
        found = jax.grad(end, arguments)(*inputs)
        assert jax.tree.map(jnp.result_type, found) == jax.tree.map(
            lambda i: inputs[i].dtype, arguments
        )
        np.testing.assert_allclose(found, expected)
