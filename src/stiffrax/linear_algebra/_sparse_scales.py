"""Scales of the rows and columns of a sparse matrix."""

from typing import final

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ._scaled_inverse import ROUNDS, half_of, power_of_two

# Entries of a line that are compared at once; longer lines are several.
_WIDTH = 32


@final
class Lines:
    """The entries of each row, or of each column, as a rectangle of their numbers."""

    def __init__(self, line_of_entry: np.ndarray, n: int):
        counts = np.bincount(line_of_entry, minlength=n)
        width = int(min(counts.max(initial=1), _WIDTH))
        pieces = np.maximum(-(-counts // width), 1)
        self.piece_of = None if pieces.max(initial=1) == 1 else np.repeat(np.arange(n), pieces)
        order = np.argsort(line_of_entry, kind="stable")
        lines = line_of_entry[order]
        within = np.arange(len(lines)) - (np.cumsum(counts) - counts)[lines]
        first = np.cumsum(pieces) - pieces
        self.entries = np.full((int(pieces.sum()), width), len(lines), np.int32)
        self.entries[first[lines] + within // width, within % width] = order
        self.n = n

    def largest(self, x: Float[Array, " nnz"]) -> Float[Array, " n"]:
        """The largest entry of each line."""
        padded = jnp.pad(x, (0, 1), constant_values=-jnp.inf)
        largest = jnp.max(padded[self.entries], axis=1)
        if self.piece_of is None:
            return largest
        return jnp.full(self.n, -jnp.inf, x.dtype).at[self.piece_of].max(largest)


def sparse_scales(
    rows: Lines,
    columns: Lines,
    row_of: Int[np.ndarray, " nnz"],
    column_of: Int[np.ndarray, " nnz"],
    size: Float[Array, " nnz"],
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """As `scales`, of a matrix given by the absolute values of its entries."""
    exponents = jnp.log2(size)

    def once(_: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        r, c = found
        left = exponents + r[row_of] + c[column_of]
        return r - half_of(rows.largest(left)), c - half_of(columns.largest(left))

    start = (jnp.zeros(rows.n, size.dtype), jnp.zeros(rows.n, size.dtype))
    r, c = lax.fori_loop(0, ROUNDS, once, start)
    r, c = (power_of_two(jnp.round(x).astype(int), size.dtype) for x in (r, c))
    return r, c
