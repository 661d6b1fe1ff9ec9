"""The stage equations with the exact Jacobian at every stage, where its pattern is known."""

import functools as ft
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._mass import Mass
from ._sparse_matrix import Pattern, SparseFactors, SparseMatrix, factor_sparse, stacked_pattern
from ._stage_system import StageSystem
from ._structure import AbstractStructure

# The largest residual after a refinement, in units of rounding of its largest terms. Chosen, not
# measured: a solution that is refined is right to a few units.
_LARGEST_RESIDUAL = 1e4


def sparse_stage_jacobians(
    system: StageSystem, Z: Float[Array, "m n"], structure: AbstractStructure
) -> SparseMatrix:
    """`h` times the Jacobian of the vector field at every stage, as entries of one pattern."""

    def one(t: Array, y: Array) -> SparseMatrix:
        jacobian = structure.jacobian(system.field, t, y)
        return structure.as_sparse(jax.tree.map(lambda x: system.h * x, jacobian), y.size)

    return jax.vmap(one)(system.times, system.states(Z))


def sparse_mass_matrix(mass: Mass, structure: AbstractStructure) -> SparseMatrix:
    """A mass matrix as entries of the pattern."""
    return structure.as_sparse(structure.mass_matrix(mass), len(mass.entries))


@final
class SparseStages(eqx.Module):
    """Stage equations that are factored, for right-hand sides of all stages.

    Rows are exchanged within fronts only: every solution is refined, and no number where that does
    not help. Its derivative is that of the solution.
    """

    matrix: SparseMatrix
    factors: SparseFactors
    num_stages: int = eqx.field(static=True)

    def solve(self, rhs: Float[Array, " mn"]) -> Float[Array, " mn"]:
        """Solves for one right-hand side, all of a stage together."""
        x = rhs.reshape(self.num_stages, -1).T.reshape(-1)
        x = _solve(self.matrix.pattern, self.matrix.values, self.factors, x)
        return x.reshape(-1, self.num_stages).T.reshape(-1)


def factor_sparse_stages(
    a: Float[Array, "m m"], M: SparseMatrix | None, hJ: SparseMatrix
) -> SparseStages:
    """Factors `a (x) M - blockdiag(hJ_i)` as one matrix, in which the stages of an unknown follow."""
    m, pattern, dtype = len(a), hJ.pattern, hJ.values.dtype
    mass = jnp.asarray(pattern.is_diagonal, dtype) if M is None else M.values
    between = a[~np.eye(m, dtype=bool)][:, None] * mass[None]
    within = jnp.diagonal(a)[:, None] * mass[None] - hJ.values
    values = jnp.concatenate([within.reshape(-1), between.reshape(-1)])
    matrix = SparseMatrix(values, stacked_pattern(pattern, m))
    return SparseStages(matrix, factor_sparse(jax.tree.map(lax.stop_gradient, matrix)), m)


@ft.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solve(pattern: Pattern, values: Array, factors: SparseFactors, rhs: Array) -> Array:
    matrix = SparseMatrix(values, pattern)
    x = factors.solve(rhs)
    x = x + factors.solve(rhs - matrix @ x)
    # In the units of the scaled equations.
    units, terms = factors.row_scales, values * x[pattern.columns]
    rest, given = (jnp.max(jnp.abs(units * v)) for v in (rhs - matrix @ x, rhs))
    size = jnp.maximum(jnp.max(jnp.abs(units[pattern.rows] * terms)), given)
    return jnp.where(rest <= _LARGEST_RESIDUAL * jnp.finfo(x.dtype).eps * size, x, jnp.nan)


@_solve.defjvp
def _(pattern: Pattern, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    values, factors, rhs = primals
    values_dot, _, rhs_dot = tangents
    x = _solve(pattern, values, factors, rhs)
    change = rhs_dot - SparseMatrix(values_dot, pattern) @ x
    return x, _solve(pattern, values, factors, change)
