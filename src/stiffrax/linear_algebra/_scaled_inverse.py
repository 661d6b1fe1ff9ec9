"""Linear systems in any units."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact, Int

from ._products import small_matmul
from ._small_inverse import checked_inverse

# Halves the exponents that are left each time: 2^400, units 60 decades apart on both sides, to 2.
ROUNDS = 9


@final
class ScaledInverse(eqx.Module):
    r"""The inverse of `S` as $C (R S C)^{-1} R$, with powers of two in the diagonal `R` and `C`.

    An explicit inverse has errors of the size of its largest entries: of a system whose unknowns
    are in units far apart, small ones would be noise. Rows and columns of `R S C` have the size one.
    """

    scaled: Inexact[Array, "*k n n"]
    inverse: Inexact[Array, "*k n n"]
    rows: Float[Array, "*k n"]
    columns: Float[Array, "*k n"]

    def solve(
        self, b: Inexact[Array, " n"] | Inexact[Array, "*k n r"]
    ) -> Inexact[Array, " n"] | Inexact[Array, "*k n r"]:
        """Solves for a vector or all columns of `b`, with one step of iterative refinement."""
        if b.ndim == 1:
            return self.solve(b[:, None])[:, 0]
        rows, columns = (x.astype(b.dtype)[..., None] for x in (self.rows, self.columns))
        b = rows * b
        x = small_matmul(self.inverse, b)
        x = x + small_matmul(self.inverse, b - small_matmul(self.scaled, x))
        return columns * x

    def as_matrix(self) -> Inexact[Array, "*k n n"]:
        """The inverse itself."""
        rows, columns = (x.astype(self.inverse.dtype) for x in (self.rows, self.columns))
        return columns[..., None] * self.inverse * rows[..., None, :]

    @property
    def T(self) -> "ScaledInverse":
        """That of the transposed matrix."""
        scaled, inverse = (jnp.swapaxes(x, -1, -2) for x in (self.scaled, self.inverse))
        return ScaledInverse(scaled, inverse, self.columns, self.rows)

    def conj(self) -> "ScaledInverse":
        """That of the conjugate matrix."""
        return ScaledInverse(self.scaled.conj(), self.inverse.conj(), self.rows, self.columns)


def scaled_inverse(
    matrix: Inexact[Array, "*k n n"], invert: Callable[[Array], Array] = checked_inverse
) -> ScaledInverse:
    """Scales and inverts: for matrices of any units; see `checked_inverse` for the cost."""
    rows, columns = scales(matrix)
    left, right = (x.astype(matrix.dtype) for x in (rows, columns))
    scaled = left[..., None] * matrix * right[..., None, :]
    return ScaledInverse(scaled, invert(scaled), rows, columns)


def scales(matrix: Inexact[Array, "*k l n"]) -> tuple[Float[Array, "*k l"], Float[Array, "*k n"]]:
    """Powers of two for rows and columns, by which their largest entries have the size one."""
    rows, columns = (power_of_two(e, matrix.real.dtype) for e in _exponents(matrix))
    return rows, columns


def _exponents(matrix: Inexact[Array, "*k l n"]) -> tuple[Int[Array, "*k l"], Int[Array, "*k n"]]:
    """Of rows and columns: Ruiz' iteration, which divides both by the root of their largest entry."""
    size = jnp.log2(jnp.abs(matrix))

    def once(_: Array, exponents: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, columns = exponents
        left = size + rows[..., None] + columns[..., None, :]
        return rows - half_of(jnp.max(left, axis=-1)), columns - half_of(jnp.max(left, axis=-2))

    start = jnp.zeros_like(size[..., 0]), jnp.zeros_like(size[..., 0, :])
    rows, columns = lax.fori_loop(0, ROUNDS, once, start)
    return jnp.round(rows).astype(int), jnp.round(columns).astype(int)


def half_of(largest: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
    # A row of zeros, or of what is not finite, stays as it is.
    return jnp.where(jnp.isfinite(largest), largest, 0) / 2


def power_of_two(exponent: Int[Array, "*k"], dtype: jnp.dtype) -> Float[Array, "*k"]:
    # Not `exp2`, which rounds.
    return jnp.ldexp(jnp.ones((), dtype), exponent)
