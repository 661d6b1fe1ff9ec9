"""Initial values that satisfy the constraints, given or made."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._flat_state import flatten_state, parts_of_state
from .._trees import along_rows, is_traced, passing_on, unequal_weights
from ..diffrax_loop import enclosing_adjoint, enclosing_solve_throws, unwrap_term
from ..linear_algebra import scaled_inverse, scales
from ..stages import (
    AbstractStructure,
    Dense,
    ErrorTolerance,
    FlatField,
    Mass,
    MatrixFree,
    RosenbrockSystem,
    StageSystem,
    factor_shifted,
    flat_field,
    flat_mass,
    stop_gradient,
)
from ..tableaus import RosenbrockTableau, Tableau
from ._mass_matrix_term import MassMatrixTerm

_VIOLATED = (
    "The start violates the constraints of the mass matrix at `t0`: some component would have to "
    "jump. Write `y0 = stiffrax.consistent_initial_values(term, t0, y0, args)`."
)
_UNDAMPED = (
    "`{solver}` was given a singular mass matrix; it does not damp errors of algebraic components, "
    "which need a method that is stiffly accurate. Write `stiffrax.RadauIIA5()`."
)
_IMPLICIT = (
    "`adjoint=diffrax.ImplicitAdjoint()` was given with a mass matrix that is singular, or not known "
    "to be regular; it differentiates slopes, and algebraic components have none. Write "
    "`adjoint=stiffrax.DiscreteAdjoint()`, and a number for `max_steps`."
)
_LEFT_OUT = (
    "The mass matrix has entries outside of `structure={structure}`; Jacobian and mass must "
    "both have that structure. Write `structure=stiffrax.Dense()`."
)
_UNFACTORED = (
    "The matrix of a step could not be factored in `structure={structure}`, which exchanges few rows. "
    "Write each constraint in the row of a component that it determines, or "
    "`structure=stiffrax.Dense()`."
)


def check_mass(
    name: str,
    tableau: Tableau | RosenbrockTableau,
    structure: AbstractStructure,
    term: Any,
    mass: Mass,
) -> None:
    """Refuses what is known to go wrong before anything is computed."""
    damps = tableau.stiffly_accurate and not tableau.explicit_first_stage
    if term.singular and not damps:
        raise ValueError(_UNDAMPED.format(solver=name))
    if term.singular is not False and isinstance(enclosing_adjoint(), diffrax.ImplicitAdjoint):
        raise ValueError(_IMPLICIT)
    if tableau.explicit_first_stage and not (mass.is_diagonal or isinstance(structure, Dense)):
        raise ValueError(
            f"`{name}(structure={type(structure).__name__}(...))` was given a mass matrix that is "
            "not diagonal; its explicit first stage needs `M^-1`, which has no structure. Write "
            "`structure=stiffrax.Dense()`, or `stiffrax.RadauIIA5`."
        )


def projected(term: Any, mass: Mass) -> Mass:
    """The mass with its projector, outside of differentiation; without, if it has an inverse."""
    return stop_gradient(mass if term.singular is False else mass.with_projector())


def check_start(
    solver: Any,
    system: StageSystem | RosenbrockSystem,
    mass: Mass,
    terms: Any,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
    gamma: float,
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
    consistent, factored = jnp.asarray(True), jnp.asarray(True)
    if damps and unwrap_term(terms).singular is not False:
        consistent, factored = is_consistent(system, mass, tolerance, structure, gamma)
    if throws:
        left_out = _LEFT_OUT.format(structure=structure.written)
        consistent = eqx.error_if(consistent, ~fits, left_out)
        message = _UNDAMPED.format(solver=type(solver).__name__)
        consistent = eqx.error_if(consistent, ~able, message)
        unfactored = _UNFACTORED.format(structure=structure.written)
        consistent = eqx.error_if(consistent, ~factored, unfactored)
        consistent = eqx.error_if(consistent, ~consistent, _VIOLATED)
    return consistent & factored & fits & able


def is_consistent(
    system: StageSystem | RosenbrockSystem,
    mass: Mass,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
    gamma: float,
    before: Float[Array, " n"] | None = None,
) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether the constraints hold, or hold as well as with the slope `before`, and whether a sparse
    structure has factors to tell by."""
    # A first step has no length where the solve has none, or starts just before a jump.
    h, f = jnp.where(system.h == 0, 1, system.h), system.field(system.t0, system.y0)
    violation = mass.out_of_range(f)
    # Library factorizations side by side may wait for each other for ever.
    h, violation = lax.optimization_barrier((h, violation))
    hJ = structure.scaled(h, structure.jacobian(system.field, system.t0, system.y0))
    factors = factor_shifted(np.array([gamma]), hJ, structure, mass)
    change = _change_of(lambda y: system.field(system.t0, y), system.y0)

    def correct(x: Array) -> Array:
        return jnp.abs(structure.solve(factors, (h * x)[None])[0])

    # What a change of the whole state would move these components by: a size in their units.
    correction, moved = correct(violation), correct(mass.out_of_range(change))
    if before is not None:
        correction = jnp.minimum(correction, correct(mass.out_of_range(f - before)))
    size = jnp.abs(system.y0)
    eps = jnp.finfo(size.dtype).eps
    # Without a tolerance, what single precision would have rounded passes.
    rounded = max(1e-4, 100 * float(eps)) * size
    relative = rounded if tolerance is None else tolerance.scale / tolerance.ratio
    allowed = relative + jnp.sqrt(eps) * size + 100 * eps * moved
    holds = jnp.all(correction * mass.error_weights(h) <= allowed) | jnp.all(violation == 0)
    # A step that starts where the field or its Jacobian is not finite fails for that reason.
    # Without a matrix its product: among the leaves is all that the field closes over.
    parts = [change] if isinstance(structure, MatrixFree) else jax.tree.leaves(hJ)
    entries = jnp.concatenate([f, *(x.reshape(-1) for x in parts)])
    fails = ~jnp.all(jnp.isfinite(entries))
    patterned = getattr(structure, "structure", structure).has_pattern
    factored = jnp.all(jnp.isfinite(correction)) | (not patterned)
    return holds | fails, factored | fails


