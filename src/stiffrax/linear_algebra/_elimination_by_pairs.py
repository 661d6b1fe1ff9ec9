"""Elimination by pairs of columns."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

# JAX compiles a loop of this size into one function, in which a pass over the matrix costs what its
# arithmetic does, from this version on. Before, every operation of a pass is called on its own, and
# fewer of larger passes cost more. (Timed: a matrix of 20 rows takes 1.9 us by pairs and 5.8 us by
# columns with JAX 0.12, 10 to 23 us and 8 to 10 us with 0.10.)
LOOPS_ARE_FUNCTIONS = jax.__version_info__ >= (0, 12)

_Parts = tuple[Array, ...]  # The real and, of a complex matrix, the imaginary part.
_each = jax.tree.map


def eliminate_pairs(matrix: Inexact[Array, "n n"]) -> Inexact[Array, "n n"]:
    """Gauss-Jordan in place without exchanges of rows, two columns a pass.

    The pivots are those of an elimination column by column. A complex matrix goes by its parts,
    since products of arrays of complex numbers are not vectorized.
    """
    n = len(matrix)
    parts = (matrix.real, matrix.imag) if jnp.iscomplexobj(matrix) else (matrix,)
    if n % 2:
        last = jnp.arange(n + 1) == n
        parts = tuple(jnp.pad(part, (0, 1)) for part in parts)
        parts = (jnp.where(last[:, None] & last[None], 1, parts[0]), *parts[1:])
    parts = lax.fori_loop(0, (n + 1) // 2, _pass, parts)
    parts = tuple(part[:n, :n] for part in parts)
    return lax.complex(*parts) if len(parts) == 2 else parts[0]


def _pass(i: Any, A: _Parts) -> _Parts:
    k = 2 * i
    rows = _each(lambda part: lax.dynamic_slice_in_dim(part, k, 2, 0), A)
    columns = _each(lambda part: lax.dynamic_slice_in_dim(part, k, 2, 1), A)
    pivots = _inverse_2(_each(lambda part: lax.dynamic_slice_in_dim(part, k, 2, 1), rows))
    put = lax.dynamic_update_slice_in_dim
    rows = _each(lambda part, x: put(part, x, k, 1), _product(pivots, rows), pivots)
    A = _each(lambda part: put(part, jnp.zeros((len(part), 2), part.dtype), k, 1), A)
    A = _each(jnp.subtract, A, _product(columns, rows))
    return _each(lambda part, x: put(part, x, k, 0), A, rows)


def _inverse_2(matrix: _Parts) -> _Parts:
    def entry(i: int, j: int) -> _Parts:
        return _each(lambda x: x[i, j], matrix)

    # Not by the determinant, which overflows in float32.
    a, b, c, d = entry(0, 0), entry(0, 1), entry(1, 0), entry(1, 1)
    first = _reciprocal(a)
    up, left = _times(first, b), _times(c, first)
    last = _reciprocal(_each(jnp.subtract, d, _times(left, b)))
    up, left = (_each(jnp.negative, x) for x in (_times(up, last), _times(last, left)))
    corner = _each(jnp.subtract, first, _times(up, _times(c, first)))
    return _each(lambda *x: jnp.stack(x).reshape(2, 2), corner, up, left, last)


def _reciprocal(a: _Parts) -> _Parts:
    if len(a) == 1:
        return (1 / a[0],)
    # By what is largest, since squares overflow in float32.
    size = jnp.maximum(*map(jnp.abs, a))
    real, imaginary = (part / size for part in a)
    scale = 1 / (real * real + imaginary * imaginary) / size
    return real * scale, -imaginary * scale


def _times(a: _Parts, b: _Parts, product: Any = jnp.multiply) -> _Parts:
    if len(a) == 1:
        return (product(a[0], b[0]),)
    (x, y), (u, v) = a, b
    return product(x, u) - product(y, v), product(x, v) + product(y, u)


def _product(a: _Parts, b: _Parts) -> _Parts:
    return _times(a, b, lambda x, y: x[:, :1] * y[:1] + x[:, 1:] * y[1:])
