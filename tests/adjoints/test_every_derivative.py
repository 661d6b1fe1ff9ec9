"""`DiscreteAdjoint` on stiff problems: every mode, all that can be saved, by all inputs at once."""

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
    """Also by a factor of all rates, so that there is a parameter where the problem has none."""
    problem = getattr(srx.problems, name)()
    leaves, structure = jax.tree.flatten(problem.args)

    def field(t, y, args):
        given = jax.tree.unflatten(structure, list(args[1:]))
        return args[0] * problem.vector_field(t, y, given)

    args = jnp.asarray([1.0, *map(float, leaves)])
    return field if problem.mass is None else (field, problem.mass), jnp.asarray(problem.y0), args


PROBLEMS: dict[str, Any] = {
    "ROBER": lambda: (*of_problem("robertson"), 1e-4, 40.0),
    "ROBER as DAE": lambda: (*of_problem("robertson_dae"), 1e-4, 40.0),
    "HIRES": lambda: (*of_problem("hires"), 1e-4, 20.0),
    "van der Pol": lambda: (*of_problem("van_der_pol"), 1e-4, 50.0),
    "network of 2": lambda: network(2),
    "network of 5": lambda: network(5),
    "network of 10": lambda: network(10),
}


def of_inputs(name):
    """The values of a solve in given steps as a function of changes of all that it depends on.

    The steps follow both ends, and what is saved between them moves with `ts`; parameters change by
    parts of themselves.
    """
    field, y0, args, first, t1 = PROBLEMS[name]()
    has_mass = isinstance(field, tuple)
    term = srx.MassMatrixTerm(*field) if has_mass else diffrax.ODETerm(field)
    nodes = jnp.concatenate([jnp.zeros(1), jnp.geomspace(first, t1, NUM_STEPS) / t1])
    places = jnp.array([0.0011, 0.12, 0.61])
    size = {"y0": y0.size, "args": args.size, "ends": 2, "ts": places.size}

    def values(x, adjoint: Any = DISCRETE):
        by = dict(zip(size, jnp.split(x, np.cumsum(list(size.values()))[:-1]), strict=True))
        # Small: negative concentrations may have no solution.
        start = y0 + (jnp.abs(y0) + 1e-6) * by["y0"]
        t0, end = 0.01 * first * by["ends"][0], t1 * (1 + by["ends"][1])
        steps, ts = (t0 + (end - t0) * nodes).at[-1].set(end), t1 * places * (1 + by["ts"])
        if has_mass:
            start = start.at[2].set(1 - start[0] - start[1])  # The constraint of the DAE.
        subs = [
            diffrax.SubSaveAt(ts=ts, t1=True),
            diffrax.SubSaveAt(t0=True, steps=True, fn=lambda t, y, args: y * jnp.cos(t) * args[0]),
        ]
        sol: Any = diffrax.diffeqsolve(
            term, srx.RadauIIA5(), t0, end, None, start, args * jnp.exp(by["args"]),
            saveat=diffrax.SaveAt(subs=subs, dense=True), max_steps=NUM_STEPS, adjoint=adjoint,
            stepsize_controller=diffrax.StepTo(steps),
        )  # fmt: skip
        rows = [*sol.ys, sol.evaluate(0.37 * end)[None]]
        return (jnp.concatenate(rows) / (1e-3 + jnp.abs(y0))[None]).ravel()

    total = sum(size.values())
    along = jnp.asarray(np.random.default_rng(0).normal(size=total))
    return values, jnp.zeros(total), along / jnp.linalg.norm(along)


def compiled(name):
    """Value, forward and reverse derivative, and the forward derivative of the reverse one."""
    values, x, along = of_inputs(name)
    count = jax.eval_shape(values, x).size
    weights = jnp.cos(jnp.arange(1.0, count + 1))

    def pulled(x, adjoint: Any = DISCRETE):
        out, pull = jax.vjp(lambda x: values(x, adjoint), x)
        return pull(weights)[0], weights @ out

    @jax.jit
    def all_of(x):
        # One program: each takes long to compile, and none to run.
        (gradient, value), (second, pushed) = jax.jvp(pulled, (x,), (along,))
        return value, pushed, gradient, second

    checkpoints = diffrax.RecursiveCheckpointAdjoint()
    return all_of, jax.jit(lambda x: pulled(x, checkpoints)[0]), x, along


def derivative_along(function, x, along, h):
    """By differences of fourth order."""
    near, far = (
        (function(x + k * h * along) - function(x - k * h * along)) / (2 * k * h) for k in (1, 2)
    )
    return (4 * near - far) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_all_modes_have_the_derivatives_of_the_steps(name):
    all_of, by_checkpoints, x, along = compiled(name)
    _, pushed, gradient, second = all_of(x)
    size = float(jnp.max(jnp.abs(gradient)))
    np.testing.assert_allclose(gradient @ along, pushed, rtol=1e-10, atol=1e-10 * size)
    np.testing.assert_allclose(gradient, by_checkpoints(x), rtol=1e-9, atol=1e-9 * size)
    slope = derivative_along(lambda x: all_of(x)[0], x, along, 1e-3)
    np.testing.assert_allclose(pushed, slope, rtol=1e-6, atol=1e-6 * size)
    change = derivative_along(lambda x: all_of(x)[2], x, along, 1e-3)
    largest = float(jnp.max(jnp.abs(second)))
    np.testing.assert_allclose(second, change, rtol=1e-6, atol=1e-6 * largest)
