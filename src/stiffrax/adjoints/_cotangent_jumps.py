"""Where the continuous adjoint jumps: at the times at which a loss looks at the solution."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ._saved_values import SavedCotangents


@final
class CotangentJumps(eqx.Module):
    """Cotangents of saved states, the latest first, one row a time; `count` rows are filled."""

    ts: Shaped[Array, " slots"]
    values: Float[Array, "slots n"]
    count: Int[Array, ""]

    def at(self, index: Int[Array, ""], start: Shaped[Array, ""]) -> tuple[Array, Array]:
        """Time and value of a jump; after the last, the start of the solve and zero."""
        row, exists = jnp.minimum(index, self.ts.size - 1), index < self.count
        return jnp.where(exists, self.ts[row], start), jnp.where(exists, self.values[row], 0)


def cotangent_jumps(saved: list[SavedCotangents]) -> CotangentJumps:
    """Sorts the cotangents of all saved states by time, and adds up those of equal times."""
    ts = jnp.concatenate([jnp.where(one.filled, one.ts, -jnp.inf) for one in saved])
    values = jnp.concatenate([one.ys_bar for one in saved])
    order = jnp.argsort(-ts)
    ts, values = ts[order], values[order]
    is_new = jnp.concatenate([jnp.ones(1, bool), ts[1:] < ts[:-1]])
    row = jnp.cumsum(is_new) - 1
    filled = jnp.isfinite(ts)
    slots = ts.size
    values = jax.ops.segment_sum(jnp.where(filled[:, None], values, 0), row, slots)
    return CotangentJumps(
        jnp.full(slots, -jnp.inf, ts.dtype).at[row].set(ts),
        values,
        jnp.sum(is_new & filled),
    )
