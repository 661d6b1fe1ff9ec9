"""Trees of arrays: missing leaves, a choice of one of two, what has a derivative, flags for rows."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, PyTree


def is_none(leaf: Any) -> bool:
    """Whether a leaf is missing; JAX passes over it otherwise."""
    return leaf is None


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


def along_rows(flags: Any, rows: Any) -> Any:
    """`flags`, one for each row, with axes of length one at their end: they broadcast with `rows`."""
    return flags.reshape(*flags.shape, *(1,) * (rows.ndim - flags.ndim))
