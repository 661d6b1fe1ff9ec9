"""Trees of arrays: missing and traced leaves, a choice of one of two, what has a derivative, sizes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, PyTree


def is_none(leaf: Any) -> bool:
    """Whether a leaf is missing; JAX passes over it otherwise."""
    return leaf is None


def is_traced(tree: Any) -> bool:
    """Whether a leaf has no value yet."""
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))


def select(use: Array, new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """The leaves of `new` where `use`, of `old` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(use, a, b), new, old)


def passing_on(tree: PyTree, where: Bool[Array, ""]) -> PyTree:
    """The same values, which have a derivative only `where` that is so.

    For what a result that is not selected was computed from: its cotangent is zero, and zero times
    a derivative that is infinite is not.
    """

    def one(x: Any) -> Any:
        return jnp.where(where, x, lax.stop_gradient(x)) if eqx.is_inexact_array(x) else x

    return jax.tree.map(one, tree)


def euclidean_norm(x: Array, axis: Any = None) -> Array:
    """Of numbers of any size: single precision has no squares of 1e-20 or 1e20."""
    top = lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, initial=0.0, keepdims=True))
    top = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    square = jnp.sum((x / top) ** 2, axis=axis)
    # The derivative of the root is infinite at zero.
    root = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
    return top.reshape(square.shape) * root


def nonzero(size: Array) -> Array:
    """Sizes to divide by: one for what has none."""
    return jnp.where(size > 0, size, 1)


def unequal_weights(size: int, dtype: Any) -> Array:
    """As many numbers, no two alike: no symmetry makes terms cancel in a sum with these weights."""
    return jnp.asarray(np.cos(1.0 + np.arange(size)), dtype)


def along_rows(flags: Any, rows: Any) -> Any:
    """`flags`, one for each row, with axes of length one at their end: they broadcast with `rows`."""
    return flags.reshape(*flags.shape, *(1,) * (rows.ndim - flags.ndim))


def recompute_where(wrong: Array, again: Callable[[], Array], found: Array) -> Array:
    """`again()` in the rows of lanes that are `wrong`, and `found` in the others.

    Under `vmap` a `lax.cond` computes both branches for every lane. Its condition here is one for
    all lanes of a batch, which keeps it a branch: `again` costs nothing where no lane is wrong.
    """

    def repaired(found: Array) -> Array:
        return jnp.where(along_rows(wrong, found), again(), found)

    return lax.cond(eqxi.unvmap_any(wrong), repaired, lambda found: found, found)
