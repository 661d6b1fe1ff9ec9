"""Matrices of a pattern."""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ..linear_algebra import Pattern, SparseMatrix, factor_shifted_band, factor_shifted_sparse
from ._mass import Mass
from ._probes import probe, refuse_entries_outside
from ._stage_system import FlatField
from ._structure import AbstractStructure, shifted


class AbstractPatterned(AbstractStructure):
    """A structure that knows where the Jacobian is not zero."""

    @abc.abstractmethod
    def _pattern(self, n: int) -> Pattern:
        """Where the Jacobian of `n` components is not zero."""

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> SparseMatrix:
        pattern = self._pattern(y.size)
        columns, direction, product = probe(field, t, y, pattern.groups, pattern.num_groups)
        values = columns[pattern.groups[pattern.columns], pattern.rows]
        terms = values * direction[pattern.columns]
        zero = jnp.zeros_like(y)
        sums = [zero.at[pattern.rows].add(x) for x in (terms, jnp.abs(terms))]
        values = refuse_entries_outside(self.written, values, product, *sums)
        return SparseMatrix(values, pattern)

    def mass_matrix(self, mass: Mass) -> SparseMatrix:
        pattern = self._pattern(len(mass.entries))
        if mass.is_diagonal:
            values = jnp.where(pattern.is_diagonal, mass.entries[pattern.rows], 0)
        else:
            values = mass.entries[pattern.rows, pattern.columns]
        return SparseMatrix(values, pattern)

    def leaves_out(self, mass: Mass) -> Array | bool:
        if mass.is_diagonal:
            return False
        pattern = self._pattern(len(mass.entries))
        inside = jnp.zeros(mass.entries.shape, bool).at[pattern.rows, pattern.columns].set(True)
        return jnp.any(~inside & (mass.entries != 0))

    def factor(self, shifts: np.ndarray, hJ: SparseMatrix, M: SparseMatrix | None = None) -> Any:
        of_type = [shifted(shift, hJ.values.dtype) for shift in shifts]
        if hJ.pattern.block is not None:
            return factor_shifted_band(of_type, hJ, M, hJ.pattern.block)
        return factor_shifted_sparse(of_type, hJ, M)

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        return jnp.stack([f.solve(b) for f, b in zip(factors, rhs, strict=True)])

    @property
    def has_entries(self) -> bool:
        return True

    @property
    def has_pattern(self) -> bool:
        return True

    def as_sparse(self, jacobian: SparseMatrix, n: int) -> SparseMatrix:
        return jacobian
