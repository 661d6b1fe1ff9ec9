"""The stage equations of recorded steps, and the cotangents that they give their parameters."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..diffrax_loop import Step
from ..solvers import AbstractImplicitRungeKutta, system_of_terms
from ..stages import StageSystem, evaluate_polynomial
from ._affine_steps import RECURRENCES, Chunk
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

    def parameter_cotangents(
        self,
        steps: Step,
        Z: Float[Array, "k m n"],
        V: Float[Array, "k m n"],
        slope_bar: Float[Array, "k n"] | None,
        used: Bool[Array, " k"],
    ) -> PyTree:
        """The cotangents of the parameters, from those of `h f` at every stage of every step."""

        def slopes(parameters: PyTree) -> tuple[Array, Array | None]:
            def one(step: Step, Z: Array) -> tuple[Array, Array | None]:
                system = self.system(parameters, step)
                increments = system.increments(Z)
                if system.mass is not None:
                    # The stage equations depend on the entries of the mass as well.
                    A_inverse = jnp.asarray(system.tableau.A_inverse, Z.dtype)
                    increments = increments - A_inverse @ system.mass.times(Z)
                return increments, system.hf0

            return jax.vmap(one)(steps, Z)

        _, pull = jax.vjp(slopes, self.parameters)
        slope_bar = None if slope_bar is None else jnp.where(used[:, None], slope_bar, 0)
        return pull((jnp.where(used[:, None, None], V, 0), slope_bar))[0]

    def chunk_cotangents(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k n"],
        polynomials: Float[Array, "k s n"] | None,
        end: Float[Array, " n"],
        recurrence: str,
    ) -> tuple[Float[Array, " n"], PyTree]:
        """One batch of linearized stage equations; the steps are composed by `recurrence`."""
        Z = jax.vmap(self.stages)(steps)
        linearized = jax.vmap(lambda step, Z: linearize(self.system(self.parameters, step), Z))(
            steps, Z
        )
        chunk = Chunk(linearized, used, nodes, polynomials, self.solver.linear_solver)
        start, V = RECURRENCES[recurrence](chunk, end)
        slope = None
        if self.solver.tableau.explicit_first_stage:
            slope = jax.vmap(lambda s, V, p: s.slope_cotangent(V, p))(linearized, V, polynomials)
        return start, self.parameter_cotangents(steps, Z, V.reshape(Z.shape), slope, used)
