"""A mass matrix in the pattern of a sparse Jacobian."""

import jax.numpy as jnp
from jaxtyping import Array

from ..linear_algebra import Pattern, SparseMatrix
from ._mass import Mass


def sparse_mass(mass: Mass, pattern: Pattern) -> SparseMatrix:
    """The entries of a mass matrix that the pattern has."""
    at = pattern.rows, pattern.columns
    if mass.is_diagonal:
        values = jnp.where(pattern.is_diagonal, mass.entries[pattern.rows], 0)
    else:
        values = mass.entries[at]
    return SparseMatrix(values, pattern)


def is_outside(mass: Mass, pattern: Pattern) -> Array | bool:
    """Whether a mass matrix has entries that the pattern does not have."""
    if mass.is_diagonal:
        return False
    inside = jnp.zeros(mass.entries.shape, bool).at[pattern.rows, pattern.columns].set(True)
    return jnp.any(~inside & (mass.entries != 0))