def _change_of(function: Callable[[Array], Array], y: Float[Array, " n"]) -> Array:
    """The change of a function where each component changes by a different part of itself."""
    return jax.jvp(function, (y,), (unequal_weights(y.size, y.dtype) * y,))[1]


def typical_slope(terms: Any, mass: Mass, t0: Any, y0: PyTree, args: PyTree) -> PyTree:
    """`y'`; where the mass may be singular something of its size, for the choice of the first step."""
    slope, restore = flatten_state(terms.vf(t0, y0, args))
    regular = unwrap_term(terms).singular is False
    return restore(mass.divider()(slope) if regular else mass.typical_slope(slope))


# The damped Newton iteration: the most steps, and parts of a step to try. Chosen, not measured.
_ITERATIONS = 100
_DAMPING = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01)
_HIGHER_INDEX = (
    "The constraints do not determine the algebraic components at any point near `y0`, to the digits "
    "of {dtype}: the index is above 1, or they are nearly dependent. Differentiate the constraints "
    "by hand until they do, or give consistent values of your own and "
    "`MassMatrixTerm(..., index=...)`; nearly dependent ones need double precision."
)
_SINGULAR = (
    "The Jacobian of the constraints with respect to the free components is singular at the start, "
    "though not everywhere near it. Start from another guess of the algebraic components, or "
    "hold others with `fixed=`."
)
_NO_ROOT = (
    "No values of the free components were found at which the constraints hold. Start from a better "
    "guess of them, or hold others with `fixed=`."
)


