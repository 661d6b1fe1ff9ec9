"""The numeric part of a sparse factorization, level by level of the elimination tree."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ._fronts import Level
from ._pivot_inverse import pivot_inverse
from ._products import library_matmul


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
