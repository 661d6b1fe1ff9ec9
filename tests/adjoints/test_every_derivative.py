"""`DiscreteAdjoint` on stiff problems in both modes, with respect to all at once."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

DISCRETE, NUM_STEPS = srx.DiscreteAdjoint(), 40


def network(size):
    """Random reactions of first order, with rates over five decades, and one of second order."""
    rng = np.random.default_rng(size)
    pairs = np.stack([rng.permutation(size) for _ in range(2)], axis=1)
    rates = 10 ** rng.uniform(0, 5, size)

    def field(t, y, rates):
        flow = rates * y[pairs[:, 0]]
        slope = jnp.zeros_like(y).at[pairs[:, 0]].add(-flow).at[pairs[:, 1]].add(flow)
        return slope.at[0].add(-y[0] * y[-1]).at[-1].add(jnp.cos(t) - y[-1])

    return field, jnp.asarray(rng.uniform(0.5, 1.5, size)), jnp.asarray(rates), 1e-5, 1.0


def of_problem(name):
    problem = getattr(srx.problems, name)()
    args = jnp.asarray(jnp.stack([jnp.asarray(x) for x in jax.tree.leaves(problem.args)]))
    structure = jax.tree.structure(problem.args)
    field = lambda t, y, args: problem.vector_field(t, y, jax.tree.unflatten(structure, list(args)))
    return field, jnp.asarray(problem.y0), args


PROBLEMS: dict[str, Any] = {
    "ROBER": lambda: (*of_problem("robertson"), 1e-4, 40.0),
    "network of 2": lambda: network(2),
}


def of_inputs(name):
    """The values of a solve in given steps as a function of changes of all that it depends on.

    The steps follow both ends, and what is saved between them moves with `ts`; parameters change by
    parts of themselves.
    """
    field, y0, args, first, t1 = PROBLEMS[name]()
    term = diffrax.ODETerm(field)
    nodes = jnp.concatenate([jnp.zeros(1), jnp.geomspace(first, t1, NUM_STEPS) / t1])
    places = jnp.array([0.0011, 0.12, 0.61])
    size = {"y0": y0.size, "args": args.size, "ends": 2, "ts": places.size}

    def values(x, adjoint: Any = DISCRETE):
        by = dict(zip(size, jnp.split(x, np.cumsum(list(size.values()))[:-1]), strict=True))
        # Small: negative concentrations may have no solution.
        start = y0 + (jnp.abs(y0) + 1e-6) * by["y0"]
        t0, end = 0.01 * first * by["ends"][0], t1 * (1 + by["ends"][1])
        steps, ts = (t0 + (end - t0) * nodes).at[-1].set(end), t1 * places * (1 + by["ts"])
        sol: Any = diffrax.diffeqsolve(
            term, srx.RadauIIA5(), t0, end, None, start, args * jnp.exp(by["args"]),
            saveat=diffrax.SaveAt(ts=ts, t1=True), max_steps=NUM_STEPS + 1, adjoint=adjoint,
            stepsize_controller=diffrax.StepTo(steps),
        )  # fmt: skip
        return (sol.ys / (1e-3 + jnp.abs(y0))[None]).ravel()

    total = sum(size.values())
    along = jnp.asarray(np.random.default_rng(0).normal(size=total))
    return values, jnp.zeros(total), along / jnp.linalg.norm(along)


def derivative_along(function, x, along, h):
    """By differences of fourth order."""
    near, far = (
        (function(x + k * h * along) - function(x - k * h * along)) / (2 * k * h) for k in (1, 2)
    )
    return (4 * near - far) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_both_modes_have_the_derivative_of_the_steps(name):
    values, x, along = of_inputs(name)
    count = jax.eval_shape(values, x).size
    weights = jnp.cos(jnp.arange(1.0, count + 1))

    @jax.jit
    def both(x):
        # One program: each takes long to compile, and none to run.
        out, push = jax.linearize(values, x)
        (pulled,) = jax.linear_transpose(push, x)(weights)
        return weights @ out, weights @ push(along), pulled

    checkpoints = diffrax.RecursiveCheckpointAdjoint()
    by_checkpoints = jax.jit(jax.grad(lambda x: weights @ values(x, checkpoints)))
    _, pushed, pulled = both(x)
    size = float(jnp.max(jnp.abs(pulled)))
    np.testing.assert_allclose(pulled @ along, pushed, rtol=1e-10, atol=1e-10 * size)
    np.testing.assert_allclose(pulled, by_checkpoints(x), rtol=1e-9, atol=1e-9 * size)
    slope = derivative_along(lambda x: both(x)[0], x, along, 1e-3)
    np.testing.assert_allclose(pushed, slope, rtol=1e-6, atol=1e-6 * size)
