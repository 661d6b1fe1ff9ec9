"""The linear equations of solved steps, plain and transposed, solved for all columns at once."""

import functools as ft
from typing import Any, TypeAlias, final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from .. import linear_algebra
from .._trees import nonzero, recompute_where, unequal_weights
from ..linear_algebra import (
    BlockFactors,
    Blocks,
    ScaledInverse,
    SparseMatrix,
    library_matmul,
    looped_inverse,
    scaled_inverse,
    small_inverse,
    stacked_columns,
)
from ..stages import (
    AbstractStructure,
    StageSystem,
    are_missing,
    refuse_missing,
    sparse_mass_matrix,
    sparse_stage_jacobians,
    stacked_mass_matrix,
    units_of,
)
from ..tableaus import SplitTransform, Tableau

# One matrix or many, of each step or of each of its stages.
Matrices: TypeAlias = Float[Array, "*k n n"] | SparseMatrix
StageMatrices: TypeAlias = Float[Array, "*k m n n"] | SparseMatrix


# What couples the stages, in the equations that are solved.
Couplings: TypeAlias = Float[Array | np.ndarray, "m m"]


def transposed(matrices: Array | SparseMatrix) -> Any:
    """Each of one matrix or many transposed."""
    return matrices.T if isinstance(matrices, SparseMatrix) else jnp.swapaxes(matrices, -1, -2)


def stacked_matrix(a: Couplings, hJ: Float[Array, "*k m n n"]) -> Float[Array, "*k mn mn"]:
    """The stage equations as one matrix."""
    identity = jnp.eye(hJ.shape[-1], dtype=hJ.dtype)
    return stacked_mass_matrix(jnp.asarray(a, hJ.dtype), identity, hJ)


def stacked(rhs: tuple[Blocks, ...]) -> Float[Array, "k mn r"]:
    """All columns of every step as one array."""
    return jax.vmap(stacked_columns)(rhs)


def blocks(columns: Float[Array, "k m n r"]) -> Blocks:
    """Columns apart for each stage."""
    return tuple(jnp.moveaxis(columns, 1, 0))


def factor_blocks(a: Couplings, hJ: Float[Array, "k m n n"]) -> BlockFactors:
    """Elimination by blocks of the stage equations; no derivative goes through it."""
    a, hJ = jnp.asarray(a, hJ.dtype), lax.stop_gradient(hJ)
    return jax.vmap(lambda hJ: linear_algebra.factor_blocks(a, hJ, looped_inverse))(hJ)


def factor_rows(matrix: Float[Array, "k mn mn"]) -> ScaledInverse:
    """The scaled inverses, with pivoting over all rows."""
    return jax.vmap(scaled_inverse)(matrix)


def _solve_rows(factors: ScaledInverse, rhs: Float[Array, "k mn r"]) -> Float[Array, "k mn r"]:
    return jax.vmap(lambda factors, b: factors.solve(b))(factors, rhs)


def unsolved(
    a: Couplings,
    hJ: Float[Array, "k m n n"],
    factors: BlockFactors,
    rhs: tuple[Blocks, ...],
) -> Bool[Array, " k"]:
    """The steps that `factors` do not solve to rounding, by one combination of all columns.

    The solution is that of `solve_all`, and computed once with it.
    """
    hJ, factors, rhs = lax.stop_gradient((hJ, factors, rhs))
    solution, columns = jax.vmap(BlockFactors.solve)(factors, rhs), stacked(rhs)
    # Columns have units of their own: each counts as much as its largest entry.
    size = jnp.max(jnp.abs(solution), axis=1, keepdims=True)
    combination = unequal_weights(columns.shape[-1], columns.dtype)[None, None]
    weights = combination / nonzero(size)
    x, b = (jnp.sum(v * weights, axis=-1).reshape(hJ.shape[:3]) for v in (solution, columns))
    a = jnp.asarray(a, columns.dtype)
    return jax.vmap(lambda hJ, x, b: ~linear_algebra.equations_hold(a, hJ, x, b))(hJ, x, b)


