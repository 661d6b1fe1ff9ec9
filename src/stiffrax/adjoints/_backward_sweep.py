"""The backward pass over the accepted steps, chunk by chunk from the last."""

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from ..diffrax_loop import StepRecord
from ._recorded_steps import AbstractRecordedSteps
from ._saved_values import StepCotangents


def backward_sweep(
    steps: AbstractRecordedSteps,
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

    def body(carry: tuple[Array, Array, PyTree]) -> tuple[Array, Array, PyTree]:
        c, y1_bar, parameters_bar = carry
        index = (c - 1) * chunk_size + jnp.arange(chunk_size)
        used, row = index < record.count, jnp.minimum(index, record.t0.size - 1)
        nodes = jnp.where(used[:, None], cotangents.nodes[row], 0)
        p_bar = cotangents.coefficients
        p_bar = None if p_bar is None else jnp.where(used[:, None, None], p_bar[row], 0)
        y0_bar, new = steps.chunk_cotangents(
            record.take(index), used, nodes, p_bar, y1_bar, recurrence
        )
        # Steps not used repeat the last one, where all is well; but there may be no step at all.
        new = jax.tree.map(lambda x: jnp.where(jnp.any(used), x, 0), new)
        return c - 1, y0_bar, jax.tree.map(jnp.add, parameters_bar, new)

    chunks = eqxi.unvmap_max(-(-record.count // chunk_size))
    end = cotangents.nodes[record.count]
    zero = jax.tree.map(jnp.zeros_like, steps.parameters)
    _, y0_bar, parameters_bar = lax.while_loop(
        lambda carry: carry[0] > 0, body, (chunks, end, zero)
    )
    return y0_bar, parameters_bar
