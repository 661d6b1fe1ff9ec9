"""The backward pass over the accepted steps, chunk by chunk from the last."""

from typing import final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..solvers import AbstractImplicitRungeKutta, stage_system
from ..stages import StageSystem, evaluate_polynomial
from ._linearized_step import linearize
from ._recurrence import RECURRENCES, Chunk
from ._saved_values import StepCotangents
from ._step_record import Step, StepRecord


@final
class StepEquations(eqx.Module):
    """The stage equations of recorded steps.

    `parameters` are the leaves of `(terms, args)` whose cotangents are wanted, `others` the rest.
    """

    solver: AbstractImplicitRungeKutta
    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    def system(self, parameters: PyTree, step: Step) -> StageSystem:
        """The equations of one step."""
        terms, args = eqx.combine(parameters, self.others)
        _, restore = ravel_pytree(self.state)
        tableau, y0 = self.solver.tableau, restore(step.y0)
        return stage_system(tableau, terms, step.t0, step.t1, y0, args)[0]

    def stages(self, step: Step) -> Float[Array, "m n"]:
        """The stage increments: read from the step's polynomial, or else solved for once more."""
        nodes = jnp.asarray(self.solver.tableau.nodes, step.y0.dtype)
        if step.coefficients is not None:
            return evaluate_polynomial(step.coefficients, nodes)
        guess = nodes[:, None] * (step.y1 - step.y0)
        solution = self.solver.solve_fixed_step(self.system(self.parameters, step), guess)
        return jnp.where(solution.converged, solution.Z, jnp.nan)

    def pull(
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
                return system.increments(Z), system.hf0

            return jax.vmap(one)(steps, Z)

        _, pull = jax.vjp(slopes, self.parameters)
        slope_bar = None if slope_bar is None else jnp.where(used[:, None], slope_bar, 0)
        (cotangents,) = pull((jnp.where(used[:, None, None], V, 0), slope_bar))
        # Steps not used repeat the last one, where all is well; but there may be no step at all.
        return jax.tree.map(lambda x: jnp.where(jnp.any(used), x, 0), cotangents)


def backward_sweep(
    equations: StepEquations,
    record: StepRecord,
    cotangents: StepCotangents,
    *,
    chunk_size: int,
    recurrence: str,
) -> tuple[Float[Array, " n"], PyTree]:
    """The cotangents of the initial state and of the parameters.

    The loop runs over as many chunks as hold accepted steps, never over `max_steps`. Under `vmap`
    the lane with the most steps decides; to the others the chunks they do not need change nothing.
    """
    tableau = equations.solver.tableau

    def read(index: Int[Array, " k"]) -> tuple[Step, Array, Chunk]:
        steps = record.take(index)
        Z = jax.vmap(equations.stages)(steps)
        linearized = jax.vmap(
            lambda step, Z: linearize(equations.system(equations.parameters, step), Z)
        )(steps, Z)
        used = index < record.count
        row = jnp.minimum(index, record.t0.size - 1)
        nodes = jnp.where(used[:, None], cotangents.nodes[row], 0)
        p_bar = cotangents.coefficients
        p_bar = None if p_bar is None else jnp.where(used[:, None, None], p_bar[row], 0)
        linear_solver = equations.solver.linear_solver
        return steps, Z, Chunk(linearized, used, nodes, p_bar, linear_solver)

    def body(carry: tuple[Array, Array, PyTree]) -> tuple[Array, Array, PyTree]:
        c, y1_bar, parameters_bar = carry
        steps, Z, chunk = read((c - 1) * chunk_size + jnp.arange(chunk_size))
        y0_bar, V = RECURRENCES[recurrence](chunk, y1_bar)
        slope = None
        if tableau.explicit_first_stage:
            slope = jax.vmap(lambda s, V, p: s.slope_cotangent(V, p))(
                chunk.steps, V, chunk.polynomials
            )
        new = equations.pull(steps, Z, V.reshape(Z.shape), slope, chunk.used)
        return c - 1, y0_bar, jax.tree.map(jnp.add, parameters_bar, new)

    chunks = eqxi.unvmap_max(-(-record.count // chunk_size))
    end = cotangents.nodes[record.count]
    zero = jax.tree.map(jnp.zeros_like, equations.parameters)
    _, y0_bar, parameters_bar = lax.while_loop(
        lambda carry: carry[0] > 0, body, (chunks, end, zero)
    )
    return y0_bar, parameters_bar
