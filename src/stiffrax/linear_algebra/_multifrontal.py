"""The numeric part of a sparse factorization, level by level of the elimination tree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact

from ._fronts import BLOCK, Level
from ._products import library_matmul
from ._small_inverse import eliminate


def _times(a: Array, x: Array) -> Array:
    return jnp.sum(a * x[:, None, :], axis=-1)


def factor_fronts(levels: list[Level], values: Inexact[Array, " nnz"]) -> list[Any]:
    r"""Factors of a sparse matrix from its values.

    A front of pivots and the unknowns around them leaves $D - C P^{-1} B$ to its parent,

    $$\begin{pmatrix} P & B \\ C & D \end{pmatrix}.$$

    Rows are exchanged among the pivots of a front only. All fronts of a level are one batch, whose
    places are known while tracing: there is nothing but dense products and gathers.
    """
    factors, left = [], None
    for level in levels:
        s, size = level.num_pivots, level.num_pivots + level.num_around
        fronts = jnp.zeros(level.num_fronts * size**2, values.dtype)
        fronts = fronts.at[level.places].set(
            values[level.entries], unique_indices=True, mode="promise_in_bounds"
        )
        fronts = fronts.reshape(level.num_fronts, size, size)
        if left is not None:
            fronts = fronts + _from_children(level, left)
        unused = np.eye(s, dtype=bool)[None] & level.unused[:, :, None]
        P, B, C = fronts[:, :s, :s], fronts[:, :s, s:], fronts[:, s:, :s]
        inverse = pivot_inverse(jnp.where(unused, jnp.ones((), values.dtype), P))
        C = library_matmul(C, inverse)
        left = fronts[:, s:, s:] - library_matmul(C, B)
        factors.append((inverse, B, C))
    return factors


def _from_children(level: Level, left: Array) -> Array:
    size = left.shape[-1] + 1
    left = jnp.pad(left, ((0, 0), (0, 1), (0, 1)))
    left = left.reshape(level.num_fronts, level.num_children, size, size)
    front = np.arange(level.num_fronts, dtype=np.int32)[:, None, None, None]
    child = np.arange(level.num_children, dtype=np.int32)[None, :, None, None]
    place = level.from_children
    taken = left.at[front, child, place[..., :, None], place[..., None, :]]
    return jnp.sum(taken.get(mode="promise_in_bounds"), axis=1)


def solve_fronts(
    levels: list[Level], order: np.ndarray, factors: list[Any], rhs: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """Solves with the factors; `order` is where the pivots of all levels hold each unknown."""
    padded = jnp.pad(rhs, (0, 1))
    pivots, left = [], None
    for level, (_, _, C) in zip(levels, factors, strict=True):
        v = padded[level.pivots]
        around = jnp.zeros((), rhs.dtype)
        if left is not None:
            added = _vectors_from_children(level, left)
            v, around = v + added[:, : level.num_pivots], added[:, level.num_pivots :]
        pivots.append(v)
        left = around - _times(C, v)
    found, front, above = [], None, None
    for level, (inverse, B, _), v in zip(
        reversed(levels), reversed(factors), reversed(pivots), strict=True
    ):
        if front is None or above is None:
            front = x = _times(inverse, v)
        else:
            parent = np.arange(level.num_fronts, dtype=np.int32)[:, None] // above.num_children
            taken = jnp.pad(front, ((0, 0), (0, 1))).at[parent, level.in_parent]
            around = taken.get(mode="promise_in_bounds")
            x = _times(inverse, v - _times(B, around))
            front = jnp.concatenate([x, around], axis=1)
        above = level
        found.append(x.reshape(-1))
    return jnp.concatenate(found[::-1])[order]


def _vectors_from_children(level: Level, left: Array) -> Array:
    left = jnp.pad(left, ((0, 0), (0, 1))).reshape(level.num_fronts, level.num_children, -1)
    front = np.arange(level.num_fronts, dtype=np.int32)[:, None, None]
    child = np.arange(level.num_children, dtype=np.int32)[None, :, None]
    taken = left.at[front, child, level.from_children].get(mode="promise_in_bounds")
    return jnp.sum(taken, axis=1)


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