def consistent_initial_values(
    term: Any, t0: Any, y0: PyTree, args: PyTree = None, *, fixed: PyTree = None
) -> PyTree:
    r"""Moves algebraic components so that the constraints hold at the start.

    With `U` a basis of the left null space of `M`, and `E` one of its null space,

    $$U^T f(t_0, y_0 + E \delta, \mathrm{args}) = 0$$

    is solved for $\delta$ by a damped Newton iteration; differential components stay. For index 1 a
    consistent start needs no more.

    **Arguments:**

    - `term`: the vector field with its mass matrix, known while tracing.
    - `t0`, `y0`: where to start; `y0` is the first guess of what is free.
    - `args`: passed to the vector field.
    - `fixed`: `True` for components to hold, `False` for as many as there are constraints; a
      boolean array or pytree like `y0`. By default the null space of `M` is free.

    **Returns:** the state, in the structure of `y0`. Derivatives with respect to `t0`, `y0`, `args`
    and what the vector field closes over are those of the implicit function theorem, to second order.

    **Raises:** `ValueError` for a `fixed` that does not leave as many components free as there are
    constraints, and where it or the mass is traced. When run: an error where the index is above 1,
    the Jacobian of the constraints singular, or no root found.

    Cost: a Jacobian and a factorization an iteration.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> problem = srx.problems.robertson_dae()
    >>> term = srx.MassMatrixTerm(problem.vector_field, problem.mass)
    >>> print(srx.consistent_initial_values(term, 0.0, jnp.array([0.7, 0.1, 0.0])))
    [0.7 0.1 0.2]

    ```
    """
    U, E = _bases(term, y0, fixed)
    if U.shape[1] == 0:
        return y0
    t0 = jnp.asarray(t0, jnp.result_type(float, t0))
    field, flat, restore = flat_field(lambda t, y: term.vf(t, y, args), t0, y0)
    U, E = jnp.asarray(U, flat.dtype), jnp.asarray(E, flat.dtype)
    frozen = stop_gradient((field, t0, flat))
    root, inverse, singular, converged = _found(frozen, U, E)
    y = _corrected(field, t0, flat, root, inverse, U, E)
    # Not a rounding error of this one point: the same all around it.
    size, weights = jnp.max(jnp.abs(y)), unequal_weights(y.size, y.dtype)
    nearby = y * (1 + 0.01 * weights) + 1e-3 * weights[::-1] * jnp.where(size == 0, 1, size)
    field, t0, nearby = stop_gradient((field, t0, nearby))
    everywhere = singular & _is_singular(_jacobian(field, t0, nearby, U, E))
    y = eqx.error_if(y, everywhere, _HIGHER_INDEX.format(dtype=y.dtype))
    y = eqx.error_if(y, singular & ~everywhere, _SINGULAR)
    return restore(eqx.error_if(y, ~converged & ~singular, _NO_ROOT))


def on_constraints(term: Any, t: Array, y: Float[Array, " n"], args: Any) -> Float[Array, " n"]:
    """The same where it can be done, `y` as it is where not; the mass may be traced.

    All components are unknowns then, and `M` times their change is zero.
    """
    if not isinstance(term, MassMatrixTerm) or term.singular is False:
        return y
    field, y, _ = flat_field(lambda t, y: term.vf(t, y, args), t, y)
    mass = stop_gradient(projected(term, flat_mass(term.mass, y, None)))
    E = jnp.eye(y.size, dtype=y.dtype)
    U = jax.vmap(mass.out_of_range)(E)
    frozen = stop_gradient((field, t, y))
    root, inverse, singular, converged = _found(frozen, U, E, -mass.as_matrix())
    ok = converged & ~singular
    field, t, start = passing_on((field, t, y), ok)
    return jnp.where(ok, _corrected(field, t, start, root, inverse, U, E), y)


def _found(
    frozen: tuple[FlatField, Array, Array], U: Array, E: Array, rest: Any = 0.0
) -> tuple[Float[Array, " n"], Float[Array, "k k"], Bool[Array, ""], Bool[Array, ""]]:
    """The root, an inverse there, whether the Jacobian is singular, and whether it converged."""
    field, t, y = frozen
    root, converged = _root(field, t, y, U, E, rest)
    K = _jacobian(field, t, root, U, E) + rest
    finite = jnp.all(jnp.isfinite(K))
    singular = finite & _is_singular(K)
    inverse = jnp.where(finite & ~singular, scaled_inverse(K).as_matrix(), 0)
    return root, inverse, singular, converged


def _corrected(
    field: FlatField, t: Array, start: Array, root: Array, inverse: Array, U: Array, E: Array
) -> Float[Array, " n"]:
    """Two Newton corrections, of rounding: each makes one more derivative that of the solution."""
    y = root + (start - lax.stop_gradient(start))
    for _ in range(2):
        y = y - E @ (inverse @ _project(U, field(t, y)))
    return y


