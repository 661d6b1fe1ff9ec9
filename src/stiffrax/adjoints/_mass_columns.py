"""The transposed stage equations of many steps with a mass matrix."""

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..stages import small_inverse, stacked_mass_matrix
from ._linearized_step import LinearizedStep


def stacked_mass_matrices(steps: LinearizedStep) -> Float[Array, "k mn mn"]:
    """The transposed stage equations of each step as one matrix."""
    couplings = jnp.asarray(steps.tableau.A_inverse.T, steps.hJ_T.dtype)
    M_T = cast(Array, steps.M_T)
    return jax.vmap(lambda M, hJ: stacked_mass_matrix(couplings, M, hJ))(M_T, steps.hJ_T)


def solve_mass_columns(
    steps: LinearizedStep, rhs: Float[Array, "k mn r"]
) -> Float[Array, "k mn r"]:
    """Solves for all columns of every step, by rows with pivoting: `M` has no inverse to begin with."""
    return _solve(stacked_mass_matrices(steps), rhs)


@jax.custom_jvp
def _solve(matrix: Float[Array, "k mn mn"], rhs: Float[Array, "k mn r"]) -> Float[Array, "k mn r"]:
    size = jnp.max(jnp.abs(matrix), axis=2, keepdims=True)
    size = jnp.where(size > 0, size, 1)
    matrix, rhs = matrix / size, rhs / size
    inverse = jax.vmap(small_inverse)(matrix)
    x = _product(inverse, rhs)
    return x + _product(inverse, rhs - _product(matrix, x))


@_solve.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    matrix, rhs = primals
    matrix_dot, rhs_dot = tangents
    x = _solve(matrix, rhs)
    return x, _solve(matrix, rhs_dot - _product(matrix_dot, x))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
