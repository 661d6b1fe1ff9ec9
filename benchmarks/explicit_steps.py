"""The cost of a step of a learnable explicit method beside diffrax's own Runge-Kutta class.

The classical method of order four: as a `diffrax.AbstractERK`, and as the `LearnableRungeKutta` of
the same tableau. 2000 equal steps on Lorenz-63, on a network 8-64-64-8, and on 100 Lorenz systems
under `vmap`; saved is the end, or a value in every step by interpolation. Seven runs in turn,
microseconds a step (of all systems together), medians. The two ends must agree.

    python benchmarks/explicit_steps.py
"""

import statistics
import time
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

STEPS, STEP, REPEATS = 2000, 1e-3, 7
CLASSICAL = diffrax.ButcherTableau(
    a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
    b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    b_error=np.zeros(4),
    c=np.array([0.5, 0.5, 1.0]),
)


class Classical(diffrax.AbstractERK):
    """The classical method as one writes it for diffrax."""

    tableau: ClassVar = CLASSICAL
    interpolation_cls: ClassVar = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


class Problem(NamedTuple):
    name: str
    field: Callable
    y0: jax.Array


def problems():
    lorenz = srx.problems.lorenz()
    y0 = jnp.asarray(lorenz.y0, float)
    net = eqx.nn.MLP(8, 8, 64, 2, jnp.tanh, key=jax.random.key(0))
    many = y0 + jax.random.normal(jax.random.key(1), (100, 3))
    yield Problem("Lorenz-63", lorenz.vector_field, y0)
    yield Problem("network 8-64-64-8", lambda t, y, args: net(y), jnp.linspace(-1.0, 1.0, 8))
    yield Problem("Lorenz-63, 100 under `vmap`", lorenz.vector_field, many)


def program(problem, solver, saveat):
    @jax.jit
    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.field),
            solver,
            0.0,
            STEPS * STEP,
            STEP,
            y0,
            saveat=saveat,
            max_steps=STEPS + 1,
        ).ys

    return solve if problem.y0.ndim == 1 else jax.jit(jax.vmap(solve))


def microseconds(solve, y0):
    start = time.perf_counter()
    solve(y0).block_until_ready()
    return 1e6 * (time.perf_counter() - start) / STEPS


def main():
    solvers = Classical(), srx.LearnableRungeKutta.from_tableau(CLASSICAL)
    between = jnp.asarray((np.arange(STEPS) + 0.5) * STEP)
    print("| problem | saved | diffrax | ours | ratio |\n|---|---|---|---|---|")
    for problem in problems():
        for saved, saveat in (
            ("end", diffrax.SaveAt(t1=True)),
            ("in every step, by interpolation", diffrax.SaveAt(ts=between)),
        ):
            solves = [program(problem, solver, saveat) for solver in solvers]
            ends = [solve(problem.y0) for solve in solves]
            if saved == "end":
                np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6)
            times = [[microseconds(solve, problem.y0) for solve in solves] for _ in range(REPEATS)]
            theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
            print(
                f"| {problem.name} | {saved} | {theirs:.3g} | {ours:.3g} | {ours / theirs:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
