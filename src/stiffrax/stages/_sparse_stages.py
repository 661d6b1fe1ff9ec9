"""Sparse stage equations."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._trees import recompute_where
from ..linear_algebra import (
    LARGEST_LEFT,
    SparseMatrix,
    factor_sparse,
    least_resolved,
    refine,
    small_matmul,
    stacked_pattern,
    units_left,
)
from ..tableaus import SplitTransform
from ._mass import Mass
from ._sparsity import Sparsity
from ._stage_system import StageSystem
from ._structure import AbstractStructure, SplitFactors

# The largest residual by exact factors, in units of rounding of the largest terms. Chosen,
# not measured: a solution that is refined is right to a few units.
_LARGEST_RESIDUAL = 1e4
# Jacobians at the stages of accepted steps differ so little that an iteration takes 0.2 of the
# residual at most, and 3 to 19 of them all down to rounding (a network of 150 species at rtol 1e-3
# and 1e-6, the medical Akzo Nobel problem at 1e-4). What takes more is left to exact factors.
_MOST_ITERATIONS, _SLOWEST = 24, 0.5


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


def _slopes(hJ: SparseMatrix, V: Float[Array, "m n"]) -> Float[Array, "m n"]:
    return jax.vmap(lambda values, v: SparseMatrix(values, hJ.pattern) @ v)(hJ.values, V)


def _coupled(a: Array, M: SparseMatrix | None, V: Float[Array, "m n"]) -> Float[Array, "m n"]:
    return small_matmul(a, V if M is None else (M @ V.T).T)


@final
class StageEquations(eqx.Module):
    """`a (x) M - blockdiag(hJ_i)`."""

    a: Float[Array, "m m"]
    M: SparseMatrix | None
    hJ: SparseMatrix

    def residual(self, V: Float[Array, "m n"], G: Float[Array, "m n"]) -> tuple[Array, Array]:
        """What is left of each equation, and the sum of its terms' absolute values."""
        return G + _slopes(self.hJ, V) - _coupled(self.a, self.M, V), self.terms(V, G)

    def terms(self, V: Float[Array, "m n"], G: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """The sum of the absolute values of each equation's terms.

        Of unknowns no smaller than what is resolved: one that is flushed to zero leaves its terms.
        """
        sizes = jax.tree.map(jnp.abs, self)
        V, G = jnp.maximum(jnp.abs(V), least_resolved(V.dtype)), jnp.abs(G)
        return G + _slopes(sizes.hJ, V) + _coupled(sizes.a, sizes.M, V)


@final
class SparseStages(eqx.Module):
    r"""Stage equations for right-hand sides of all stages, by factors of the mean Jacobian.

    $$V \leftarrow V + (a \otimes M - I \otimes h \bar J)^{-1}
      (G - (a \otimes M) V + \mathrm{blockdiag}(h J_i) V)$$

    contracts by how much the Jacobians differ within the step. Its factors are those of the forward
    solve, real and complex ones of `n` rows; one of `m n` rows costs some ten times as much. Where
    it does not converge all stages are factored as one matrix. The derivative is that of the solution.
    """

    equations: StageEquations
    mean: SplitFactors

    def solve(self, rhs: Float[Array, " mn"]) -> Float[Array, " mn"]:
        """Solves for one right-hand side, all of a stage together; no number where that fails."""
        G = rhs.reshape(len(self.equations.a), -1)
        return _solve(self.equations, self.mean, G).reshape(-1)


def factor_sparse_stages(
    a: np.ndarray, transform: SplitTransform, M: SparseMatrix | None, hJ: SparseMatrix
) -> SparseStages:
    """Factors `a (x) M - blockdiag(hJ_i)`; `transform` is that of `a`."""
    pattern, dtype = hJ.pattern, hJ.values.dtype
    structure, (fixed_M, fixed) = Sparsity(pattern), jax.tree.map(lax.stop_gradient, (M, hJ))
    mean = SparseMatrix(jnp.mean(fixed.values, axis=0), pattern)
    real, pair = (structure.factor(s, mean, fixed_M) for s in (transform.real, transform.pair))
    equations = StageEquations(jnp.asarray(a, dtype), M, hJ)
    return SparseStages(equations, SplitFactors(transform, real, pair, structure))


def _iterate(
    equations: StageEquations, mean: SplitFactors, G: Float[Array, "m n"]
) -> tuple[Float[Array, "m n"], Float[Array, ""]]:
    """The solution by factors of the mean, and what it leaves in units of rounding of each row."""

    def once(state: tuple) -> tuple:
        V, rest, _ = state
        V = V + mean.solve(rest)
        return V, *equations.residual(V, G)

    def left(state: tuple) -> Array:
        _, rest, terms = state
        return units_left(rest, terms)

    first = once((jnp.zeros_like(G), G, None))
    (V, *_), size = refine(once, left, first, _MOST_ITERATIONS, _SLOWEST)
    return V, size


def _factored(equations: StageEquations, G: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """By factors of all stages as one matrix, in which the stages of an unknown follow.

    Rows are exchanged within fronts only, so that every solution is refined, and no number where
    that does not help.
    """
    a, M, hJ = equations.a, equations.M, equations.hJ
    m, pattern = len(a), hJ.pattern
    mass = jnp.asarray(pattern.is_diagonal, hJ.values.dtype) if M is None else M.values
    between = a[~np.eye(m, dtype=bool)][:, None] * mass[None]
    within = jnp.diagonal(a)[:, None] * mass[None] - hJ.values
    values = jnp.concatenate([within.reshape(-1), between.reshape(-1)])
    factors = factor_sparse(SparseMatrix(values, stacked_pattern(pattern, m)))

    def once(V: Array, rest: Array) -> Array:
        return V + factors.solve(rest.T.reshape(-1)).reshape(-1, m).T

    V = once(jnp.zeros_like(G), G)
    V = once(V, equations.residual(V, G)[0])
    rest, terms = equations.residual(V, G)
    # In the units of the scaled equations.
    units = factors.row_scales.reshape(-1, m).T
    rest, terms = jnp.max(units * jnp.abs(rest)), jnp.max(units * terms)
    holds = rest <= _LARGEST_RESIDUAL * jnp.finfo(G.dtype).eps * terms
    return jnp.where(holds, V, jnp.nan)


@jax.custom_jvp
def _solve(
    equations: StageEquations, mean: SplitFactors, G: Float[Array, "m n"]
) -> Float[Array, "m n"]:
    V, size = _iterate(equations, mean, G)
    right = size <= LARGEST_LEFT
    # No method solves for a right-hand side that is not finite.
    wrong = ~right & jnp.any(G != 0) & jnp.all(jnp.isfinite(G))
    V = recompute_where(wrong, lambda: _factored(equations, G), V)
    # A failed step has no matrix that could be solved with, and no right-hand side.
    return jnp.where(jnp.any(G != 0), jnp.where(right | wrong, V, jnp.nan), 0)


@_solve.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    equations, mean, G = primals
    equations_dot, _, G_dot = tangents
    V = _solve(equations, mean, G)
    change = G_dot + _slopes(equations_dot.hJ, V)
    if equations.M is not None:
        change = change - _coupled(equations.a, equations_dot.M, V)
    return V, _solve(equations, mean, change)
