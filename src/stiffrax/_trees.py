"""Trees of arrays: missing leaves, a choice of one of two trees, flags for rows of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def is_none(leaf: Any) -> bool:
    """Whether a leaf is missing; JAX passes over it otherwise."""
    return leaf is None


def select(use: Array, new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """The leaves of `new` where `use`, of `old` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(use, a, b), new, old)


def along_rows(flags: Any, rows: Any) -> Any:
    """`flags`, one for each row, with axes of length one at their end: they broadcast with `rows`."""
    return flags.reshape(*flags.shape, *(1,) * (rows.ndim - flags.ndim))
