"""Factors of one matrix whose solutions nothing corrects, tried on a right-hand side."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._trees import nonzero, unequal_weights
from ..linear_algebra import largest_size, library_matmul, probed_inverse, scaled_inverse
from ._mass import Mass
from ._probes import refuse_missing
from ._stage_system import FlatField
from ._structure import AbstractStructure, Dense, factor_shifted

# Units of rounding of its terms up to which what a field adds to a row is none of an entry. Chosen,
# not measured.
_ROUNDING = 64


def checked_factors(
    shift: float,
    h: Float[Array, ""],
    jacobian: Any,
    structure: AbstractStructure,
    mass: Mass | None,
    at: tuple[FlatField, Array, Float[Array, " n"]],
) -> Any:
    """Factors of one real `shift M - h J`, whose solutions nothing corrects.

    `at`: the vector field, and where the Jacobian was taken. The solution for a right-hand side of
    the size of the state is tried: where rows were not exchanged it may be no solution, and where a
    structure has left out an entry none of the field. Then there are no factors, and an error.
    """
    hJ, y = structure.scaled(h, jacobian), at[2]
    probe = unequal_weights(y.size, y.dtype) * units_of(y)
    dense = isinstance(structure, Dense)
    if dense and structure.linear_solver is None:
        return _inverse(shift, hJ, mass, probe)[None]
    factors = factor_shifted(np.array([shift]), hJ, structure, mass)
    rhs = shift * _times_mass(mass, probe)
    x = structure.solve(factors, rhs[None])[0]
    entries = structure.as_sparse(hJ, y.size)
    ok = _is_solution(shift, entries, mass, x, rhs)
    if not dense:
        missing = are_missing(entries, h, at, x, jnp.abs(rhs))
        ok = refuse_missing(structure.written, ok & ~jnp.any(missing), missing)
    return jax.tree.map(
        lambda f: jnp.where(ok, f, jnp.nan) if eqx.is_inexact_array(f) else f, factors
    )


def _inverse(
    shift: float, hJ: Float[Array, "n n"], mass: Mass | None, probe: Float[Array, " n"]
) -> Float[Array, "n n"]:
    if mass is not None:
        return scaled_inverse(shift * mass.as_matrix() - hJ).as_matrix()
    diagonal = jnp.asarray(shift * np.eye(probe.size), probe.dtype)
    return probed_inverse(diagonal - hJ, probe)


def _is_solution(
    shift: float, hJ: Any, mass: Mass | None, x: Float[Array, " n"], rhs: Float[Array, " n"]
) -> Bool[Array, ""]:
    """Whether `x` solves `(shift M - h J) x = rhs` to half of all digits."""
    slopes = library_matmul(hJ, x) if isinstance(hJ, Array) else hJ @ x
    shifted = shift * _times_mass(mass, x)
    terms = jnp.abs(rhs) + jnp.abs(shifted) + jax.tree.map(jnp.abs, hJ) @ jnp.abs(x)
    rest = jnp.abs(rhs - shifted + slopes)
    return jnp.all(rest <= jnp.sqrt(jnp.finfo(x.dtype).eps) * terms)


def _times_mass(mass: Mass | None, x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x if mass is None else mass.times(x)


def are_missing(
    hJ: Any,
    h: Float[Array, ""],
    at: tuple[FlatField, Array, Float[Array, " n"]],
    x: Float[Array, " n"],
    size: Float[Array, " n"],
) -> Bool[Array, " n"]:
    """The rows in which the field adds more to a product than the root of a unit of `size`.

    And more than rounding of the row, which may be far larger than what a step resolves.
    """
    field, t, y = at
    product, eps = h * jax.jvp(lambda y: field(t, y), (y,), (x,))[1], jnp.finfo(y.dtype).eps
    terms = jax.tree.map(jnp.abs, hJ) @ jnp.abs(x)
    return jnp.abs(product - hJ @ x) > jnp.sqrt(eps) * size + _ROUNDING * eps * terms


def units_of(y0: Float[Array, " n"]) -> Float[Array, " n"]:
    """The state in units of its largest component, without what is zero or could become it.

    A probe that leaves out a component says nothing of its pivot, and compiled programs flush to
    zero what a stiff row leaves of one that has decayed to nearly nothing.
    """
    size, least = largest_size(y0), jnp.finfo(y0.dtype).eps ** 2
    units = y0 / nonzero(size).astype(y0.dtype)
    return jnp.where(y0 == 0, 1, jnp.where(jnp.abs(units) < least, least, units)).astype(y0.dtype)
