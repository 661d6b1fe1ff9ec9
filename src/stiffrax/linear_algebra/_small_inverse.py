"""Inverses of small matrices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from .._trees import recompute_where
from ._elimination_by_pairs import LOOPS_ARE_FUNCTIONS, eliminate_pairs
from ._products import largest_of_rows, library_matmul, small_matmul

# Above this size a batch goes to the library, a matrix at a time. (Timed for 128 lanes on two cores:
# elimination is faster than the library's batch to 96, and as fast at 128.)
_LARGEST_ELIMINATION = 64
# To this size one pass a column is written out for a batch. (Timed for 512 lanes on two cores: in two
# thirds of the time of a loop to 12, in nine tenths at 16; compile time grows with the size.)
_LARGEST_UNROLLED = 10
# Above this size the library is faster for one lane. (Timed on two cores: elimination takes 0.8 of its
# time at 16, as long at 24; with exchanges of rows a fifth at 4, 0.4 at 8, 0.9 at 16 and 24.)
_LARGEST_FOR_ONE_LANE = 24
# The same where JAX compiles loops into functions. (Timed: pairs of columns take 0.2 to 0.6 of the
# library's time at 32, 0.4 to 0.6 at 48; with exchanges of rows 0.4 and 0.9, complex matrices twice.)
_LARGEST_IN_A_FUNCTION = 48
# A complex matrix of fewer rows is faster column by column. (Timed: 0.8 of the time of pairs at 12,
# twice at 16.)
_SMALLEST_COMPLEX_PAIRS = 16
# Elimination without exchanges of rows is believed where its residual is this many units of rounding
# of the terms. Chosen, not measured: four digits lost in float32 leave three, which Newton's method
# can use.
LARGEST_RESIDUAL = 1e4


def small_inverse(matrix: Inexact[Array, "*k n n"]) -> Inexact[Array, "*k n n"]:
    """The inverse of each matrix: in closed form to n = 3, else by elimination with pivoting.

    Not by the library: a call of it keeps XLA from compiling the loop around it, the whole solve,
    into one function. And two batched library factorizations that XLA's CPU runtime happens to run
    side by side (a real and a complex one, say) wait for each other's threads and never return, on
    machines with few cores. Large matrices go to it, one at a time. A singular matrix gives entries
    that are not finite, never an exception.
    """
    n = matrix.shape[-1]
    if n <= 1:
        return 1 / matrix
    if n not in (2, 3):
        return _pivoted_inverse(matrix)
    # Rows of size one: in float32 the determinant of a stiff matrix overflows, and the inverse
    # would be zero, which a Newton iteration takes for convergence.
    entries = jnp.maximum(jnp.abs(matrix.real), jnp.abs(matrix.imag))
    rows = 1 / largest_of_rows(jnp.moveaxis(entries, -1, 0))
    scale = rows.astype(matrix.dtype)
    matrix = matrix * scale[..., None]
    if n == 2:
        return _inverse_2(matrix) * scale[..., None, :]
    if jnp.finfo(matrix.dtype).maxexp > 128:
        return _inverse_3(matrix) * scale[..., None, :]
    # And columns: of two that are small the determinant underflows, where units are far apart.
    columns = 1 / largest_of_rows(jnp.moveaxis(entries * rows[..., None], -2, 0))
    columns = columns.astype(matrix.dtype)
    return columns[..., None] * _inverse_3(matrix * columns[..., None, :]) * scale[..., None, :]


def _inverse_2(matrix: Inexact[Array, "*k 2 2"]) -> Inexact[Array, "*k 2 2"]:
    a, b, c, d = (matrix[..., i, j] for i in range(2) for j in range(2))
    adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
    # One division, then products: a complex division costs as much as the rest.
    return adjugate * (1 / (a * d - b * c))[..., None, None]


def _inverse_3(matrix: Inexact[Array, "*k 3 3"]) -> Inexact[Array, "*k 3 3"]:
    # Entry by entry: as cross products of columns, or as differences of shifted matrices, there is
    # more to compile, and a batch takes as long or twice as long.
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]

    def cofactor(i: int, j: int) -> Array:
        (a, b), (c, d) = ([m[i - r][j - s] for s in (2, 1)] for r in (2, 1))
        return a * d - b * c

    rows = [[cofactor(j, i) for j in range(3)] for i in range(3)]
    determinant = m[0][0] * rows[0][0] + m[0][1] * rows[1][0] + m[0][2] * rows[2][0]
    adjugate = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    return adjugate * (1 / determinant)[..., None, None]


@jax.custom_batching.custom_vmap
def _pivoted_inverse(matrix: Array) -> Array:
    if _is_large(matrix) or (jnp.iscomplexobj(matrix) and matrix.shape[-1] > _LARGEST_FOR_ONE_LANE):
        return _one_by_one(matrix)
    return _each(eliminate, matrix)


@_pivoted_inverse.def_vmap
def _(axis_size: int, in_batched: list[bool], matrix: Array) -> tuple[Array, bool]:
    del axis_size
    if not in_batched[0]:
        return _pivoted_inverse(matrix), False
    if matrix.shape[-1] > _LARGEST_ELIMINATION:
        return _one_by_one(matrix), True
    return _each(eliminate, matrix), True


def _is_large(matrix: Array) -> bool:
    """Whether the library is faster, for one lane."""
    limit = _LARGEST_IN_A_FUNCTION if LOOPS_ARE_FUNCTIONS else _LARGEST_FOR_ONE_LANE
    return matrix.shape[-1] > limit


def _each(function: Callable[[Array], Array], matrix: Inexact[Array, "*k n n"]) -> Array:
    if matrix.ndim == 2:
        return function(matrix)
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return jax.vmap(function)(flat).reshape(matrix.shape)


def _one_by_one(matrix: Inexact[Array, "*k n n"]) -> Inexact[Array, "*k n n"]:
    """By the library, a matrix at a time: see `small_inverse` for what a batch can end in."""
    if matrix.ndim == 2:
        return jnp.linalg.inv(matrix)
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return lax.map(jnp.linalg.inv, flat).reshape(matrix.shape)


def _largest_below(A: Array, k: Array, index: Array) -> Array:
    return jnp.argmax(jnp.where(index >= k, jnp.abs(A[:, k]), -1.0))


def eliminate(
    matrix: Inexact[Array, "n n"], choose_row: Callable[..., Array] = _largest_below
) -> Inexact[Array, "n n"]:
    """Gauss-Jordan in place with row pivoting; one fused pass over the matrix a column.

    `choose_row`: the row to exchange with row `k`, from what is left of the matrix, `k` and the
    numbers of all rows.
    """
    n = matrix.shape[-1]
    index = jnp.arange(n)

    def body(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        A, place = carry
        column = A[:, k]
        p = choose_row(A, k, index)
        is_k, is_p = index == k, index == p
        row_k, row_p = A[k], A[p]
        inverse_pivot = 1 / row_p[k]
        row = jnp.where(is_k, inverse_pivot, row_p * inverse_pivot)
        multipliers = jnp.where(is_p, row_k[k], column)
        swapped = jnp.where(is_p[:, None], row_k, A)
        reduced = jnp.where(is_k, 0, swapped) - multipliers[:, None] * row[None]
        place = jnp.where(place == k, p, jnp.where(place == p, k, place))
        return jnp.where(is_k[:, None], row, reduced), place

    inverse, place = lax.fori_loop(0, n, body, (matrix, index))
    return inverse[:, place]


@jax.custom_batching.custom_vmap
def _unchecked_inverse(matrix: Array) -> Array:
    if _is_large(matrix):
        return _one_by_one(matrix)
    small_complex = jnp.iscomplexobj(matrix) and matrix.shape[-1] < _SMALLEST_COMPLEX_PAIRS
    if LOOPS_ARE_FUNCTIONS and not small_complex:
        return _each(eliminate_pairs, matrix)
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return _eliminate_unpivoted(flat, 1, 2).reshape(matrix.shape)


@_unchecked_inverse.def_vmap
def _(axis_size: int, in_batched: list[bool], matrix: Array) -> tuple[Array, bool]:
    del axis_size
    if not in_batched[0]:
        return _unchecked_inverse(matrix), False
    n = matrix.shape[-1]
    if n > _LARGEST_ELIMINATION:
        return _one_by_one(matrix), True
    # With the batch in the last axis every operation runs over contiguous lanes: twice as fast.
    lanes = jnp.moveaxis(matrix.reshape(-1, n, n), 0, -1)
    inverse = _eliminate_unpivoted(lanes, 0, 1, unrolled=n <= _LARGEST_UNROLLED)
    return jnp.moveaxis(inverse, -1, 0).reshape(matrix.shape), True


def _eliminate_unpivoted(
    matrix: Inexact[Array, "i j *k"], rows: int, columns: int, *, unrolled: bool = False
) -> Inexact[Array, "i j *k"]:
    """Gauss-Jordan in place, between the axes `rows` and `columns` of a stack of matrices."""
    take, put = lax.dynamic_slice_in_dim, lax.dynamic_update_slice_in_dim

    def body(k: Any, A: Array) -> Array:
        row, column = take(A, k, 1, rows), take(A, k, 1, columns)
        inverse_pivot = 1 / take(row, k, 1, columns)
        row = put(row * inverse_pivot, inverse_pivot, k, columns)
        # Entries are put in place, not selected by masks: that is twice as fast in a loop, and
        # written out XLA would compute all columns in one pass, every earlier one again for each.
        return put(put(A, jnp.zeros_like(column), k, columns) - column * row, row, k, rows)

    n = matrix.shape[rows]
    if not unrolled:
        return lax.fori_loop(0, n, body, matrix)
    for k in range(n):
        matrix = body(k, matrix)
    return matrix


def unchecked_inverse(matrix: Inexact[Array, "*k n n"]) -> Inexact[Array, "*k n n"]:
    """An inverse whose user checks what comes of it: eliminated without pivoting.

    Half the cost of `small_inverse`, for a batch and for one lane. A pivot close to zero costs
    digits, or makes entries that are not finite.
    """
    n = matrix.shape[-1]
    return small_inverse(matrix) if n <= 3 else _unchecked_inverse(matrix)


def looped_inverse(matrix: Inexact[Array, "n n"]) -> Inexact[Array, "n n"]:
    """As `unchecked_inverse`, by a loop however small the matrix is.

    For batches that are factored once: written out, a matrix of eight rows takes a third of a
    second more to compile and half of the time to run. (Timed for 64 and 512 lanes.)
    """
    if 3 < matrix.shape[-1] <= _LARGEST_ELIMINATION:
        return _eliminate_unpivoted(matrix, 0, 1)
    return unchecked_inverse(matrix)


def checked_inverse(matrix: Inexact[Array, "*k n n"]) -> Inexact[Array, "*k n n"]:
    """An inverse by elimination without pivoting, and with it where the residual asks for that.

    Which rows are exchanged depends on the units of the equations, even of scaled ones: rows and
    columns can be scaled to size one in ways of which some leave next to nothing of a dominant
    diagonal. Without exchanges every intermediate result has the units of its entry.
    """
    inverse = unchecked_inverse(matrix)
    if matrix.shape[-1] <= 3:
        return inverse  # In closed form either way.
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    residual = jnp.abs(library_matmul(matrix, inverse) - identity)
    size = library_matmul(jnp.abs(matrix), jnp.abs(inverse))
    bound = LARGEST_RESIDUAL * jnp.finfo(matrix.dtype).eps
    wrong = ~jnp.all(residual <= bound * size, axis=(-2, -1))
    return recompute_where(wrong, lambda: small_inverse(matrix), inverse)


def probed_inverse(
    matrix: Inexact[Array, "n n"], probe: Inexact[Array, " n"]
) -> Inexact[Array, "n n"]:
    """An inverse by elimination without pivoting, and with it where one solution asks for that.

    Whose user does not check what comes of it, but has a right-hand side in the units of the
    equations to try it on: at the cost of two products with a vector, where `checked_inverse` takes
    two with a matrix.
    """
    inverse = unchecked_inverse(matrix)
    x = _over_columns(inverse, probe)
    residual = jnp.abs(_over_columns(matrix, x) - probe)
    size = _over_columns(jnp.abs(matrix), jnp.abs(x)) + jnp.abs(probe)
    bound = LARGEST_RESIDUAL * jnp.finfo(matrix.dtype).eps
    wrong = jnp.any(~(residual <= bound * size))
    return recompute_where(wrong, lambda: _pivoted_inverse(matrix), inverse)


def _over_columns(matrix: Array, vector: Array) -> Array:
    return small_matmul(matrix, vector[:, None])[:, 0]
