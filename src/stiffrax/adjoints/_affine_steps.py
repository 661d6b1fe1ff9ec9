"""Linearized steps as affine maps, composed in three ways."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Bool, Float

from ..linear_algebra import SparseMatrix, library_solve, short_product, units_left
from ..stages import SparseStages, StageEquations, factor_sparse_stages
from ._linearized_step import (
    Blocks,
    LinearizedStep,
    TangentStep,
    blocks,
    factor_blocks,
    factor_rows,
    rows_where,
    solve_all,
    solve_by_rows,
    stacked,
    stacked_mass_matrices,
    stacked_matrix,
    unsolved,
)


@final
class LinearizedChunk(eqx.Module):
    """Consecutive steps in order of time, transposed for cotangents and plain for tangents.

    - `used`: where not, a step only passes on what it gets.
    - `linear_solver`: for the equations of each step; `None` takes the fastest for small ones.
    """

    steps: LinearizedStep | TangentStep
    used: Bool[Array, " k"]
    linear_solver: lx.AbstractLinearSolver | None

    @property
    def is_sparse(self) -> bool:
        """Whether the pattern of the equations is known."""
        return isinstance(self.steps.matrices[0], SparseMatrix)

    def where_used(self, x: Float[Array, "k _"]) -> Float[Array, "k _"]:
        """The rows of the steps that are used, and zeros for the others."""
        return jnp.where(self.used[:, None], x, 0)

    def matrices(self) -> Float[Array, "k mn mn"]:
        """The equations of each step as one matrix."""
        hJ, M = self.steps.matrices
        if M is None:
            return stacked_matrix(self.steps.couplings, hJ)
        return stacked_mass_matrices(self.steps.couplings, hJ, M)

    def factors(self) -> "SparseStages | LibraryFactors":
        """Factors of the equations of each step, sparse ones or those of the linear solver."""
        if self.is_sparse:
            a, transform = self.steps.couplings, self.steps.transform
            return eqx.filter_vmap(
                lambda step: factor_sparse_stages(a, transform, *reversed(step.matrices))
            )(self.steps)
        solver = lx.LU() if self.linear_solver is None else self.linear_solver
        states = jax.vmap(lambda matrix: solver.init(lx.MatrixLinearOperator(matrix), {}))(
            self.matrices()
        )
        return LibraryFactors(solver, states)

    def left(self, rest: Array, V: Float[Array, "k mn"], G: Float[Array, "k mn"]) -> Array:
        """What is left of sparse equations, in units of rounding of each one's terms."""
        a = self.steps.couplings

        def terms(step: Any, V: Array, G: Array) -> Array:
            hJ, M = step.matrices
            equations = StageEquations(jnp.asarray(a, V.dtype), M, hJ)
            return equations.terms(*(x.reshape(len(a), -1) for x in (V, G))).reshape(-1)

        sizes = eqx.filter_vmap(terms)(self.steps, V, G)
        # A step that is not used may have no inverse.
        return units_left(rest, jnp.where(self.used[:, None], sizes, 1))

    def right_sides(self, x: Float[Array, "k n *c"]) -> Float[Array, "k mn *c"]:
        """Those of the stages for what enters each step."""
        return jax.vmap(lambda step, x: step.right_sides(x))(self.steps, x)

    def across(self, x: Float[Array, "k n *c"], V: Float[Array, "k mn *c"]) -> Array:
        """What leaves each step."""
        return jax.vmap(lambda step, x, V: step.across(x, V))(self.steps, x, V)


@final
class LibraryFactors(eqx.Module):
    """Factors of a lineax solver."""

    solver: lx.AbstractLinearSolver
    states: Any

    def solve(self, rhs: Float[Array, " mn"]) -> Float[Array, " mn"]:
        """Solves for one right-hand side."""
        return library_solve(self.solver, self.states, rhs)


@final
class Entering(eqx.Module):
    """What enters at each step beside what comes from the one before: at its stages, and behind it."""

    stages: Float[Array, "k mn"] | None
    behind: Float[Array, "k n"]


def entering(
    chunk: LinearizedChunk, nodes: Float[Array, "k n"], polynomials: Float[Array, "k s n"] | None
) -> Entering:
    """The cotangents of the states at the starts of the steps, and of their polynomials."""
    if polynomials is None:
        return Entering(None, nodes)
    G = jax.vmap(lambda step, p: step.from_polynomial(p))(chunk.steps, polynomials)
    starts = jax.vmap(lambda step, p, G: step.start_from_polynomial(p, G))(
        chunk.steps, polynomials, G
    )
    return Entering(G, nodes + chunk.where_used(starts))


@final
class Passed(NamedTuple):
    """What leaves the last step passed, what enters each of them, and all stages."""

    last: Float[Array, " n"]
    entering: Float[Array, "k n"]
    stages: Float[Array, "k mn"]


class AbstractRecurrence(eqx.Module):
    """Steps that are factored once, to be gone through as often as is asked."""

    @abc.abstractmethod
    def run(self, first: Float[Array, " n"], given: Entering, *, back: bool) -> Passed:
        """Passes cotangents `back` from an end, tangents ahead from a start."""


