"""Linearized steps as affine maps of the cotangents of their ends, composed in three ways."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Bool, Float

from ._linearized_step import (
    Blocks,
    LinearizedStep,
    blocks,
    factor_blocks,
    factor_rows,
    solve_all,
    solve_by_rows,
    stacked,
    stacked_mass_matrices,
    stacked_matrix,
)


@final
class Chunk(eqx.Module):
    """Consecutive steps in order of time.

    - `used`: where not, a step only passes on what it gets.
    - `linear_solver`: for the equations of each step; `None` takes the fastest for small ones.
    """

    steps: LinearizedStep
    used: Bool[Array, " k"]
    linear_solver: lx.AbstractLinearSolver | None

    def matrices(self) -> Float[Array, "k mn mn"]:
        """The equations of each step as one matrix."""
        if self.steps.M_T is None:
            return stacked_matrix(self.steps.tableau, self.steps.hJ_T)
        return stacked_mass_matrices(self.steps)

    def from_end(self, ends: Float[Array, "k n"]) -> Float[Array, "k mn"]:
        """The right-hand sides of the stages for cotangents of the ends of the steps."""
        return jax.vmap(lambda step, y1_bar: step.from_end(y1_bar))(self.steps, ends)


@final
class Entering(eqx.Module):
    """Cotangents that enter at each step beside that of its end: at its stages and its start."""

    stages: Float[Array, "k mn"] | None
    starts: Float[Array, "k n"]


def entering(
    chunk: Chunk, nodes: Float[Array, "k n"], polynomials: Float[Array, "k s n"] | None
) -> Entering:
    """Those of the states at the starts of the steps, and of their polynomials."""
    if polynomials is None:
        return Entering(None, nodes)
    G = jax.vmap(lambda step, p: step.from_polynomial(p))(chunk.steps, polynomials)
    starts = jax.vmap(lambda step, p, G: step.start_from_polynomial(p, G))(
        chunk.steps, polynomials, G
    )
    return Entering(G, nodes + jnp.where(chunk.used[:, None], starts, 0))


class AbstractRecurrence(eqx.Module):
    """Steps that are factored once, to be gone through back in time as often as is asked."""

    @abc.abstractmethod
    def back(
        self, end: Float[Array, " n"], given: Entering
    ) -> tuple[Float[Array, " n"], Float[Array, "k n"], Float[Array, "k mn"]]:
        """The cotangents of the first start, of the ends of all steps and of all stages."""


@final
class AffineSteps(AbstractRecurrence):
    r"""Steps of the adjoint as affine maps of the cotangents `y1_bar` of their ends:

    $$\bar y_0 = P \bar y_1 + q, \qquad V = W \bar y_1 + v.$$
    """

    chunk: Chunk
    solve: Callable[[tuple[Blocks, ...]], Float[Array, "k mn r"]]
    compose: Callable = eqx.field(static=True)
    P: Float[Array, "k n n"]
    W: Float[Array, "k mn n"]

    def back(self, end: Array, given: Entering) -> tuple[Array, Array, Array]:
        q, v = given.starts, 0.0
        if given.stages is not None:
            k, n = q.shape
            v = self.solve((blocks(given.stages.reshape(k, -1, n, 1)),))[..., 0]
            starts = jax.vmap(lambda s, v: s.start_from_end(jnp.zeros_like(end), v))(
                self.chunk.steps, v
            )
            q = q + jnp.where(self.chunk.used[:, None], starts, 0)
        start, ends = self.compose(self.P, q, end)
        return start, ends, jnp.einsum("kij,kj->ki", self.W, ends) + v


def _solver(chunk: Chunk) -> Callable[[tuple[Blocks, ...]], Float[Array, "k mn r"]]:
    """Solves the equations of every step for columns of right-hand sides, factored once."""
    solver, steps = chunk.linear_solver, chunk.steps
    if solver is not None:
        states = jax.vmap(lambda matrix: solver.init(lx.MatrixLinearOperator(matrix), {}))(
            chunk.matrices()
        )
        column = lambda state, g: solver.compute(state, g, {})[0]  # noqa: E731
        columns = jax.vmap(column, (None, -1), -1)
        return lambda rhs: eqx.filter_vmap(columns)(states, stacked(rhs))
    if steps.M_T is None:
        factors = lax.stop_gradient(factor_blocks(steps.tableau, steps.hJ_T))
        return lambda rhs: solve_all(steps.tableau, steps.hJ_T, factors, rhs, chunk.used)
    matrices = chunk.matrices()
    inverses = lax.stop_gradient(factor_rows(matrices))
    return lambda rhs: solve_by_rows(matrices, inverses, stacked(rhs))


def _affine_steps(chunk: Chunk, compose: Callable) -> AffineSteps:
    """Solves every step for all unit cotangents of its end."""
    k, _, n, _ = chunk.steps.hJ_T.shape
    identity = jnp.eye(n, dtype=chunk.steps.hJ_T.dtype)
    units = jnp.broadcast_to(identity, (k, n, n))
    # None where `d_i` is zero, at all stages but the last mostly.
    rhs = tuple(d * units if d else None for d in chunk.steps.tableau.d.tolist())
    solve = _solver(chunk)
    W = solve((rhs,))
    P = jax.vmap(lambda step, V: step.start_from_end(identity, V))(chunk.steps, W)
    P = jnp.where(chunk.used[:, None, None], P, identity)
    return AffineSteps(chunk, solve, compose, P, W)


def in_turn(P: Array, q: Array, end: Array) -> tuple[Array, Array]:
    """The start of the first step and the ends of all: one product a step, last step first."""

    def body(y1_bar: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        P, q = step
        return P @ y1_bar + q, y1_bar

    return lax.scan(body, end, (P, q), reverse=True)


def by_halves(P: Array, q: Array, end: Array) -> tuple[Array, Array]:
    """As `in_turn` by an associative scan: more work, but only log k rounds of it."""

    def compose(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (P2, q2), (P1, q1) = later, earlier
        return P1 @ P2, jnp.einsum("kij,kj->ki", P1, q2) + q1

    P, q = lax.associative_scan(compose, (P, q), reverse=True)
    starts = jnp.einsum("kij,j->ki", P, end) + q
    return starts[0], jnp.concatenate([starts[1:], end[None]])


@final
class FactoredSteps(AbstractRecurrence):
    """One solve a step in turn instead of n: for large n, or an iterative solver."""

    chunk: Chunk
    solver: lx.AbstractLinearSolver
    factors: Any

    def back(self, end: Array, given: Entering) -> tuple[Array, Array, Array]:
        dynamic, static = eqx.partition((self.chunk.steps, self.factors), eqx.is_array)

        def body(y1_bar: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array]]:
            dynamic, used, given = inputs
            step, factors = eqx.combine(dynamic, static)
            G = step.from_end(y1_bar)
            G = G if given.stages is None else G + given.stages
            V, _, _ = self.solver.compute(factors, G, {})
            start = jnp.where(used, step.start_from_end(y1_bar, V), y1_bar) + given.starts
            return start, (y1_bar, V)

        inputs = (dynamic, self.chunk.used, given)
        start, (ends, V) = lax.scan(body, end, inputs, reverse=True)
        return start, ends, V


def _factored_steps(chunk: Chunk) -> FactoredSteps:
    solver = lx.LU() if chunk.linear_solver is None else chunk.linear_solver
    factors = jax.vmap(lambda matrix: solver.init(lx.MatrixLinearOperator(matrix), {}))(
        chunk.matrices()
    )
    return FactoredSteps(chunk, solver, factors)


RECURRENCES: dict[str, Callable[[Chunk], AbstractRecurrence]] = {
    "scan": lambda chunk: _affine_steps(chunk, in_turn),
    "associative": lambda chunk: _affine_steps(chunk, by_halves),
    "solve": _factored_steps,
}
