"""Factors in single precision for an iteration in double precision."""

from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._mass import Mass
from ._stage_system import FlatField
from ._structure import AbstractStructure


def _single(tree: Any) -> Any:
    def narrow(x: Any) -> Any:
        if x.dtype == jnp.float64:
            return x.astype(jnp.float32)
        return x.astype(jnp.complex64) if x.dtype == jnp.complex128 else x

    return jax.tree.map(narrow, tree)


@final
class SingleFactors(AbstractStructure):
    """A structure whose matrices are factored and solved in single precision.

    Residuals and increments keep their precision: a factor that is wrong by single rounding makes
    the simplified Newton iteration contract a little more slowly, not end elsewhere.
    """

    structure: AbstractStructure

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Any:
        return self.structure.jacobian(field, t, y)

    def scaled(self, h: Array, jacobian: Any) -> Any:
        return self.structure.scaled(h, jacobian)

    def mass_matrix(self, mass: Mass) -> Any:
        return self.structure.mass_matrix(mass)

    def leaves_out(self, mass: Mass) -> Any:
        return self.structure.leaves_out(mass)

    def factor(self, shifts: np.ndarray, hJ: Any, M: Any = None) -> Any:
        if M is None:
            return self.structure.factor(shifts, _single(hJ))
        return self.structure.factor(shifts, _single(hJ), _single(M))

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        # Increments far below one are ordinary in double precision and vanish in single.
        size = jnp.max(jnp.abs(rhs), axis=-1, keepdims=True, initial=0.0)
        size = jnp.where(size > 0, size, 1)
        return size * self.structure.solve(factors, _single(rhs / size)).astype(rhs.dtype)