@final
class AffineSteps(AbstractRecurrence):
    r"""Steps as affine maps of what enters them, the cotangent of an end or the tangent of a start:

    $$x_{k+1} = P_k x_k + q_k, \qquad V_k = W_k x_k + v_k.$$
    """

    chunk: LinearizedChunk
    solve: Callable[[tuple[Blocks, ...]], Float[Array, "k mn r"]]
    compose: Callable = eqx.field(static=True)
    P: Float[Array, "k n n"]
    W: Float[Array, "k mn n"]

    def run(self, first: Array, given: Entering, *, back: bool) -> Passed:
        q, v = given.behind, 0.0
        if given.stages is not None:
            k, n = q.shape
            v = self.solve((blocks(given.stages.reshape(k, -1, n, 1)),))[..., 0]
            behind = self.chunk.across(jnp.zeros_like(q), v)
            q = q + self.chunk.where_used(behind)
        last, entering = self.compose(self.P, q, first, back=back)
        # By the library: a product that is written out is fused with all that uses it, each time
        # rounded differently, and what is left of the equations would be that of other numbers.
        return Passed(last, entering, jnp.einsum("kij,kj->ki", self.W, entering) + v)


def _solver(
    chunk: LinearizedChunk, units: Blocks
) -> Callable[[tuple[Blocks, ...]], Float[Array, "k mn r"]]:
    """Solves the equations of every step for columns of right-hand sides.

    Factored once, and judged once, by the solution for `units`.
    """
    steps = chunk.steps
    if chunk.is_sparse or chunk.linear_solver is not None:
        factors = chunk.factors()
        columns = jax.vmap(lambda factors, g: factors.solve(g), (None, -1), -1)
        return lambda rhs: eqx.filter_vmap(columns)(factors, stacked(rhs))
    hJ, M = steps.matrices
    if M is None:
        a = jnp.asarray(steps.couplings, hJ.dtype)
        factors = factor_blocks(a, hJ)
        wrong = chunk.used & unsolved(a, hJ, factors, (units,))
        rows = rows_where(wrong, a, hJ)
        return lambda rhs: solve_all(hJ, factors, rows, rhs, wrong)
    matrices = chunk.matrices()
    inverses = lax.stop_gradient(factor_rows(matrices))
    return lambda rhs: solve_by_rows(matrices, inverses, stacked(rhs))


def _affine_steps(chunk: LinearizedChunk, compose: Callable) -> AffineSteps:
    hJ, _ = chunk.steps.matrices
    sparse = isinstance(hJ, SparseMatrix)
    n, dtype = (hJ.pattern.n, hJ.values.dtype) if sparse else (hJ.shape[-1], hJ.dtype)
    k, identity = len(chunk.used), jnp.eye(n, dtype=dtype)
    units = jnp.broadcast_to(identity, (k, n, n))
    columns = chunk.steps.unit_columns(units)
    solve = _solver(chunk, columns)
    W = solve((columns,))
    P = jnp.where(chunk.used[:, None, None], chunk.across(units, W), identity)
    return AffineSteps(chunk, solve, compose, P, W)


def in_turn(P: Array, q: Array, first: Array, *, back: bool = True) -> tuple[Array, Array]:
    """What leaves the last step and enters all of them: one product a step."""

    def body(x: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        P, q = step
        return short_product(P, x) + q, x

    return lax.scan(body, first, (P, q), reverse=back)


def by_halves(P: Array, q: Array, first: Array, *, back: bool = True) -> tuple[Array, Array]:
    """As `in_turn` by an associative scan: more work, but only log k rounds of it."""

    def compose(passed: tuple[Array, Array], next_: tuple[Array, Array]) -> tuple[Array, Array]:
        (P2, q2), (P1, q1) = passed, next_
        return P1 @ P2, jnp.einsum("kij,kj->ki", P1, q2) + q1

    P, q = lax.associative_scan(compose, (P, q), reverse=back)
    left = jnp.einsum("kij,j->ki", P, first) + q
    if back:
        return left[0], jnp.concatenate([left[1:], first[None]])
    return left[-1], jnp.concatenate([first[None], left[:-1]])


@final
class FactoredSteps(AbstractRecurrence):
    """One solve a step in turn instead of n: for large n, or an iterative solver."""

    chunk: LinearizedChunk
    factors: Any

    def run(self, first: Array, given: Entering, *, back: bool) -> Passed:
        dynamic, static = eqx.partition((self.chunk.steps, self.factors), eqx.is_array)

        def body(x: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array]]:
            dynamic, used, given = inputs
            step, factors = eqx.combine(dynamic, static)
            G = step.right_sides(x)
            G = G if given.stages is None else G + given.stages
            V = factors.solve(G)
            return jnp.where(used, step.across(x, V), x) + given.behind, (x, V)

        inputs = (dynamic, self.chunk.used, given)
        last, (entering, V) = lax.scan(body, first, inputs, reverse=back)
        return Passed(last, entering, V)


COMPOSITIONS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "scan": in_turn,
    "associative": by_halves,
}
RECURRENCES: dict[str, Callable[[LinearizedChunk], AbstractRecurrence]] = {
    "scan": lambda chunk: _affine_steps(chunk, in_turn),
    "associative": lambda chunk: _affine_steps(chunk, by_halves),
    "solve": lambda chunk: FactoredSteps(chunk, chunk.factors()),
}
