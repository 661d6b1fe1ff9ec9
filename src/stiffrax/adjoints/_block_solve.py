"""Solving the transposed stage equations of many steps at once, for all columns of a propagator."""

import functools as ft

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..stages import small_inverse
from ..tableaus import Tableau

# A block elimination is believed whose residual is this many units of rounding of its terms.
_LARGEST_RESIDUAL = 1e5


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _couplings(tableau: Tableau, dtype: jnp.dtype) -> Float[Array, "m m"]:
    return jnp.asarray(tableau.A_inverse.T, dtype)


def _kronecker(a: Float[Array, "i j"], b: Float[Array, "*k n n"]) -> Float[Array, "*k in jn"]:
    (i, j), n = a.shape, b.shape[-1]
    blocks = a[:, None, :, None] * b[..., None, :, None, :]
    return blocks.reshape(*b.shape[:-2], i * n, j * n)


def _block_diagonal(blocks: Float[Array, "*k m n n"]) -> Float[Array, "*k mn mn"]:
    m, n = blocks.shape[-3:-1]
    spread = jnp.eye(m, dtype=blocks.dtype)[:, None, :, None] * blocks[..., :, :, None, :]
    return spread.reshape(*blocks.shape[:-3], m * n, m * n)


def stacked_matrix(tableau: Tableau, hJ_T: Float[Array, "*k m n n"]) -> Float[Array, "*k mn mn"]:
    """The transposed stage equations as one matrix."""
    identity = jnp.eye(hJ_T.shape[-1], dtype=hJ_T.dtype)
    return _kronecker(_couplings(tableau, hJ_T.dtype), identity) - _block_diagonal(hJ_T)


def _eliminate(
    matrix: Float[Array, "k mn mn"], rhs: Float[Array, "k mn r"], n: int
) -> Float[Array, "k mn r"]:
    """Gaussian elimination by `n x n` blocks of matrices that may have any blocks."""
    inverse = jax.vmap(small_inverse)
    eliminated = []
    while matrix.shape[1] > n:
        pivot = inverse(matrix[:, :n, :n])
        row, head = matrix[:, :n, n:], rhs[:, :n]
        factor = _product(matrix[:, n:, :n], pivot)
        matrix = matrix[:, n:, n:] - _product(factor, row)
        rhs = rhs[:, n:] - _product(factor, head)
        eliminated.append((pivot, row, head))
    solution = _product(inverse(matrix), rhs)
    for pivot, row, head in reversed(eliminated):
        top = _product(pivot, head - _product(row, solution))
        solution = jnp.concatenate([top, solution], axis=1)
    return solution


def eliminate_blocks(
    tableau: Tableau, hJ_T: Float[Array, "k m n n"], rhs: Float[Array, "k mn r"]
) -> Float[Array, "k mn r"]:
    """Gaussian elimination by `n x n` blocks, with pivoting inside the blocks only.

    Blocks off the diagonal are multiples of the identity, so that the first elimination needs no
    product of matrices; at three stages all of it takes a third of an elimination by rows. The
    pivots are `a_ii - h J_i^T` and its Schur complements: harmless where `J` is dissipative, but
    singular for some growth rates.
    """
    (k, m, n, _), a = hJ_T.shape, _couplings(tableau, hJ_T.dtype)
    identity = jnp.eye(n, dtype=hJ_T.dtype)
    pivot = jax.vmap(small_inverse)(a[0, 0] * identity - hJ_T[:, 0])
    head = _product(pivot, rhs[:, :n])
    if m == 1:
        return head
    update = _kronecker(jnp.outer(a[1:, 0], a[0, 1:]), pivot)
    others = _kronecker(a[1:, 1:], identity) - update - _block_diagonal(hJ_T[:, 1:])
    below = rhs[:, n:] - (a[1:, 0, None, None] * head[:, None]).reshape(k, (m - 1) * n, -1)
    solution = _eliminate(others, below, n)
    coupled = jnp.tensordot(a[0, 1:], solution.reshape(k, m - 1, n, -1), axes=(0, 1))
    return jnp.concatenate([head - _product(pivot, coupled), solution], axis=1)


def eliminate_rows(
    matrix: Float[Array, "k mn mn"], rhs: Float[Array, "k mn r"]
) -> Float[Array, "k mn r"]:
    """The explicit inverse, with pivoting over all rows and one refinement."""
    inverse = jax.vmap(small_inverse)(matrix)
    solution = _product(inverse, rhs)
    return solution + _product(inverse, rhs - _product(matrix, solution))


def _is_solved(tableau: Tableau, hJ_T: Array, solution: Array, rhs: Array) -> Bool[Array, " k"]:
    """Whether every equation holds to rounding, for one combination of all columns."""
    k, m, n, _ = hJ_T.shape
    combination = jnp.cos(jnp.arange(rhs.shape[-1], dtype=rhs.dtype))
    x, b = ((v @ combination).reshape(k, m, n) for v in (solution, rhs))
    a, terms = _couplings(tableau, rhs.dtype), hJ_T * x[:, :, None]
    residual = jnp.abs(a @ x - jnp.sum(terms, axis=-1) - b)
    size = jnp.abs(a) @ jnp.abs(x) + jnp.sum(jnp.abs(terms), axis=-1) + jnp.abs(b)
    bound = _LARGEST_RESIDUAL * jnp.finfo(rhs.dtype).eps
    return jnp.all(residual <= bound * size, axis=(1, 2))


@ft.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_all(
    tableau: Tableau,
    hJ_T: Float[Array, "k m n n"],
    rhs: Float[Array, "k mn r"],
    used: Bool[Array, " k"],
) -> Float[Array, "k mn r"]:
    """Solves the transposed stage equations of every step, without library factorizations.

    By blocks, and once more by rows for those steps where the residual shows that a pivot was
    close to singular. Steps not `used` are solved too, but not checked.
    """
    solution = eliminate_blocks(tableau, hJ_T, rhs)
    wrong = used & ~_is_solved(tableau, hJ_T, solution, rhs)

    def again(solution: Array) -> Array:
        by_rows = eliminate_rows(stacked_matrix(tableau, hJ_T), rhs)
        return jnp.where(wrong[:, None, None], by_rows, solution)

    return lax.cond(eqxi.unvmap_any(wrong), again, lambda solution: solution, solution)


@solve_all.defjvp
def _(tableau: Tableau, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    hJ_T, rhs, used = primals
    hJ_T_dot, rhs_dot, _ = tangents
    solution = solve_all(tableau, hJ_T, rhs, used)
    stages = solution.reshape(*hJ_T.shape[:3], -1)
    rhs_dot = rhs_dot + _product(hJ_T_dot, stages).reshape(rhs.shape)
    return solution, solve_all(tableau, hJ_T, rhs_dot, used)
