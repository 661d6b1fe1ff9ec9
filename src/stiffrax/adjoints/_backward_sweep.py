"""The backward pass over the accepted steps, chunk by chunk from the last."""

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ._linearized_step import linearize
from ._recurrence import RECURRENCES, Chunk
from ._saved_values import StepCotangents
from ._step_equations import StepEquations
from ._step_record import Step, StepRecord


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
