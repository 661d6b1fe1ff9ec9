"""Sums and maxima over a few entries, written out.

XLA's CPU compiler hands reductions of a batch to a library that is made for long axes: over five
stages of two components it takes up to fifty times as long as the additions themselves, and with
them the loop that it is part of.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

# To this length a sum is written out, which is slower to compile and, at some length, to run.
_LONGEST = 12


def weighted_sum(weights: np.ndarray, rows: Float[Array, "m *n"]) -> Float[Array, "*n"]:
    """`sum_i w_i x_i` over a few rows, with weights known while tracing."""
    terms = [float(w) * row for w, row in zip(weights, rows, strict=True) if w != 0]
    return functools.reduce(jnp.add, terms, jnp.zeros_like(rows[0]))


def largest_of_rows(rows: Float[Array, "m *n"]) -> Float[Array, "*n"]:
    """The largest of a few rows in each column."""
    return functools.reduce(jnp.maximum, list(rows))


def _over_last_axis(combine: Callable, reduce: Callable, x: Array) -> Array:
    if not 0 < x.shape[-1] <= _LONGEST:
        return reduce(x, axis=-1)
    return functools.reduce(combine, [x[..., k] for k in range(x.shape[-1])])


def short_sum(x: Float[Array, "*k n"]) -> Float[Array, "*k"]:
    """Sums over the last axis."""
    return _over_last_axis(jnp.add, jnp.sum, x)


def largest_size(x: Float[Array, "*k n"]) -> Float[Array, "*k"]:
    """The largest absolute value in the last axis; zero if there is none."""
    size = jnp.abs(x)
    return _over_last_axis(jnp.maximum, functools.partial(jnp.max, initial=0.0), size)


def root_mean_square(tree: PyTree[Array]) -> Float[Array, ""]:
    """`optimistix.rms_norm`, without its derivative at zero."""
    squares = [x * x for x in jax.tree.leaves(tree)]
    number = sum(x.size for x in squares)
    rows = [functools.reduce(jnp.add, x) if x.ndim == 2 and len(x) else x for x in squares]
    return jnp.sqrt(jnp.asarray(sum(short_sum(x.reshape(-1)) for x in rows) / max(number, 1)))