def _bases(term: Any, y0: PyTree, fixed: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """The left null space of the mass, and the directions in which the state may be moved."""
    if not isinstance(term, MassMatrixTerm):
        raise ValueError(
            f"A {type(term).__name__} was given; consistent initial values need a "
            "`stiffrax.MassMatrixTerm(vector_field, mass)`."
        )
    for name, given in (("The mass matrix", term.mass), ("`fixed`", fixed)):
        if is_traced(given):
            raise ValueError(
                f"{name} is traced; which components may move must be known before. Write a NumPy "
                "array, such as `np.array([1.0, 0.0])`, or close over one made outside of `jax.jit`."
            )
    state = jax.tree.map(lambda y: np.zeros(jnp.shape(y), jnp.result_type(y)), y0)
    with jax.ensure_compile_time_eval():
        mass = flat_mass(term.mass, jax.tree.map(jnp.asarray, state), None)
        entries = np.asarray(mass.entries)
        rows, columns = scales(jnp.atleast_2d(mass.entries))
    if entries.ndim == 1:
        left = right = np.eye(len(entries))[:, entries == 0]
    else:
        rows, columns = np.asarray(rows)[:, None], np.asarray(columns)[:, None]
        u, s, v = np.linalg.svd(rows * entries * columns.T)
        null = s <= 100 * np.finfo(s.dtype).eps * s[0]
        left, right = rows * u[:, null], columns * v.T[:, null]
        left, right = left / np.linalg.norm(left, axis=0), right / np.linalg.norm(right, axis=0)
    if fixed is not None:
        held = np.array([x for leaf in jax.tree.leaves(fixed) for x in np.ravel(leaf)], bool)
        entry, _ = parts_of_state(y0)
        if held.size != entry[-1] + 1:
            raise ValueError(
                f"`fixed` has {held.size} entries; the state has {entry[-1] + 1} components. Write "
                "`True` or `False` for each of them."
            )
        right = np.eye(len(entries))[:, ~held[entry]]
        if right.shape != left.shape:
            raise ValueError(
                f"`fixed` leaves {right.shape[1]} components free; the mass matrix has "
                f"{left.shape[1]} constraints, which need as many. Hold the others: write `True` "
                f"for {len(entries) - left.shape[1]} of the {len(entries)} components."
            )
    return left, right


def _jacobian(
    field: FlatField, t: Array, y: Float[Array, " n"], U: Array, E: Array
) -> Float[Array, "k k"]:
    columns = jax.vmap(lambda e: jax.jvp(lambda x: field(t, x), (y,), (e,))[1])(E.T)
    return _project(U, columns.T)


def _project(U: Array, f: Array) -> Array:
    """`U^T f`; rows that no constraint reads may be infinite."""
    read = jnp.any(U != 0, axis=1)
    return U.T @ jnp.where(along_rows(read, f), f, 0)


def _is_singular(K: Float[Array, "k k"]) -> Bool[Array, ""]:
    # Units of rounding that a singular matrix may be off. (Measured: a dependent column among normally
    # distributed ones leaves up to 190 at 6 rows, 1000 at 20.)
    units = min(1000, 64 * len(K))
    worst = jnp.max(jnp.abs(scaled_inverse(K).inverse))
    return ~(worst < 1 / (units * jnp.finfo(K.dtype).eps))


def _root(
    field: FlatField, t: Array, y0: Float[Array, " n"], U: Array, E: Array, rest: Any
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """A root of the constraints by a damped Newton iteration, and whether one was found.

    A small step has found it if what it leaves is rounding, or if no part of it takes half of what
    was left before: the last digits of terms that cancel may be more than those of the state.
    """
    eps = jnp.finfo(y0.dtype).eps

    def constraints(y: Array) -> Array:
        return _project(U, field(t, y))

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        y, _, _, k = carry
        K = scaled_inverse(_jacobian(field, t, y, U, E) + rest)
        g, change = constraints(y), _change_of(constraints, y)
        both = K.solve(jnp.stack([-g, change], axis=1))
        dy, moved = E @ both[:, 0], jnp.abs(E) @ jnp.abs(both[:, 1])
        # Where the Jacobian is singular or infinite the iteration stays, and is judged there.
        solved = jnp.all(jnp.isfinite(dy))
        dy = jnp.where(solved, dy, 0)
        tries = y[None] + jnp.asarray(_DAMPING, y.dtype)[:, None] * dy[None]
        values = jax.vmap(constraints)(tries)
        left = jnp.max(K.rows[None] * jnp.abs(values), axis=1)
        best = jnp.argmin(jnp.where(jnp.isfinite(left), left, jnp.inf))

        way, size = jnp.abs(dy), jnp.abs(y) + jnp.where(jnp.isfinite(moved), moved, 0)
        small = way <= jnp.sqrt(eps) * size
        rounded = jnp.abs(E @ K.solve(values[best])) <= 2 * eps * size
        stalled = jnp.isfinite(left[best]) & (left[best] > jnp.max(K.rows * jnp.abs(g)) / 2)
        # A root at zero has no size: there a step is compared with the way from the guess.
        small_way = small | (way <= eps**0.75 * jnp.abs(y - y0))
        ended = jnp.all(small & rounded) | (stalled & jnp.all(small_way))
        return tries[best], (solved & ended) | (left[best] == 0), ~solved, k + 1

    def again(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, found, lost, k = carry
        return ~(found | lost) & (k < _ITERATIONS)

    no = jnp.asarray(False)
    y, found, _, _ = lax.while_loop(again, step, (y0, no, no, jnp.asarray(0)))
    return y, found
