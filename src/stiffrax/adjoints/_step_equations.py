"""Recorded steps, linearized."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._flat_state import flatten_state
from ..diffrax_loop import Step
from ..linear_algebra import LARGEST_LEFT, refine
from ..solvers import AbstractImplicitRungeKutta, may_be_singular, system_of_terms
from ..stages import StageSystem, evaluate_polynomial, round_products
from ._affine_steps import RECURRENCES, Chunk, Entering, entering
from ._linearized_step import LinearizedStep, linearize
from ._recorded_steps import AbstractRecordedSteps, StepTangents
from ._tangent_step import TangentStep


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

        def equations(parameters: PyTree, times: Any, Z: Array) -> tuple[Array, Array | None]:
            def one(step: Step, Z: Array) -> tuple[Array, Array | None]:
                system = self.system(parameters, step)
                return -system.residual(Z), system.hf0

            t0, t1 = (steps.t0, steps.t1) if times is None else times
            return jax.vmap(one)(replace(steps, t0=t0, t1=t1), Z)

        return equations

    def _linearized(self, steps: Step) -> tuple[Float[Array, "k m n"], LinearizedStep]:
        Z = jax.vmap(self.stages)(steps)

        def one(step: Step, Z: Array) -> LinearizedStep:
            return linearize(self.system(self.parameters, step), Z, self.solver.structure)

        return Z, jax.vmap(one)(steps, Z)

    def _solvable(self, steps: Step, used: Bool[Array, " k"]) -> Bool[Array, " k"]:
        """The steps but those of no length where a singular mass leaves them without an inverse.

        Such a step passes on what it gets.
        """
        return used & ((steps.t1 != steps.t0) | (not may_be_singular(self.terms)))

    def pushed(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        start: Float[Array, " n"],
        along: StepTangents,
        recurrence: str,
        *,
        interior: bool,
    ) -> tuple[Float[Array, "k_plus_1 n"], Float[Array, "k s n"] | None]:
        """One batch of linearized stage equations; the steps are composed by `recurrence`.

        What the solution leaves of the equations is solved for once more, and again where a pattern
        has left something out, until it is rounding.
        """
        used = self._solvable(steps, used)
        Z, linearized = self._linearized(steps)
        tangent = TangentStep.of(linearized)
        chunk = Chunk(tangent, used, self.solver.exact_linear_solver)
        equations = RECURRENCES[recurrence](chunk)
        at = self.parameters, None if along.times is None else (steps.t0, steps.t1)
        _, push = jax.linearize(self._equations(steps), *at, Z)
        rounded = round_products(lambda _, *tangents: push(*tangents))

        def pushed(U: Array, along: StepTangents) -> tuple[Array, Array | None]:
            residual, slope = rounded(steps.t0[0], along.parameters, along.times, U)
            return jnp.where(used[:, None], residual.reshape(len(U), -1), 0), slope

        still, nothing = jnp.zeros((len(Z), start.size), start.dtype), jnp.zeros_like(start)
        sources, slope = pushed(jnp.zeros_like(Z), along)
        no_sources = jax.tree.map(jnp.zeros_like, along)

        def right_sides(starts: Array) -> Array:
            return jnp.where(used[:, None], chunk.right_sides(starts), 0)

        def corrected(state: tuple) -> tuple:
            (end, starts, U), rest = state
            change = equations.run(nothing, Entering(rest, still), back=False)
            left = pushed(change[2].reshape(Z.shape), no_sources)[0]
            rest = rest + left + right_sides(change[1])
            return (end + change[0], starts + change[1], U + change[2]), rest

        solution = equations.run(start, Entering(sources, still), back=False)
        rest = pushed(solution[2].reshape(Z.shape), along)[0] + right_sides(solution[1])
        state = corrected((solution, rest))
        if chunk.is_sparse:
            state, size = refine(corrected, lambda s: chunk.left(s[1], s[0][2], sources), state)
            state = jax.tree.map(lambda x: jnp.where(size <= LARGEST_LEFT, x, jnp.nan), state)
        (end, starts, U), _ = state
        polynomials = None
        if interior:
            U = U.reshape(Z.shape)
            polynomials = jax.vmap(lambda step, *x: step.polynomial(*x))(tangent, starts, U, slope)
            polynomials = jnp.where(used[:, None, None], polynomials, 0)
        return jnp.concatenate([starts, end[None]]), polynomials

    def pulled(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        recurrence: str,
        *,
        times: bool,
    ) -> tuple[Float[Array, " n"], StepTangents]:
        """One batch of transposed stage equations; the steps are composed by `recurrence`.

        What the solution leaves of the equations is solved for once more, and again where a pattern
        has left something out. Each is pulled to the parameters apart: their sum would round what
        the second one holds.
        """
        used = self._solvable(steps, used)
        Z, linearized = self._linearized(steps)
        chunk = Chunk(linearized, used, self.solver.exact_linear_solver)
        nodes, end = nodes[:-1], nodes[-1]
        equations, given = RECURRENCES[recurrence](chunk), entering(chunk, nodes, polynomials)
        start, ends, V = equations.run(end, given, back=True)
        G = chunk.right_sides(ends)
        G = G if given.stages is None else G + given.stages
        slope_bar = None
        if self.solver.tableau.explicit_first_stage:
            slope_bar = jnp.zeros_like(nodes)
            if polynomials is not None:
                slope_bar = jax.vmap(lambda s, p: s.slope_from_polynomial(p))(
                    linearized, polynomials
                )
        at = self.parameters, (steps.t0, steps.t1) if times else None
        _, pull = jax.vjp(self._equations(steps), *at, Z)
        rounded = round_products(lambda _, *cotangents: pull(cotangents))

        def pulled(V: Array, slope_bar: Array | None) -> tuple[PyTree, Any, Array]:
            V = jnp.where(used[:, None, None], V.reshape(Z.shape), 0)
            return rounded(steps.t0[0], V, slope_bar)

        still, no_slope = jnp.zeros_like(nodes), jax.tree.map(jnp.zeros_like, slope_bar)

        def corrected(state: tuple) -> tuple:
            start, V, by, rest = state
            change, ends, correction = equations.run(
                jnp.zeros_like(end), Entering(rest, still), back=True
            )
            *more, Z_bar = pulled(correction, no_slope)
            rest = rest + Z_bar.reshape(rest.shape) + chunk.right_sides(ends)
            by = jax.tree.map(jnp.add, by, more)
            return start + change, V + correction, by, jnp.where(used[:, None], rest, 0)

        *by, Z_bar = pulled(V, slope_bar)
        rest = jnp.where(used[:, None], G + Z_bar.reshape(G.shape), 0)
        state = corrected((start, V, by, rest))
        if chunk.is_sparse:
            state, size = refine(corrected, lambda s: chunk.left(s[3], s[1], G), state)
            state = jax.tree.map(lambda x: jnp.where(size <= LARGEST_LEFT, x, jnp.nan), state)
        start, _, by, _ = state
        return start, StepTangents(*by)
