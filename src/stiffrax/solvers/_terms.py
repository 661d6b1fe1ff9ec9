"""What a step takes from the term of a solve: its mass, and the stage system."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, PyTree

from ..diffrax_loop import AdjointTerm, own_methods, unwrap_term
from ..stages import Mass, StageSystem, flat_mass, stage_system
from ..tableaus import Tableau
from ._mass_matrix_term import MassMatrixTerm


def check_term(terms: Any, *, may_have_mass: bool = False) -> None:
    """Refuses terms that no stage system can be made of."""
    term = unwrap_term(terms)
    if may_have_mass and isinstance(term, MassMatrixTerm):
        return
    if isinstance(term, AdjointTerm):
        raise ValueError(
            "`adjoint=diffrax.BacksolveAdjoint()` was given to a solver of stiffrax; it "
            "solves the state again back in time, which is unstable on stiff problems. Write "
            "`adjoint=stiffrax.GaussAdjoint()`, or `adjoint=stiffrax.DiscreteAdjoint()`."
        )
    if not isinstance(term, diffrax.ODETerm):
        raise ValueError(
            f"A {type(term).__name__} was given to a solver of stiffrax; it needs a "
            "`diffrax.ODETerm(vector_field)`. For a sum of stiff and non-stiff terms use "
            "`diffrax.KenCarp4`, for noise an SDE solver."
        )
    refuse_products(term)


def refuse_products(term: Any) -> None:
    """Refuses a term whose slope is multiplied in a way of its own, which steps would not do."""
    for name in own_methods(term, "prod", "vf_prod"):
        raise ValueError(
            f"A {type(term).__name__} with its own `{name}` was given to stiffrax, whose steps do not "
            "call it. Write a `vf` that returns such slopes, or `diffrax.ODETerm(vector_field)`."
        )


def mass_of(terms: Any, y: PyTree) -> Mass | None:
    """The mass of a term on the flat state; `None` for a term that has none."""
    term = unwrap_term(terms)
    if not isinstance(term, MassMatrixTerm):
        return None
    return flat_mass(term.mass, y, term.powers)


def may_be_singular(terms: Any) -> bool:
    """Whether a term has a mass matrix that is singular, or is not known to be regular."""
    return getattr(unwrap_term(terms), "singular", False) is not False


def system_of_terms(
    tableau: Tableau, terms: Any, t0: Any, t1: Any, y0: PyTree[ArrayLike], args: Any
) -> tuple[StageSystem, Callable[[Array], PyTree]]:
    """The stage system of the step from `t0` to `t1`, and the function that restores the state."""
    check_term(terms, may_have_mass=True)
    t0, dt, control = step_times(terms, t0, t1)

    def vector_field(t: Array, y: PyTree) -> PyTree:
        return terms.vf(t, y, args)

    return stage_system(tableau, vector_field, t0, dt, control, y0, mass_of(terms, y0))


def step_times(terms: Any, t0: Any, t1: Any) -> tuple[Array, Array, Any]:
    """The start of a step, its length in time, and what slopes are multiplied by."""
    # Stages lie between whole numbers: integers given for `t0` and `t1` would round them.
    dtype = jnp.result_type(t0, t1)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    # The field may jump at the end of the step: no stage may come to lie beyond it by rounding.
    dt = t1 - t0
    beyond = jnp.where((t0 + dt - t1) * jnp.sign(dt) > 0, dt * jnp.finfo(dtype).eps, 0)
    # The control carries the direction of time, which `t1 - t0` does not: never rebuild it.
    return t0, dt - lax.stop_gradient(beyond), terms.contr(t0, t1)