def rows_where(
    wrong: Bool[Array, " k"], a: Couplings, hJ: Float[Array, "k m n n"]
) -> ScaledInverse:
    """Scaled inverses of all steps if one of them is `wrong`, else only their shapes; no derivative.

    Hardly ever needed, and compiled in every gradient: once, for all right-hand sides, and with
    exchanges of rows at once, not only where a check asks for them.
    """

    def inverses(hJ: Array) -> ScaledInverse:
        invert = ft.partial(scaled_inverse, invert=small_inverse)
        return jax.vmap(invert)(stacked_matrix(a, hJ))

    def nothing(hJ: Array) -> ScaledInverse:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(inverses, hJ))

    return lax.cond(eqxi.unvmap_any(wrong), inverses, nothing, lax.stop_gradient(hJ))


@jax.custom_jvp
def solve_all(
    hJ: Float[Array, "k m n n"],
    factors: BlockFactors,
    rows: ScaledInverse,
    rhs: tuple[Blocks, ...],
    wrong: Bool[Array, " k"],
) -> Float[Array, "k mn r"]:
    """Solves the stage equations of every step, without library factorizations.

    By blocks, and by rows for those steps of which the factors are `wrong`: a pivot was close to
    singular. No derivative is taken of `factors` and `rows`, those of `hJ`.
    """
    del hJ  # Its derivative is the rule's.
    solution = jax.vmap(BlockFactors.solve)(factors, rhs)
    return recompute_where(wrong, lambda: _solve_rows(rows, stacked(rhs)), solution)


@solve_all.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    hJ, factors, rows, rhs, wrong = primals
    hJ_dot, _, _, rhs_dot, _ = tangents
    solution = solve_all(hJ, factors, rows, rhs, wrong)
    change = library_matmul(hJ_dot, solution.reshape(*hJ.shape[:3], -1))
    change = change + stacked(rhs_dot).reshape(change.shape)
    return solution, solve_all(hJ, factors, rows, (blocks(change),), wrong)


@final
class LinearizedStep(eqx.Module):
    r"""The adjoint of a step, with the exact Jacobian `J_i` of the vector field at every stage.

    Cotangents `G` of the stage increments `Z` are pulled back to the start of the step by

    $$\sum_j (A^{-1})_{ji} M^T V_j - h J_i^T V_i = G_i, \qquad
      \bar y_0 = \bar y_1 + \sum_i h J_i^T V_i
               = \bar y_1 - \sum_i G_i + M^T \sum_j r_j V_j, \quad r_j = \sum_i (A^{-1})_{ji}.$$

    The second form needs no Jacobian, and does not cancel where `h J` is huge. With an explicit
    first stage `h f_0` has a cotangent too, `w^T V` and that of the polynomial, pulled by `h J_0`.
    `M_T` is `None` where `M` is the identity. Where the Jacobian has a known pattern, all are sparse.
    """

    tableau: Tableau = eqx.field(static=True)
    hJ_T: StageMatrices
    hJ0: Matrices | None
    M_T: Matrices | None = None

    @property
    def couplings(self) -> Float[np.ndarray, "m m"]:
        """What couples the stages in these equations."""
        return self.tableau.A_inverse.T

    @property
    def transform(self) -> SplitTransform:
        """The couplings split into eigenvalues."""
        return self.tableau.transform.transposed

    @property
    def matrices(self) -> tuple[Any, Any]:
        """`h J_i^T` and `M^T`."""
        return self.hJ_T, self.M_T

    def unit_columns(self, units: Float[Array, "k n n"]) -> Blocks:
        """Right-hand sides of every step for all unit cotangents of its end."""
        # None where `d_i` is zero, at all stages but the last mostly.
        return tuple(d * units if d else None for d in self.tableau.d.tolist())

    def right_sides(self, y1_bar: Float[Array, "n *c"]) -> Float[Array, "mn *c"]:
        """`G` for a cotangent of the end of the step."""
        d = jnp.asarray(self.tableau.d, y1_bar.dtype)
        return jnp.multiply.outer(d, y1_bar).reshape(-1, *y1_bar.shape[1:])

    def from_polynomial(self, p_bar: Float[Array, "s n"]) -> Float[Array, " mn"]:
        """`G` for cotangents of the coefficients of the step's polynomial."""
        return (jnp.asarray(self.tableau.polynomial, p_bar.dtype) @ p_bar).reshape(-1)

    def slope_from_polynomial(self, p_bar: Float[Array, "s n"]) -> Float[Array, " n"]:
        """The cotangent of `h f_0` for those of the polynomial, where the first stage is explicit."""
        return jnp.asarray(self.tableau.polynomial_explicit, p_bar.dtype) @ p_bar

    def across(
        self, y1_bar: Float[Array, "n *c"], V: Float[Array, "mn *c"]
    ) -> Float[Array, "n *c"]:
        """The cotangent of the start of the step, without what enters at its polynomial."""
        tableau = self.tableau
        slopes = self._weighted_sum(tableau.A_inverse.sum(axis=1), V)
        start = (1 - tableau.d.sum()).astype(V.dtype) * y1_bar
        start = start + (slopes if self.M_T is None else self.M_T @ slopes)
        if self.hJ0 is not None:
            start = start + self.hJ0.T @ self._weighted_sum(tableau.explicit_weights, V)
        return start

    def start_from_polynomial(
        self, p_bar: Float[Array, "s n"], G: Float[Array, " mn"]
    ) -> Float[Array, " n"]:
        """What is left of it, with the `G` of the polynomial."""
        start = -self._weighted_sum(np.ones(self.tableau.num_stages), G)
        if self.hJ0 is not None:
            start = start + self.hJ0.T @ self.slope_from_polynomial(p_bar)
        return start

    def _weighted_sum(self, weights: Any, V: Array) -> Array:
        weights = jnp.asarray(weights, V.dtype)
        return jnp.tensordot(weights, V.reshape(weights.size, -1, *V.shape[1:]), axes=1)


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


