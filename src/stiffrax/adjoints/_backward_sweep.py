"""The backward pass over the accepted steps, chunk by chunk from the last."""

import functools
from collections.abc import Callable
from typing import final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..diffrax_loop import Step, StepRecord
from ._linearized_step import (
    Blocks,
    LinearizedStep,
    linearize,
    solve_all,
    solve_mass_columns,
    stacked,
    stacked_mass_matrices,
    stacked_matrix,
)
from ._saved_values import StepCotangents
from ._step_equations import StepEquations


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


def _over_chunks(
    pull_chunk: Callable[..., tuple[Array, PyTree]],
    parameters: PyTree,
    record: StepRecord,
    cotangents: StepCotangents,
    chunk_size: int,
) -> tuple[Float[Array, " n"], PyTree]:
    """The cotangents of the initial state and of the parameters.

    The loop runs over as many chunks as hold accepted steps, never over `max_steps`. Under `vmap`
    the lane with the most steps decides; to the others the chunks they do not need change nothing.
    `pull_chunk(steps, used, nodes, polynomials, end)` gives those of one chunk.
    """

    def body(carry: tuple[Array, Array, PyTree]) -> tuple[Array, Array, PyTree]:
        c, y1_bar, parameters_bar = carry
        index = (c - 1) * chunk_size + jnp.arange(chunk_size)
        used, row = index < record.count, jnp.minimum(index, record.t0.size - 1)
        nodes = jnp.where(used[:, None], cotangents.nodes[row], 0)
        p_bar = cotangents.coefficients
        p_bar = None if p_bar is None else jnp.where(used[:, None, None], p_bar[row], 0)
        y0_bar, new = pull_chunk(record.take(index), used, nodes, p_bar, y1_bar)
        # Steps not used repeat the last one, where all is well; but there may be no step at all.
        new = jax.tree.map(lambda x: jnp.where(jnp.any(used), x, 0), new)
        return c - 1, y0_bar, jax.tree.map(jnp.add, parameters_bar, new)

    chunks = eqxi.unvmap_max(-(-record.count // chunk_size))
    end = cotangents.nodes[record.count]
    zero = jax.tree.map(jnp.zeros_like, parameters)
    _, y0_bar, parameters_bar = lax.while_loop(
        lambda carry: carry[0] > 0, body, (chunks, end, zero)
    )
    return y0_bar, parameters_bar


def backward_sweep(
    equations: StepEquations,
    record: StepRecord,
    cotangents: StepCotangents,
    *,
    chunk_size: int,
    recurrence: str,
) -> tuple[Float[Array, " n"], PyTree]:
    """The cotangents of the initial state and of the parameters."""
    solver = equations.solver

    def pull_chunk(
        steps: Step, used: Array, nodes: Array, p_bar: Array | None, end: Array
    ) -> tuple[Array, PyTree]:
        Z = jax.vmap(equations.stages)(steps)
        linearized = jax.vmap(
            lambda step, Z: linearize(equations.system(equations.parameters, step), Z)
        )(steps, Z)
        chunk = Chunk(linearized, used, nodes, p_bar, solver.linear_solver)
        start, V = RECURRENCES[recurrence](chunk, end)
        slope = None
        if solver.tableau.explicit_first_stage:
            slope = jax.vmap(lambda s, V, p: s.slope_cotangent(V, p))(linearized, V, p_bar)
        return start, equations.pull(steps, Z, V.reshape(Z.shape), slope, used)

    return _over_chunks(pull_chunk, equations.parameters, record, cotangents, chunk_size)


@final
class StepMaps(eqx.Module):
    """Steps as maps of their start and of `(terms, args, solver)`.

    `parameters` are the leaves whose cotangents are wanted, `others` the rest. Through the maps,
    not through the stage equations, since those of the explicit kind have no inverse of `A`.
    """

    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    def step(
        self, parameters: PyTree, step: Step, y0: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, "p n"]]:
        """The end of a step, and the polynomial within it."""
        terms, args, solver = eqx.combine(parameters, self.others)
        _, restore = ravel_pytree(self.state)
        y1, _, dense_info, _, _ = solver.step(
            terms, step.t0, step.t1, restore(y0), args, None, False
        )
        flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])
        return ravel_pytree(y1)[0], flat(dense_info["coefficients"])


def sweep_step_maps(
    maps: StepMaps, record: StepRecord, cotangents: StepCotangents, *, chunk_size: int
) -> tuple[Float[Array, " n"], PyTree]:
    """The cotangents of the initial state and of the parameters.

    In a batch over the steps of a chunk: their solution, its derivative for all unit cotangents of
    the end (which make the step an affine map), and at last the sum for the parameters.
    """
    pull_chunk = functools.partial(_pull_maps, maps)
    return _over_chunks(pull_chunk, maps.parameters, record, cotangents, chunk_size)


def _pull_maps(
    maps: StepMaps, steps: Step, used: Array, nodes: Array, p_bar: Array | None, end: Array
) -> tuple[Array, PyTree]:
    """From the cotangent of the end of the last step to that of the start of the first."""
    n = nodes.shape[1]

    def ends(parameters: PyTree, y0: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda step, y: maps.step(parameters, step, y))(steps, y0)

    (y1, p), pull = jax.vjp(ends, maps.parameters, steps.y0)
    p_bar = jnp.zeros_like(p) if p_bar is None else p_bar

    def pull_unit(unit: Array) -> Array:
        return pull((jnp.broadcast_to(unit, y1.shape), jnp.zeros_like(p)))[1]

    identity = jnp.eye(n, dtype=y1.dtype)
    # Rows of P are indexed by the unit cotangents, after the steps.
    P = jnp.where(used[:, None, None], jax.vmap(pull_unit, out_axes=1)(identity), identity)
    q = pull((jnp.zeros_like(y1), p_bar))[1]
    q = jnp.where(used[:, None], q, 0) + nodes

    def before(y1_bar: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        P, q = step
        return y1_bar @ P + q, y1_bar

    start, y1_bars = lax.scan(before, end, (P, q), reverse=True)
    return start, pull((jnp.where(used[:, None], y1_bars, 0), p_bar))[0]
