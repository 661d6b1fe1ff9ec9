"""Recorded steps, linearized."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._flat_state import flatten_state
from ..diffrax_loop import Step
from ..linear_algebra import LARGEST_LEFT, refine
from ..solvers import AbstractImplicitRungeKutta, may_be_singular, system_of_terms
from ..stages import StageSystem, evaluate_polynomial, round_products
from ._affine_steps import (
    RECURRENCES,
    Entering,
    LinearizedChunk,
    Passed,
    entering,
)
from ._linearized_step import LinearizedStep, TangentStep, linearize
from ._recorded_steps import (
    AbstractRecordedSteps,
    Chunk,
    Pulled,
    Pushed,
    StepTangents,
    Times,
    at_times,
    times_of,
)


@final
class StepEquations(AbstractRecordedSteps):
    """The stage equations of recorded steps.

    `parameters` are the leaves of `(terms, args)` whose cotangents are wanted, `others` the rest.
    """

    solver: AbstractImplicitRungeKutta
    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    @property
    def terms(self) -> Any:
        """The term of the solve."""
        return eqx.combine(self.parameters, self.others)[0]

    @property
    def num_powers(self) -> int:
        """The degree of the collocation polynomial."""
        return self.solver.tableau.polynomial.shape[1]

    @property
    def is_sparse(self) -> bool:
        """Whether the structure of the solver has a pattern."""
        return self.solver.structure is not None and self.solver.structure.has_pattern

    def system(self, parameters: PyTree, step: Step) -> StageSystem:
        """The equations of one step."""
        terms, args = eqx.combine(parameters, self.others)
        _, restore = flatten_state(self.state)
        tableau, y0 = self.solver.tableau, restore(step.y0)
        return system_of_terms(tableau, terms, step.t0, step.t1, y0, args)[0]

    def stages(self, step: Step) -> Float[Array, "m n"]:
        """The stage increments: read from the step's polynomial, or else solved for once more."""
        nodes = jnp.asarray(self.solver.tableau.nodes, step.y0.dtype)
        if step.coefficients is not None:
            return evaluate_polynomial(step.coefficients, nodes)
        guess = nodes[:, None] * (step.y1 - step.y0)[None]
        solution = self.solver.solve_fixed_step(self.system(self.parameters, step), guess)
        return jnp.where(solution.converged, solution.Z, jnp.nan)

    def _equations(self, steps: Step) -> Callable[..., tuple[Array, Array | None]]:
        """`-R` at every stage, and `h f_0`, as a function of all but the starts of the steps.

        By the user's field itself, not by its Jacobian, whose entries are rounded: of two fast
        reactions, one the reverse of the other, little else is left in the sum than what those
        entries have lost.
        """

        def equations(parameters: PyTree, times: Times, Z: Array) -> tuple[Array, Array | None]:
            def one(step: Step, Z: Array) -> tuple[Array, Array | None]:
                system = self.system(parameters, step)
                return -system.residual(Z), system.hf0

            return jax.vmap(one)(at_times(steps, times), Z)

        return equations

    def _linearized(self, steps: Step) -> tuple[Float[Array, "k m n"], LinearizedStep]:
        Z = jax.vmap(self.stages)(steps)

        def one(step: Step, Z: Array) -> LinearizedStep:
            return linearize(self.system(self.parameters, step), Z, self.solver.structure)

        return Z, jax.vmap(one)(steps, Z)

    def _to_solve(self, chunk: Chunk, steps: LinearizedStep | TangentStep) -> LinearizedChunk:
        """The equations of a chunk, but for steps of no length where a singular mass leaves them
        without an inverse: such a step passes on what it gets."""
        has_length = chunk.steps.t1 != chunk.steps.t0
        solvable = chunk.used & (has_length | (not may_be_singular(self.terms)))
        return LinearizedChunk(steps, solvable, self.solver.exact_linear_solver)

    def pushed(
        self,
        chunk: Chunk,
        start: Float[Array, " n"],
        along: StepTangents,
        *,
        interior: bool,
    ) -> Pushed:
        """One batch of linearized stage equations, whose solution is corrected."""
        steps, still = chunk.steps, jax.tree.map(jnp.zeros_like, along)
        Z, transposed = self._linearized(steps)
        tangent = TangentStep.of(transposed)
        equations = self._to_solve(chunk, tangent)
        times = times_of(steps, wanted=along.times is not None)
        _, push = jax.linearize(self._equations(steps), self.parameters, times, Z)
        rounded = round_products(lambda _, *tangents: push(*tangents))

        def left_by(U: Array, along: StepTangents) -> tuple[Array, Array | None]:
            U = U.reshape(Z.shape)
            residual, slope = rounded(steps.t0[0], along.parameters, along.times, U)
            return equations.where_used(residual.reshape(len(U), -1)), slope

        sources, slope = left_by(jnp.zeros_like(Z), along)
        run = ft.partial(RECURRENCES[chunk.recurrence](equations).run, back=False)
        behind = jnp.zeros((len(Z), start.size), start.dtype)
        passed = run(start, Entering(sources, behind))
        rest = left_by(passed.stages, along)[0] + equations.right_sides(passed.entering)
        first = _Solved(passed.last, passed.stages, passed.entering, equations.where_used(rest))

        def follow(change: Passed) -> tuple[Array, Array]:
            return change.entering, left_by(change.stages, still)[0]

        end, U, starts, _ = _corrected(equations, run, follow, first, sources)
        polynomials = None
        if interior:
            U = U.reshape(Z.shape)
            polynomials = jax.vmap(lambda step, *x: step.polynomial(*x))(tangent, starts, U, slope)
            polynomials = jnp.where(equations.used[:, None, None], polynomials, 0)
        return jnp.concatenate([starts, end[None]]), polynomials

    def pulled(
        self,
        chunk: Chunk,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        *,
        times: bool,
    ) -> Pulled:
        """One batch of transposed stage equations, whose solution is corrected.

        Solution and corrections are pulled to the parameters apart: their sum would round what the
        corrections hold.
        """
        steps = chunk.steps
        Z, linearized = self._linearized(steps)
        equations = self._to_solve(chunk, linearized)
        at = self.parameters, times_of(steps, wanted=times), Z
        _, pull = jax.vjp(self._equations(steps), *at)
        rounded = round_products(lambda _, *cotangents: pull(cotangents))

        def pulled_to(V: Array, slope_bar: Array | None) -> tuple[Any, Array]:
            V = equations.where_used(V).reshape(Z.shape)
            *by, Z_bar = rounded(steps.t0[0], V, slope_bar)
            return by, Z_bar.reshape(len(Z), -1)

        run = ft.partial(RECURRENCES[chunk.recurrence](equations).run, back=True)
        given = entering(equations, nodes[:-1], polynomials)
        passed = run(nodes[-1], given)
        G = equations.right_sides(passed.entering)
        G = G if given.stages is None else G + given.stages
        slope_bar = None
        if self.solver.tableau.explicit_first_stage:
            slope_bar = jnp.zeros_like(nodes[:-1])
            if polynomials is not None:
                slope_bar = jax.vmap(LinearizedStep.slope_from_polynomial)(linearized, polynomials)
        by, Z_bar = pulled_to(passed.stages, slope_bar)
        first = _Solved(passed.last, passed.stages, by, equations.where_used(G + Z_bar))
        no_slope = jax.tree.map(jnp.zeros_like, slope_bar)

        def follow(change: Passed) -> tuple[Any, Array]:
            return pulled_to(change.stages, no_slope)

        start, _, by, _ = _corrected(equations, run, follow, first, G)
        return start, StepTangents(*by)


