"""The transposed linear equations of solved steps."""

from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..stages import StageSystem, small_inverse, stacked_mass_matrix
from ..tableaus import Tableau


@final
class LinearizedStep(eqx.Module):
    r"""The adjoint of a step, with the exact Jacobian `J_i` of the vector field at every stage.

    Cotangents `G` of the stage increments `Z` are pulled back to the start of the step by

    $$\sum_j (A^{-1})_{ji} M^T V_j - h J_i^T V_i = G_i, \qquad
      \bar y_0 = \bar y_1 + \sum_i h J_i^T V_i
               = \bar y_1 - \sum_i G_i + M^T \sum_j r_j V_j, \quad r_j = \sum_i (A^{-1})_{ji}.$$

    The second form needs no Jacobian, and does not cancel where `h J` is huge. With an explicit
    first stage `h f_0` has a cotangent too, `w^T V` and that of the polynomial, pulled by `h J_0`.
    `M_T` is `None` where `M` is the identity.
    """

    tableau: Tableau = eqx.field(static=True)
    hJ_T: Float[Array, "*k m n n"]
    hJ0: Float[Array, "*k n n"] | None
    M_T: Float[Array, "*k n n"] | None = None

    def from_end(self, y1_bar: Float[Array, "n *c"]) -> Float[Array, "mn *c"]:
        """`G` for a cotangent of the end of the step."""
        d = jnp.asarray(self.tableau.d, y1_bar.dtype)
        return jnp.multiply.outer(d, y1_bar).reshape(-1, *y1_bar.shape[1:])

    def from_polynomial(self, p_bar: Float[Array, "s n"]) -> Float[Array, " mn"]:
        """`G` for cotangents of the coefficients of the step's polynomial."""
        return (jnp.asarray(self.tableau.polynomial, p_bar.dtype) @ p_bar).reshape(-1)

    def slope_cotangent(
        self, V: Float[Array, "mn *c"], p_bar: Float[Array, "s n"] | None
    ) -> Float[Array, "n *c"]:
        """The cotangent of `h f_0`, where the first stage is explicit."""
        slope = self._weighted_sum(self.tableau.explicit_weights, V)
        if p_bar is not None:
            slope = slope + jnp.asarray(self.tableau.polynomial_explicit, V.dtype) @ p_bar
        return slope

    def start_cotangent(
        self,
        y1_bar: Float[Array, "n *c"],
        G: Float[Array, "mn *c"],
        V: Float[Array, "mn *c"],
        p_bar: Float[Array, "s n"] | None,
    ) -> Float[Array, "n *c"]:
        """The cotangent of the start of the step."""
        ones = jnp.ones(self.tableau.num_stages)
        start = y1_bar - self._weighted_sum(ones, G)
        slopes = self._weighted_sum(self.tableau.A_inverse.sum(axis=1), V)
        start = start + (slopes if self.M_T is None else self.M_T @ slopes)
        if self.hJ0 is not None:
            start = start + self.hJ0.T @ self.slope_cotangent(V, p_bar)
        return start

    def _weighted_sum(self, weights: Any, V: Array) -> Array:
        weights = jnp.asarray(weights, V.dtype)
        return jnp.tensordot(weights, V.reshape(weights.size, -1, *V.shape[1:]), axes=1)


def linearize(system: StageSystem, Z: Float[Array, "m n"]) -> LinearizedStep:
    """The exact transposed equations at the stages of a solved step."""
    hJ_T = jnp.swapaxes(system.h * system.stage_jacobians(Z), -1, -2)
    hJ0 = None
    if system.hf0 is not None:
        hJ0 = system.h * system.field.jacobian(system.t0, system.y0)
    M_T = None if system.mass is None else system.mass.as_matrix().T
    return LinearizedStep(system.tableau, hJ_T, hJ0, M_T)


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
