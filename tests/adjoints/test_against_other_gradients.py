"""The discrete adjoint against differentiation through the same steps, and against differences."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

ROBERTSON = srx.problems.robertson()
RATES, START = jnp.array([0.04, 3e7, 1e4]), jnp.array([1.0, 0.0, 0.0])
SAVED = {
    "t1": diffrax.SaveAt(t1=True),
    "ts and t0": diffrax.SaveAt(ts=jnp.array([0.1, 5.0, 50.0]), t0=True),
    "steps": diffrax.SaveAt(steps=True),
    "fn": diffrax.SaveAt(ts=jnp.array([2.0, 60.0]), fn=lambda t, y, args: t * y[0] * y),
}


def loss(rates, y0, adjoint, saveat, t1=100.0):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(ROBERTSON.vector_field),
        srx.RadauIIA5(),
        0.0,
        t1,
        1e-4,
        y0,
        rates,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-10),
        adjoint=adjoint,
        saveat=saveat,
        max_steps=256,
        throw=False,
    )
    ys = jnp.where(jnp.isfinite(solution.ys), solution.ys, 0)
    return jnp.sum(ys @ jnp.array([1.0, 1e4, 2.0]))


def gradients(adjoint, saveat):
    return jax.jit(jax.grad(lambda k, y: loss(k, y, adjoint, saveat), (0, 1)))(RATES, START)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ts and t0", *(pytest.param(name, marks=pytest.mark.slow) for name in ("t1", "steps", "fn"))],
)
def test_it_is_the_gradient_through_the_steps_taken(name):
    ours = gradients(srx.DiscreteAdjoint(), SAVED[name])
    through = gradients(diffrax.RecursiveCheckpointAdjoint(), SAVED[name])
    for a, b in zip(ours, through, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.slow
def test_memory_of_step_starts_only_gives_the_same_gradient():
    full = gradients(srx.DiscreteAdjoint(), SAVED["ts and t0"])
    steps = gradients(srx.DiscreteAdjoint(memory="steps"), SAVED["ts and t0"])
    for a, b in zip(full, steps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.slow
def test_under_vmap_a_failed_lane_has_no_gradient_and_the_others_keep_theirs():
    adjoint, saveat = srx.DiscreteAdjoint(), SAVED["t1"]

    def total(rates, starts):
        each = jax.vmap(lambda y0: loss(rates, y0, adjoint, saveat))(starts)
        return jnp.sum(jnp.where(jnp.isfinite(each), each, 0))

    gradient = jax.jit(jax.grad(total))
    healthy = jnp.stack([START, 1.1 * START])
    with_failure = jnp.stack([START, 1.1 * START, jnp.nan * START])
    np.testing.assert_allclose(gradient(RATES, with_failure), gradient(RATES, healthy), rtol=1e-12)


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
