"""What must hold of method, structure and start where there is a mass matrix."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, PyTree

from .._diffrax import enclosing_solve_throws, unwrap_term
from ..stages import (
    AbstractStructure,
    Dense,
    ErrorTolerance,
    Mass,
    StageSystem,
    factor_shifted,
    stop_gradient,
)
from ..tableaus import Tableau

_VIOLATED = (
    "The start violates the constraints of the mass matrix at `t0`: some component would have to "
    "jump. Write `y0 = stiffrax.consistent_initial_values(term, t0, y0, args)`."
)
_UNDAMPED = (
    "`{solver}` was given a singular mass matrix; it does not damp errors of algebraic components, "
    "which need a method that is stiffly accurate. Write `stiffrax.RadauIIA5()`."
)
_LEFT_OUT = (
    "The mass matrix has entries outside of `structure={structure}(...)`; Jacobian and mass must "
    "both have that structure. Write `structure=stiffrax.Dense()`."
)


def check_mass(
    name: str, tableau: Tableau, structure: AbstractStructure, term: Any, mass: Mass
) -> None:
    """Refuses what is known to go wrong before anything is computed."""
    damps = tableau.stiffly_accurate and not tableau.explicit_first_stage
    if term.singular and not damps:
        raise ValueError(_UNDAMPED.format(solver=name))
    if tableau.explicit_first_stage and not (mass.is_diagonal or isinstance(structure, Dense)):
        raise ValueError(
            f"`{name}(structure={type(structure).__name__}(...))` was given a mass matrix that is "
            "not diagonal; its explicit first stage needs `M^-1`, which has no structure. Write "
            "`structure=stiffrax.Dense()`, or `stiffrax.RadauIIA5`."
        )


def check_start(
    solver: Any,
    system: StageSystem,
    mass: Mass,
    terms: Any,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
) -> Bool[Array, ""]:
    """Whether a solve may start at `y0`; raises for what is wrong, if the solve raises at all.

    For algebraic components `(gamma M - h J)^-1 h g` is the Newton correction that would bring the
    constraints `g` to zero: it must be within the tolerance, or close to rounding.
    """
    system, mass, tableau = stop_gradient((system, mass, solver.tableau))
    throws = enclosing_solve_throws()
    fits = ~jnp.asarray(structure.leaves_out(mass))
    damps = tableau.stiffly_accurate and not tableau.explicit_first_stage
    able = jnp.asarray(True)
    if not damps and unwrap_term(terms).singular is None:
        able = ~mass.is_singular()
    consistent = jnp.asarray(True)
    if damps and unwrap_term(terms).singular is not False:
        consistent = _is_consistent(system, mass, tolerance, structure)
    if throws:
        name = type(structure).__name__
        consistent = eqx.error_if(consistent, ~fits, _LEFT_OUT.format(structure=name))
        message = _UNDAMPED.format(solver=type(solver).__name__)
        consistent = eqx.error_if(consistent, ~able, message)
        consistent = eqx.error_if(consistent, ~consistent, _VIOLATED)
    return consistent & fits & able


def _is_consistent(
    system: StageSystem,
    mass: Mass,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
) -> Bool[Array, ""]:
    h, f = system.h, system.field(system.t0, system.y0)
    violation = f - mass.in_range(f)
    gamma = np.array([system.tableau.gamma])
    # Library factorizations that run side by side may wait for each other for ever.
    h, violation = lax.optimization_barrier((h, violation))
    hJ = structure.scaled(h, structure.jacobian(system.field, system.t0, system.y0))
    factors = factor_shifted(gamma, hJ, structure, mass)
    correction = structure.solve(factors, (h * violation)[None])[0]
    correction = jnp.abs(correction) * mass.error_weights(h)
    size = jnp.abs(system.y0)
    eps = jnp.finfo(size.dtype).eps
    # Without a tolerance, what another precision would have rounded passes.
    relative = eps**0.25 * size if tolerance is None else tolerance.scale / tolerance.ratio
    allowed = relative + jnp.sqrt(eps) * jnp.max(size) + eps
    return jnp.all(correction <= allowed) | jnp.all(violation == 0)


def typical_slope(terms: Any, mass: Mass, t0: Any, y0: PyTree, args: PyTree) -> PyTree:
    """A derivative of the size of `y'`, for the choice of the first step."""
    slope, restore = ravel_pytree(terms.vf(t0, y0, args))
    return restore(mass.typical_slope(slope))


def end_at_once(
    consistent: Bool[Array, ""], error: PyTree, result: diffrax.RESULTS
) -> tuple[PyTree, diffrax.RESULTS]:
    """A step that ends the solve: one that is kept, with a failing code."""
    if error is not None:
        error = jax.tree.map(lambda x: jnp.where(consistent, x, 0), error)
    failed: Any = diffrax.RESULTS.nonlinear_divergence
    return error, diffrax.RESULTS.where(consistent, result, failed)