def linearize(
    system: StageSystem, Z: Float[Array, "m n"], structure: AbstractStructure | None = None
) -> LinearizedStep:
    """The exact transposed equations at the stages of a solved step."""
    if structure is not None and structure.has_pattern:
        return _linearize_sparse(system, Z, structure)
    hJ_T = jnp.swapaxes(system.h * system.stage_jacobians(Z), -1, -2)
    hJ0 = None
    if system.hf0 is not None:
        hJ0 = system.h * system.field.jacobian(system.t0, system.y0)
    M_T = None if system.mass is None else system.mass.as_matrix().T
    return LinearizedStep(system.tableau, hJ_T, hJ0, M_T)


def _linearize_sparse(
    system: StageSystem, Z: Float[Array, "m n"], structure: AbstractStructure
) -> LinearizedStep:
    hJ, hJ0, M_T = sparse_stage_jacobians(system, Z, structure), None, None
    if system.hf0 is not None:
        # In no equation that could be solved again for what it leaves out.
        at, units = (system.field, system.t0, system.y0), units_of(system.y0)
        hJ0 = jax.tree.map(lambda x: system.h * x, structure.jacobian(*at))
        hJ0 = structure.as_sparse(hJ0, system.y0.size)
        missing = are_missing(hJ0, system.h, at, units, jnp.abs(units))
        hJ0 = refuse_missing(structure.written, hJ0, missing)
    if system.mass is not None:
        M_T = sparse_mass_matrix(system.mass, structure).T
    return LinearizedStep(system.tableau, hJ.T, hJ0, M_T)


def stacked_mass_matrices(
    a: Couplings, hJ: Float[Array, "k m n n"], M: Float[Array, "k n n"]
) -> Float[Array, "k mn mn"]:
    """The stage equations of each step as one matrix."""
    a = jnp.asarray(a, hJ.dtype)
    return jax.vmap(lambda M, hJ: stacked_mass_matrix(a, M, hJ))(M, hJ)


@jax.custom_jvp
def solve_by_rows(
    matrix: Float[Array, "k mn mn"], factors: ScaledInverse, rhs: Float[Array, "k mn r"]
) -> Float[Array, "k mn r"]:
    """Solves for all columns of every step with `factors` of its matrix, which have no derivative.

    With a mass matrix, which may have no inverse, rows are exchanged across stages.
    """
    del matrix  # Its derivative is the rule's.
    return _solve_rows(factors, rhs)


@solve_by_rows.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    matrix, factors, rhs = primals
    matrix_dot, _, rhs_dot = tangents
    x = solve_by_rows(matrix, factors, rhs)
    return x, solve_by_rows(matrix, factors, rhs_dot - library_matmul(matrix_dot, x))
