"""The Newton matrix of a step, split into n x n systems and factored."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..tableaus import SplitTransform
from ._mass import Mass
from ._products import small_matmul
from ._structure import AbstractStructure


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
    structure: AbstractStructure

    def solve(self, R: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """Solves the stage system with one frozen Jacobian for right-hand sides `R`."""
        T, dtype = self.transform, R.dtype
        Z = jnp.zeros_like(R)
        if len(T.real):
            w = self.structure.solve(self.real, small_matmul(jnp.asarray(T.to_real, dtype), R))
            Z = Z + small_matmul(jnp.asarray(T.from_real, dtype), w)
        if len(T.pair):
            u = small_matmul(_as_complex(T.to_pair, dtype), _as_complex(R, dtype))
            u = self.structure.solve(self.pair, u)
            Z = Z + 2 * small_matmul(_as_complex(T.from_pair, dtype), u).real.astype(dtype)
        return Z

    def solve_real(self, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
        """Solves the real system `(gamma M - h J) x = rhs`."""
        return self.structure.solve(self.real, rhs[None])[0]


def factorize(
    transform: SplitTransform, hJ: Any, structure: AbstractStructure, mass: Mass | None = None
) -> SplitFactors:
    """Factors the Newton matrices for the Jacobian `hJ` (times the step)."""
    real = factor_shifted(transform.real, hJ, structure, mass)
    pair = factor_shifted(transform.pair, hJ, structure, mass)
    return SplitFactors(transform, real, pair, structure)


def factor_shifted(
    shifts: np.ndarray, hJ: Any, structure: AbstractStructure, mass: Mass | None
) -> Any:
    """Factors of `shift M - h J` for each shift."""
    if mass is None:
        return structure.factor(shifts, hJ)
    return structure.factor(shifts, hJ, structure.mass_matrix(mass))
