"""Linearized steps as affine maps of the cotangents of their ends, composed in three ways."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Bool, Float

from ._linearized_step import (
    Blocks,
    LinearizedStep,
    solve_all,
    solve_mass_columns,
    stacked,
    stacked_mass_matrices,
    stacked_matrix,
)


@final
class Chunk(eqx.Module):
    """Consecutive steps and the cotangents that enter at each, in order of time.

    - `used`: where not, a step only passes on what it gets.
    - `nodes`: of the states at the starts of the steps.
    - `polynomials`: of the polynomials of the steps, if anything there was saved.
    - `linear_solver`: for the equations of each step; `None` takes the fastest for small ones.
    """

    steps: LinearizedStep
    used: Bool[Array, " k"]
    nodes: Float[Array, "k n"]
    polynomials: Float[Array, "k s n"] | None
    linear_solver: lx.AbstractLinearSolver | None


@final
class AffineSteps(eqx.Module):
    r"""Steps of the adjoint as affine maps of the cotangents `y1_bar` of their ends:

    $$\bar y_0 = P \bar y_1 + q, \qquad V = W \bar y_1 + v.$$
    """

    P: Float[Array, "k n n"]
    q: Float[Array, "k n"]
    W: Float[Array, "k mn n"]
    v: Float[Array, "k mn"] | float

    def stages(self, y1_bar: Float[Array, "k n"]) -> Float[Array, "k mn"]:
        """`V` above."""
        return jnp.einsum("kij,kj->ki", self.W, y1_bar) + self.v


def _solve_columns(chunk: Chunk, rhs: tuple[Blocks, ...]) -> Float[Array, "k mn r"]:
    solver, tableau, hJ_T = chunk.linear_solver, chunk.steps.tableau, chunk.steps.hJ_T
    if solver is None and chunk.steps.M_T is None:
        return solve_all(tableau, hJ_T, rhs, chunk.used)
    if solver is None:
        return solve_mass_columns(chunk.steps, stacked(rhs))

    def solve(matrix: Array, G: Array) -> Array:
        state = solver.init(lx.MatrixLinearOperator(matrix), {})
        return jax.vmap(lambda g: solver.compute(state, g, {})[0], -1, -1)(G)

    return jax.vmap(solve)(_stacked_matrix(chunk.steps), stacked(rhs))


def _stacked_matrix(steps: LinearizedStep) -> Float[Array, "k mn mn"]:
    if steps.M_T is None:
        return stacked_matrix(steps.tableau, steps.hJ_T)
    return stacked_mass_matrices(steps)


def _unit_ends(chunk: Chunk) -> Blocks:
    """`d_i` times the identity; none where `d_i` is zero, at all stages but the last mostly."""
    k, n = chunk.nodes.shape
    identity = jnp.broadcast_to(jnp.eye(n, dtype=chunk.nodes.dtype), (k, n, n))
    return tuple(d * identity if d else None for d in chunk.steps.tableau.d.tolist())


def affine_steps(chunk: Chunk) -> AffineSteps:
    """Solves every step for all unit cotangents of its end, and for those of its polynomial."""
    n, p_bar = chunk.nodes.shape[1], chunk.polynomials
    identity = jnp.eye(n, dtype=chunk.nodes.dtype)
    rhs, G = (_unit_ends(chunk),), None
    if p_bar is not None:
        G = jax.vmap(lambda step, p: step.from_polynomial(p))(chunk.steps, p_bar)
        columns = jnp.moveaxis(G.reshape(len(G), -1, n, 1), 1, 0)
        rhs = (*rhs, tuple(columns))
    V = _solve_columns(chunk, rhs)
    W = V[..., :n]
    P = jax.vmap(lambda s, V: s.start_cotangent(identity, s.from_end(identity), V, None))(
        chunk.steps, W
    )
    P = jnp.where(chunk.used[:, None, None], P, identity)
    if p_bar is None:
        return AffineSteps(P, chunk.nodes, W, 0.0)
    v = V[..., n]
    q = jax.vmap(lambda s, G, V, p: s.start_cotangent(jnp.zeros(n, V.dtype), G, V, p))(
        chunk.steps, G, v, p_bar
    )
    return AffineSteps(P, jnp.where(chunk.used[:, None], q, 0) + chunk.nodes, W, v)


def in_turn(chunk: Chunk, end: Float[Array, " n"]) -> tuple[Array, Float[Array, "k mn"]]:
    """The cotangents of the first start and of all stages: one product a step, last step first."""
    maps = affine_steps(chunk)

    def body(y1_bar: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        P, q = step
        return P @ y1_bar + q, y1_bar

    start, ends = lax.scan(body, end, (maps.P, maps.q), reverse=True)
    return start, maps.stages(ends)


def by_halves(chunk: Chunk, end: Float[Array, " n"]) -> tuple[Array, Float[Array, "k mn"]]:
    """As `in_turn` by an associative scan: more work, but only log k rounds of it."""
    maps = affine_steps(chunk)

    def compose(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (P2, q2), (P1, q1) = later, earlier
        return P1 @ P2, jnp.einsum("kij,kj->ki", P1, q2) + q1

    P, q = lax.associative_scan(compose, (maps.P, maps.q), reverse=True)
    starts = jnp.einsum("kij,j->ki", P, end) + q
    ends = jnp.concatenate([starts[1:], end[None]])
    return starts[0], maps.stages(ends)


def by_solving(chunk: Chunk, end: Float[Array, " n"]) -> tuple[Array, Float[Array, "k mn"]]:
    """As `in_turn` with one solve a step instead of n: for large n, or an iterative solver."""
    solver = lx.LU() if chunk.linear_solver is None else chunk.linear_solver
    factors = jax.vmap(lambda matrix: solver.init(lx.MatrixLinearOperator(matrix), {}))(
        _stacked_matrix(chunk.steps)
    )
    dynamic, static = eqx.partition((chunk.steps, factors), eqx.is_array)

    def body(y1_bar: Array, inputs: tuple) -> tuple[Array, Array]:
        dynamic, used, node, p_bar = inputs
        step, factors = eqx.combine(dynamic, static)
        G = step.from_end(y1_bar)
        if p_bar is not None:
            G = G + step.from_polynomial(p_bar)
        V, _, _ = solver.compute(factors, G, {})
        start = step.start_cotangent(y1_bar, G, V, p_bar)
        return jnp.where(used, start, y1_bar) + node, V

    inputs = (dynamic, chunk.used, chunk.nodes, chunk.polynomials)
    return lax.scan(body, end, inputs, reverse=True)


RECURRENCES = {"scan": in_turn, "associative": by_halves, "solve": by_solving}
