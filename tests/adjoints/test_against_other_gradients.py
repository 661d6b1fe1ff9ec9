"""The discrete adjoint against differentiation through the same steps, and against differences."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

ROBERTSON = srx.problems.robertson()
RATES, START = jnp.array([0.04, 3e7, 1e4]), jnp.array([1.0, 0.0, 0.0])


def loss(rates, y0, adjoint):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(ROBERTSON.vector_field),
        srx.RadauIIA5(),
        0.0,
        100.0,
        1e-4,
        y0,
        rates,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-10),
        adjoint=adjoint,
        saveat=diffrax.SaveAt(ts=jnp.array([0.1, 5.0, 50.0]), t0=True),
        max_steps=256,
    )
    return jnp.sum(solution.ys @ jnp.array([1.0, 1e4, 2.0]))


@functools.cache
def gradients(adjoint):
    return jax.jit(jax.grad(lambda k, y: loss(k, y, adjoint), (0, 1)))(RATES, START)


# All that can be saved is in test_every_mode.py, failed lanes in tests/contracts/test_adjoints.py.
@pytest.mark.slow
def test_on_a_stiff_problem_it_is_the_gradient_through_the_steps_taken():
    ours = gradients(srx.DiscreteAdjoint())
    through = gradients(diffrax.RecursiveCheckpointAdjoint())
    for a, b in zip(ours, through, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.slow
def test_memory_of_step_starts_only_gives_the_same_gradient():
    full = gradients(srx.DiscreteAdjoint())
    steps = gradients(srx.DiscreteAdjoint(memory="steps"))
    for a, b in zip(full, steps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": diffrax.Kvaerno5()}, "RecursiveCheckpointAdjoint"),
        ({"max_steps": None}, "max_steps"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(change, message):
    def value(y0):
        options = {
            "solver": srx.RadauIIA5(),
            "max_steps": 64,
            "saveat": diffrax.SaveAt(t1=True),
        } | change
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            t0=0.0,
            t1=1.0,
            dt0=0.1,
            y0=y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
            adjoint=srx.DiscreteAdjoint(),
            **options,
        )
        ys = solution.evaluate(0.5) if solution.ys is None else solution.ys
        return jnp.sum(ys)

    with pytest.raises(ValueError, match=message):
        jax.eval_shape(jax.grad(value), jnp.ones(2))
