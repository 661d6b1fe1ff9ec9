"""The stage equations with a mass matrix and the exact Jacobian of every stage."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._products import small_matmul
from ._small_inverse import small_inverse


def stacked_mass_matrix(
    a: Float[Array, "m m"], M: Float[Array, "n n"], hJ: Float[Array, "m n n"]
) -> Float[Array, "mn mn"]:
    """`a (x) M - blockdiag(hJ_i)` as one matrix."""
    m, n = hJ.shape[:2]
    constant = a[:, None, :, None] * M[:, None, :]
    blocks = jnp.eye(m, dtype=hJ.dtype)[:, None, :, None] * hJ[:, :, None, :]
    return (constant - blocks).reshape(m * n, m * n)


def solve_stacked_mass(
    a: Float[Array, "m m"],
    M: Float[Array, "n n"],
    hJ: Float[Array, "m n n"],
    rhs: Float[Array, "m n"],
) -> Float[Array, "m n"]:
    """Solves `(a (x) M - blockdiag(hJ_i)) x = rhs`; no derivative goes through it.

    Rows are made of size one first: those of constraints have units of their own. Where `M` is
    singular its blocks are no pivots, so that rows are exchanged across blocks, unlike without it.
    """
    matrix = stacked_mass_matrix(a, M, hJ)
    size = jnp.max(jnp.abs(matrix), axis=1, keepdims=True)
    size = jnp.where(size > 0, size, 1)
    matrix, b = matrix / size, rhs.reshape(-1, 1) / size
    inverse = small_inverse(matrix)
    x = small_matmul(inverse, b)
    x = x + small_matmul(inverse, b - small_matmul(matrix, x))
    return x.reshape(rhs.shape)
