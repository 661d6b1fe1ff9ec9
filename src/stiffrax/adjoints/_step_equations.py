"""The stage equations of recorded steps, and the cotangents that they give their parameters."""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..diffrax_loop import Step
from ..solvers import AbstractImplicitRungeKutta, system_of_terms
from ..stages import StageSystem, evaluate_polynomial, round_products
from ._affine_steps import RECURRENCES, Chunk, Entering, entering
from ._linearized_step import linearize
from ._recorded_steps import AbstractRecordedSteps


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

    def system(self, parameters: PyTree, step: Step) -> StageSystem:
        """The equations of one step."""
        terms, args = eqx.combine(parameters, self.others)
        _, restore = ravel_pytree(self.state)
        tableau, y0 = self.solver.tableau, restore(step.y0)
        return system_of_terms(tableau, terms, step.t0, step.t1, y0, args)[0]

    def stages(self, step: Step) -> Float[Array, "m n"]:
        """The stage increments: read from the step's polynomial, or else solved for once more."""
        nodes = jnp.asarray(self.solver.tableau.nodes, step.y0.dtype)
        if step.coefficients is not None:
            return evaluate_polynomial(step.coefficients, nodes)
        guess = nodes[:, None] * (step.y1 - step.y0)
        solution = self.solver.solve_fixed_step(self.system(self.parameters, step), guess)
        return jnp.where(solution.converged, solution.Z, jnp.nan)

    def pull(self, steps: Step, Z: Float[Array, "k m n"]) -> Callable[[Array, Array | None], Any]:
        """Pulls cotangents of `-R` at every stage, and of `h f_0`, to the parameters and to `Z`.

        By the user's field itself, not by its Jacobian, whose entries are rounded: of two fast
        reactions, one the reverse of the other, little else is left in the sum than what those
        entries have lost.
        """

        def equations(parameters: PyTree, Z: Array) -> tuple[Array, Array | None]:
            def one(step: Step, Z: Array) -> tuple[Array, Array | None]:
                system = self.system(parameters, step)
                return -system.residual(Z), system.hf0

            return jax.vmap(one)(steps, Z)

        _, pull = jax.vjp(equations, self.parameters, Z)
        rounded = round_products(lambda _, *cotangents: pull(cotangents))
        return ft.partial(rounded, steps.t0[0])

    def chunk_cotangents(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k n"],
        polynomials: Float[Array, "k s n"] | None,
        end: Float[Array, " n"],
        recurrence: str,
    ) -> tuple[Float[Array, " n"], PyTree]:
        """One batch of linearized stage equations; the steps are composed by `recurrence`.

        What the solution leaves of the equations is solved for once more, and both are pulled to
        the parameters apart: their sum would round what the second one holds.
        """
        Z = jax.vmap(self.stages)(steps)
        linearized = jax.vmap(lambda step, Z: linearize(self.system(self.parameters, step), Z))(
            steps, Z
        )
        chunk = Chunk(linearized, used, self.solver.linear_solver)
        equations, given = RECURRENCES[recurrence](chunk), entering(chunk, nodes, polynomials)
        start, ends, V = equations.back(end, given)
        G = chunk.from_end(ends)
        G = G if given.stages is None else G + given.stages
        slope_bar = None
        if self.solver.tableau.explicit_first_stage:
            slope_bar = jnp.zeros_like(nodes)
            if polynomials is not None:
                slope_bar = jax.vmap(lambda s, p: s.slope_from_polynomial(p))(
                    linearized, polynomials
                )
        pull = self.pull(steps, Z)

        def pulled(V: Array, slope_bar: Array | None) -> tuple[PyTree, Array]:
            return pull(jnp.where(used[:, None, None], V.reshape(Z.shape), 0), slope_bar)

        by_solution, Z_bar = pulled(V, slope_bar)
        residual = jnp.where(used[:, None], G + Z_bar.reshape(G.shape), 0)
        change, _, correction = equations.back(
            jnp.zeros_like(end), Entering(residual, jnp.zeros_like(nodes))
        )
        by_correction, _ = pulled(correction, jax.tree.map(jnp.zeros_like, slope_bar))
        return start + change, jax.tree.map(jnp.add, by_solution, by_correction)
