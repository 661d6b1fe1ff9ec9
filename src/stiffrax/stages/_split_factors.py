"""The Newton matrix of a step, split into n x n systems and factored."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Inexact

from ..tableaus import SplitTransform
from ._products import small_matmul
from ._small_inverse import small_inverse


def _as_complex(matrix: Any, dtype: Any) -> Array:
    return jnp.asarray(matrix).astype(jnp.result_type(dtype, jnp.complex64))


@final
class SplitFactors(eqx.Module):
    r"""Factors of $A^{-1} \otimes M - I \otimes h J$, by the eigenvectors of $A^{-1}$.

    One real system $\gamma M - h J$ for each real eigenvalue and one complex system
    $\lambda M - h J$ for each pair replace the stacked system of `m n` unknowns.
    """

    transform: SplitTransform = eqx.field(static=True)
    real: Any
    pair: Any
    linear_solver: lx.AbstractLinearSolver | None

    def solve(self, R: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """Solves the stage system with one frozen Jacobian for right-hand sides `R`."""
        T, dtype = self.transform, R.dtype
        Z = jnp.zeros_like(R)
        if len(T.real):
            w = self._solve_each(self.real, small_matmul(jnp.asarray(T.to_real, dtype), R))
            Z = Z + small_matmul(jnp.asarray(T.from_real, dtype), w)
        if len(T.pair):
            u = small_matmul(_as_complex(T.to_pair, dtype), _as_complex(R, dtype))
            u = self._solve_each(self.pair, u)
            Z = Z + 2 * small_matmul(_as_complex(T.from_pair, dtype), u).real.astype(dtype)
        return Z

    def solve_real(self, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
        """Solves the real system `(gamma M - h J) x = rhs`."""
        return self._solve_each(self.real, rhs[None])[0]

    def _solve_each(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        if self.linear_solver is None:
            return small_matmul(factors, rhs[..., None])[..., 0]
        solver = self.linear_solver
        return jnp.stack([solver.compute(f, b, {})[0] for f, b in zip(factors, rhs, strict=True)])


def factorize(
    transform: SplitTransform,
    hJ: Float[Array, "n n"],
    linear_solver: lx.AbstractLinearSolver | None,
) -> SplitFactors:
    """Factors the Newton matrices for the Jacobian `hJ` (times the step).

    Without a `linear_solver` the factors are explicit inverses: at the sizes stiffrax is made for
    a product costs a fraction of a triangular solve. With one, every system goes to that solver.
    """
    identity = jnp.eye(hJ.shape[0], dtype=hJ.dtype)
    real = jnp.asarray(transform.real, hJ.dtype)[:, None, None] * identity - hJ
    complex_hJ = _as_complex(hJ, hJ.dtype)
    pair = _as_complex(transform.pair, hJ.dtype)[:, None, None] * identity - complex_hJ

    def factor(matrices: Array) -> Any:
        if linear_solver is None:
            return small_inverse(matrices) if len(matrices) else matrices
        return [linear_solver.init(lx.MatrixLinearOperator(matrix), {}) for matrix in matrices]

    return SplitFactors(transform, factor(real), factor(pair), linear_solver)
