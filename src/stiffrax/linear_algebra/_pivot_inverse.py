"""Inverses of the pivots of fronts, whose rows and columns have been scaled."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from ._fronts import BLOCK
from ._products import library_matmul
from ._small_inverse import eliminate

# Two rows are exchanged where that makes the product of their pivots larger by this factor.
# Chosen, not measured: what elimination without the exchange would lose in digits, at most.
_GAIN = 1e3


def pivot_inverse(matrices: Inexact[Array, "k s s"]) -> Inexact[Array, "k s s"]:
    """The inverse of each matrix; rows are exchanged where a diagonal entry is too small.

    Not by a library: two of its batched factorizations side by side can wait for each other for ever
    on the CPU (`small_inverse`), and on accelerators they run one matrix after another. Sizes that
    are a multiple of the block are eliminated by blocks: nearly all of it is products of matrices.
    """
    s = matrices.shape[-1]
    if s <= BLOCK or s % BLOCK:
        return jax.vmap(lambda matrix: eliminate(matrix, _better_row))(matrices)
    take, put = lax.dynamic_slice_in_dim, lax.dynamic_update_slice_in_dim

    def body(i: Array, A: Array) -> Array:
        start = i * BLOCK
        row, column = take(A, start, BLOCK, 1), take(A, start, BLOCK, 2)
        inverse = pivot_inverse(take(row, start, BLOCK, 2))
        row = put(library_matmul(inverse, row), inverse, start, 2)
        rest = put(A, jnp.zeros_like(column), start, 2) - library_matmul(column, row)
        return put(rest, row, start, 1)

    return lax.fori_loop(0, s // BLOCK, body, matrices)


def _better_row(A: Array, k: Array, index: Array) -> Array:
    """The row by which the diagonal gains most, if any.

    Compared are products of two entries, `a_ik a_ki` with `a_kk a_ii`, which have the same units.
    The largest entry of a column, the usual choice, depends on the units of the equations, even of
    scaled ones, and leaves a dominant diagonal where units are far apart.
    """
    column, diagonal = jnp.abs(A[:, k]), jnp.abs(jnp.diagonal(A))
    product = column * jnp.abs(A[k])
    gain = jnp.where((index > k) & (diagonal > 0), product / diagonal, 0)
    gain = jnp.where(index == k, _GAIN * column, gain)
    # No pair of entries: a longer cycle, in which the scaled sizes must do.
    gain = jnp.where(jnp.max(gain) > 0, gain, jnp.where(index > k, column, 0))
    return jnp.argmax(gain)
