"""Products of small matrices and short sums, each in the form that is fastest."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact, PyTree

from ._own_derivative import with_derivative


# JAX hands constants to derivative rules as NumPy arrays.
def library_matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """The product `a @ b` by the library, in the full precision of its type on accelerators too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _fused_matmul(a: ArrayLike, b: ArrayLike) -> Array:
    a, b = jnp.asarray(a), jnp.asarray(b)
    rank = max(a.ndim, b.ndim)
    a, b = (x.reshape(*(1,) * (rank - x.ndim), *x.shape) for x in (a, b))
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


@jax.custom_batching.custom_vmap
def _switching_matmul(a: ArrayLike, b: ArrayLike) -> Array:
    return _fused_matmul(a, b)


@_switching_matmul.def_vmap
def _(axis_size: int, in_batched: list[bool], a: Array, b: Array) -> tuple[Array, bool]:
    del axis_size
    rank = max(a.ndim - in_batched[0], b.ndim - in_batched[1])
    if in_batched[0]:
        a = a.reshape(a.shape[0], *(1,) * (rank + 1 - a.ndim), *a.shape[1:])
    if in_batched[1]:
        b = b.reshape(b.shape[0], *(1,) * (rank + 1 - b.ndim), *b.shape[1:])
    # The library has no fast path for small complex matrices: 0.32 ms against 0.11 ms for 1000
    # products of an 8 x 8 matrix and a vector.
    is_complex = jnp.iscomplexobj(a) or jnp.iscomplexobj(b)
    return (_fused_matmul if is_complex else library_matmul)(a, b), True


# The switch itself cannot be linearized; derivatives are few and batched, so they use the library.
def _product_rule(primals: tuple, tangents: tuple) -> tuple[Array, Array | None]:
    (a, b), (a_dot, b_dot) = primals, tangents
    terms = [library_matmul(a_dot, b)] if a_dot is not None else []
    terms += [library_matmul(a, b_dot)] if b_dot is not None else []
    return _product(a, b), sum(terms[1:], terms[0]) if terms else None


_product = with_derivative("small_matmul", _switching_matmul, _product_rule)


def small_matmul(a: Inexact[ArrayLike, "*#k l m"], b: Inexact[ArrayLike, "*#k m n"]) -> Array:
    """The product `a @ b` of small matrices.

    On the CPU a library product costs about 0.3 us a call whatever its size; for one lane the
    product is written as broadcasting and a sum, which fuses with its surroundings. For a batch of
    real matrices the library call is far cheaper (3x on 1000 lanes), so that `vmap` switches to it.
    """
    return _product(jnp.asarray(a), jnp.asarray(b))


# XLA's CPU compiler hands reductions of a batch to a library that is made for long axes: over five
# stages of two components it takes up to fifty times as long as the additions themselves, and with
# them the loop that it is part of.
# To this length a sum is written out, which is slower to compile and, at some length, to run.
_LONGEST = 12


def weighted_sum(weights: np.ndarray, rows: Float[Array, "m *n"]) -> Float[Array, "*n"]:
    """`sum_i w_i x_i` over a few rows, with weights known while tracing."""
    terms = [float(w) * row for w, row in zip(weights, rows, strict=True) if w != 0]
    return functools.reduce(jnp.add, terms, jnp.zeros_like(rows[0]))


@jax.custom_batching.custom_vmap
def stage_sum(weights: Float[Array, " s"], rows: Float[Array, "s n"]) -> Float[Array, " n"]:
    """`sum_i w_i x_i` with weights that a loop picks; it is not differentiated.

    Written as `small_matmul` one lane takes half as long again; reduced over an inner axis, a batch
    four times as long.
    """
    return jnp.sum(weights[:, None] * rows, axis=0)


@stage_sum.def_vmap
def _(axis_size: int, in_batched: list[bool], weights: Array, rows: Array) -> tuple[Array, bool]:
    if not in_batched[1]:
        rows = jnp.broadcast_to(rows, (axis_size, *rows.shape))
    weights = weights if in_batched[0] else weights[None]
    return library_matmul(weights[:, None], rows)[:, 0], True


def largest_of_rows(rows: Float[Array, "m *n"]) -> Float[Array, "*n"]:
    """The largest of a few rows in each column."""
    return functools.reduce(jnp.maximum, list(rows))


def _over_last_axis(combine: Callable, reduce: Callable, x: Array) -> Array:
    if not 0 < x.shape[-1] <= _LONGEST:
        return reduce(x, axis=-1)
    return functools.reduce(combine, [x[..., k] for k in range(x.shape[-1])])


def short_sum(x: Inexact[Array, "*k n"]) -> Inexact[Array, "*k"]:
    """Sums over the last axis."""
    return _over_last_axis(jnp.add, jnp.sum, x)


def short_product(P: Float[Array, "*k l n"], x: Float[Array, "*k n"]) -> Float[Array, "*k l"]:
    """`P @ x`, written out where the rows are short.

    Within a loop over small steps a library product takes longer than all else: over 32 steps of
    three components 27 us against 14 us for nine columns, 0.5 ms against 0.24 ms in 100 lanes.
    """
    if x.shape[-1] <= _LONGEST:
        return short_sum(P * x[..., None, :])
    return jnp.einsum("...ij,...j->...i", P, x)


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
