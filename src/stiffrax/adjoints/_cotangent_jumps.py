"""Jumps of a continuous adjoint."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from .._flat_state import flatten_state
from ..diffrax_loop import StepRecord
from ._saved_values import SavedPlaces


@final
class CotangentJumps(eqx.Module):
    """Jumps at the ends of recorded steps, and between them.

    `nodes[k]` belongs to the start of step `k`, which is the end of step `k - 1`. The others are
    in rows, the latest first: in which step and at what fraction of it, and by what; `count` rows
    are filled.
    """

    nodes: Float[Array, "steps_plus_1 n"]
    step: Int[Array, " slots"]
    fraction: Shaped[Array, " slots"]
    values: Float[Array, "slots n"]
    count: Int[Array, ""]

    def within(self, step: Int[Array, ""], index: Int[Array, ""]) -> tuple[Array, Array]:
        """Fraction and value of jump `index` if it is in `step`; else the start of it and zero."""
        row = jnp.minimum(index, self.step.size - 1)
        exists = (index < self.count) & (self.step[row] == step)
        return jnp.where(exists, self.fraction[row], 0), jnp.where(exists, self.values[row], 0)


def cotangent_jumps(
    record: StepRecord, places: list[SavedPlaces], cotangents: list[Float[Array, "_ n"]]
) -> CotangentJumps:
    """Sorts the cotangents of all saved states by time, and adds up those of equal times."""
    y, _ = flatten_state(record.y_end)
    nodes = jnp.zeros((record.t1.size + 1, y.size), y.dtype)
    # One row that nothing fills: there may be no other.
    all_ts, all_values = [jnp.full(1, -jnp.inf, record.t0.dtype)], [jnp.zeros((1, y.size), y.dtype)]
    for place, ys_bar in zip(places, cotangents, strict=True):
        k, fraction = jnp.maximum(place.step, 0), place.fraction
        between = place.filled & (fraction > 0) & (fraction < 1)
        at_node = jnp.where((place.filled & ~between)[:, None], ys_bar, 0)
        nodes = nodes.at[k + (fraction >= 1).astype(k.dtype)].add(at_node)
        if place.interior:
            all_ts.append(jnp.where(between, place.ts, -jnp.inf))
            all_values.append(jnp.where(between[:, None], ys_bar, 0))
    ts, values = jnp.concatenate(all_ts), jnp.concatenate(all_values)
    order = jnp.argsort(-ts)
    ts, values = ts[order], values[order]
    is_new = jnp.concatenate([jnp.ones(1, bool), ts[1:] < ts[:-1]])
    row = jnp.cumsum(is_new) - 1
    values = jax.ops.segment_sum(values, row, ts.size)
    merged = jnp.full(ts.size, -jnp.inf, ts.dtype).at[row].set(ts)
    step, fraction = record.place(merged)
    return CotangentJumps(nodes, step, fraction, values, jnp.sum(jnp.isfinite(merged)))