@final
class _Solved(NamedTuple):
    """What leaves the last step passed, all stages, what else is wanted that is linear in them, and
    what they leave of the equations."""

    last: Float[Array, " n"]
    stages: Float[Array, "k mn"]
    wanted: Any
    rest: Float[Array, "k mn"]


def _corrected(
    equations: LinearizedChunk,
    run: Callable[[Float[Array, " n"], Entering], Passed],
    follow: Callable[[Passed], tuple[Any, Float[Array, "k mn"]]],
    solved: _Solved,
    G: Float[Array, "k mn"],
) -> _Solved:
    """Solves once more for what a solution leaves, and again where a pattern has left something out,
    until that is rounding; no number where it does not become so.

    - `run`: the recurrence in one direction; `G`: what enters at the stages.
    - `follow`: what a correction adds to what is wanted, and its stages to what is left.
    """

    def correct(solved: _Solved) -> _Solved:
        last, stages, wanted, rest = solved
        behind = jnp.zeros((len(rest), last.size), rest.dtype)
        change = run(jnp.zeros_like(last), Entering(rest, behind))
        more, added = follow(change)
        rest = equations.where_used(rest + added + equations.right_sides(change.entering))
        wanted = jax.tree.map(jnp.add, wanted, more)
        return _Solved(last + change.last, stages + change.stages, wanted, rest)

    def left(solved: _Solved) -> Array:
        return equations.left(solved.rest, solved.stages, G)

    solved = correct(solved)
    if not equations.is_sparse:
        return solved
    solved, size = refine(correct, left, solved)
    return jax.tree.map(lambda x: jnp.where(size <= LARGEST_LEFT, x, jnp.nan), solved)
