"""The stage system of one step of a solve, from the term that diffrax hands to a solver."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from .._diffrax import unwrap_term
from ..stages import Mass, StageSystem, flat_field
from ..tableaus import Tableau
from ._mass_matrix_term import MassMatrixTerm, mass_of


def check_term(terms: Any, *, may_have_mass: bool = False) -> None:
    """Refuses terms that no stage system can be made of."""
    term = unwrap_term(terms)
    if may_have_mass and isinstance(term, MassMatrixTerm):
        return
    if not isinstance(term, diffrax.ODETerm):
        raise ValueError(
            f"A {type(term).__name__} was given to an implicit Runge-Kutta solver; it needs a "
            "`diffrax.ODETerm(vector_field)`. For a sum of stiff and non-stiff terms use "
            "`diffrax.KenCarp4`, for noise an SDE solver."
        )


def stage_system(
    tableau: Tableau, terms: Any, t0: Any, t1: Any, y0: PyTree[ArrayLike], args: Any
) -> tuple[StageSystem, Callable[[Array], PyTree]]:
    """The stage system of the step from `t0` to `t1`, and the function that restores the state."""
    check_term(terms, may_have_mass=True)
    # Stages lie between whole numbers: integers given for `t0` and `t1` would round them.
    dtype = jnp.result_type(t0, t1)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    mass, vector_field = mass_of(terms, y0), lambda t, y: terms.vf(t, y, args)
    if mass is not None and tableau.explicit_first_stage:
        # What an explicit stage gives is a derivative: the field must be one.
        vector_field, mass = _divided_by(mass, vector_field), None
    field, flat, restore = flat_field(vector_field, t0, y0)
    control = terms.contr(t0, t1)
    # The control carries the direction of time, which `t1 - t0` does not: never rebuild it.
    h = jnp.asarray(control, flat.dtype)
    hf0 = h * field(t0, flat) if tableau.explicit_first_stage else None
    return StageSystem(tableau, field, t0, t1 - t0, h, flat, hf0, mass), restore


def _divided_by(mass: Mass, vector_field: Callable) -> Callable:
    def field(t: Array, y: PyTree) -> PyTree:
        slope, restore = ravel_pytree(vector_field(t, y))
        return restore(mass.divide(slope))

    return field
