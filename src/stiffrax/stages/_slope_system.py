"""The stage equations of a method whose coefficients are traced, in terms of slopes."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from ._products import small_matmul
from ._small_inverse import small_inverse
from ._stage_system import FlatField


@final
class SlopeSystem(eqx.Module):
    r"""One step's equations for the scaled slopes `K`, as a residual:

    $$R_i(K) = K_i - h f(t_0 + c_i h, y_0 + \sum_j a_{ij} K_j)$$

    Slopes, not increments `Z = A K`: a trainable `A` may be singular, and is where a stage is
    explicit. What a stiff problem amplifies in `f` the linear solve divides out again.
    """

    A: Float[Array, "m m"]
    c: Float[Array, " m"]
    field: FlatField
    t0: Shaped[Array, ""]
    dt: Shaped[Array, ""]
    h: Float[Array, ""]
    y0: Float[Array, " n"]

    @property
    def times(self) -> Float[Array, " m"]:
        """Times of the stages."""
        return self.t0 + self.c.astype(self.t0.dtype) * self.dt

    def states(self, K: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """The states of the stages."""
        return self.y0 + small_matmul(self.A, K)

    def residual(self, K: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """`R(K)` above."""
        return K - self.h * jax.vmap(self.field)(self.times, self.states(K))

    def stage_jacobians(self, K: Float[Array, "m n"]) -> Float[Array, "m n n"]:
        """The exact Jacobian of the vector field at every stage."""
        return jax.vmap(self.field.jacobian)(self.times, self.states(K))

    def solve_linearized(
        self, K: Float[Array, "m n"], rhs: Float[Array, "m n"], ok: Shaped[Array, ""] | bool = True
    ) -> Float[Array, "m n"]:
        """Solves dR/dK V = rhs with the exact Jacobians at the stages; zero where not `ok`."""
        hJ = self.h * jnp.where(ok, self.stage_jacobians(K), 0)
        A, rhs = jnp.where(ok, self.A, 0), jnp.where(ok, rhs, 0)

        def product(V: Array) -> Array:
            return V - jnp.einsum("ikl,il->ik", hJ, A @ V)

        matrix = lax.stop_gradient(_stacked(A, hJ))
        # Inverted once: the same inverse serves a solve and its transpose.
        inverse = lax.stop_gradient(small_inverse(matrix))
        return lax.custom_linear_solve(
            product,
            rhs,
            lambda _, b: _refined(matrix, inverse, b),
            lambda _, b: _refined(matrix.T, inverse.T, b),
        )


def _stacked(A: Float[Array, "m m"], hJ: Float[Array, "m n n"]) -> Float[Array, "mn mn"]:
    """`I - (a_ij h J_i)` as one matrix."""
    m, n = hJ.shape[:2]
    blocks = A[:, None, :, None] * hJ[:, :, None, :]
    return jnp.eye(m * n, dtype=hJ.dtype) - blocks.reshape(m * n, m * n)


def _refined(matrix: Array, inverse: Array, rhs: Array) -> Array:
    b = rhs.reshape(-1, 1)
    x = small_matmul(inverse, b)
    return (x + small_matmul(inverse, b - small_matmul(matrix, x))).reshape(rhs.shape)
