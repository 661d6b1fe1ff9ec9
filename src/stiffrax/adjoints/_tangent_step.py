"""Equations that push tangents ahead."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..tableaus import SplitTransform, Tableau
from ._linearized_step import (
    Blocks,
    LinearizedStep,
    Matrices,
    StageMatrices,
    blocks,
    transposed,
)


@final
class TangentStep(eqx.Module):
    r"""The derivative of a step, with the exact Jacobian `J_i` of the vector field at every stage.

    For tangents $\dot U_i = \dot y_0 + \dot Z_i$ of the states of the stages, and `S` what
    parameters and times add to the equations,

    $$\sum_j (A^{-1})_{ij} M \dot U_j - h J_i \dot U_i = r_i M \dot y_0 + w_i h J_0 \dot y_0 + S_i,
      \quad r_i = \sum_j (A^{-1})_{ij}, \qquad
      \dot y_1 = (1 - \sum_i d_i) \dot y_0 + \sum_i d_i \dot U_i.$$

    States and not increments: no Jacobian is on the right, and nothing cancels where `h J` is huge.
    """

    tableau: Tableau = eqx.field(static=True)
    hJ: StageMatrices
    hJ0: Matrices | None
    M: Matrices | None

    @staticmethod
    def of(step: LinearizedStep) -> "TangentStep":
        """From the transposed equations, of one step or of many."""
        M = None if step.M_T is None else transposed(step.M_T)
        return TangentStep(step.tableau, transposed(step.hJ_T), step.hJ0, M)

    @property
    def couplings(self) -> Float[np.ndarray, "m m"]:
        """What couples the stages in these equations."""
        return self.tableau.A_inverse

    @property
    def transform(self) -> SplitTransform:
        """The couplings split into eigenvalues."""
        return self.tableau.transform

    @property
    def matrices(self) -> tuple[Any, Any]:
        """`h J_i` and `M`."""
        return self.hJ, self.M

    def unit_columns(self, units: Float[Array, "k n n"]) -> Blocks:
        """Right-hand sides of every step for all unit tangents of its start."""
        k, n, _ = units.shape
        columns = jax.vmap(lambda step, unit: step.right_sides(unit))(self, units)
        return blocks(columns.reshape(k, -1, n, n))

    def right_sides(self, y0: Float[Array, "n *c"]) -> Float[Array, "mn *c"]:
        """Those of the stages for a tangent of the start."""
        sums = jnp.asarray(self.tableau.A_inverse.sum(axis=1), y0.dtype)
        rows = jnp.multiply.outer(sums, y0 if self.M is None else self.M @ y0)
        if self.hJ0 is not None:
            w = jnp.asarray(self.tableau.explicit_weights, y0.dtype)
            rows = rows + jnp.multiply.outer(w, self.hJ0 @ y0)
        return rows.reshape(-1, *y0.shape[1:])

    def across(self, y0: Float[Array, "n *c"], U: Float[Array, "mn *c"]) -> Float[Array, "n *c"]:
        """The tangent of the end of the step."""
        tableau = self.tableau
        d = jnp.asarray(tableau.d, y0.dtype)
        U = U.reshape(d.size, -1, *U.shape[1:])
        return (1 - tableau.d.sum()).astype(y0.dtype) * y0 + jnp.tensordot(d, U, axes=1)

    def polynomial(
        self, y0: Float[Array, " n"], U: Float[Array, "m n"], slope: Float[Array, " n"] | None
    ) -> Float[Array, "s n"]:
        """The tangents of its coefficients; `slope` is what parameters and times add to `h f_0`."""
        p = jnp.asarray(self.tableau.polynomial.T, y0.dtype) @ (U - y0[None])
        if self.hJ0 is not None:
            weights = jnp.asarray(self.tableau.polynomial_explicit, y0.dtype)
            change = self.hJ0 @ y0
            change = change if slope is None else change + slope
            p = p + jnp.multiply.outer(weights, change)
        return p
