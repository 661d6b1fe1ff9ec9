"""Solved stage equations and their derivative."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..linear_algebra import (
    LARGEST_LEFT,
    library_solve,
    refine,
    scaled_inverse,
    units_left,
    with_derivative,
)
from ._lanes import linearization_point, while_open
from ._newton import NewtonState, SimplifiedNewton, StoppingRule, finite_or_nan
from ._sparse_stages import factor_sparse_stages, sparse_mass_matrix, sparse_stage_jacobians
from ._stacked_solve import solve_stacked, solve_stacked_mass, stacked_mass_matrix, stacked_matrix
from ._stage_system import SlopeSystem, StageSystem, times_of, with_rounded_cotangents
from ._structure import AbstractStructure


def stop_gradient(tree: PyTree) -> PyTree:
    """Takes every array of a pytree out of differentiation."""
    return jax.tree.map(lambda x: lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


@final
class StageSolution(eqx.Module):
    """Stage increments and how they were found; all but `Z`, `hf0` is outside differentiation.

    `iterations`: all of them, of which `exact` had Jacobians of their own.
    """

    Z: Float[Array, "m n"]
    hf0: Float[Array, " n"] | None
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    theta: Float[Array, ""]
    result: optx.RESULTS
    cycles: Int[Array, ""]
    exact: Int[Array, ""]


# Newton's method proper doubles its digits each time. Chosen, not measured.
_EXACT_ITERATIONS = 20


@final
class StageMethod(eqx.Module):
    """How to solve: the root finder with its rule, the factors, and the exact linear solver.

    `retry_exactly`: where the iteration with one frozen Jacobian fails, start again with Newton's
    method proper (exact Jacobians at the stages in every iteration), from the guess and then from
    the start of the step. Right for fixed steps, where no smaller step comes to the rescue; wasteful
    under step-size control.

    `found`: the solution, where it has been iterated for already; only its derivative is added.
    `structure`: what the derivative knows of the Jacobians.
    """

    root_finder: optx.AbstractRootFinder
    rule: StoppingRule
    factors: Any
    linear_solver: lx.AbstractLinearSolver | None
    max_steps: int = eqx.field(static=True)
    retry_exactly: bool = eqx.field(static=True)
    found: StageSolution | None = None
    structure: AbstractStructure | None = None


def _residual(Z: Array, system: StageSystem) -> Array:
    return system.residual(Z)


def _with_aux(Z: Array, system: StageSystem) -> tuple[Array, None]:
    return system.residual(Z), None


def solve_linearized(
    system: StageSystem,
    Z: Array,
    rhs: Array,
    linear_solver: lx.AbstractLinearSolver | None,
    ok: Any = True,
) -> Array:
    """Solves dR/dZ V = rhs with the exact Jacobians at the stages; zero where not `ok`.

    Not by `lineax.linear_solve`, whose derivatives raise for a whole batch as soon as one lane
    meets a singular matrix or a cotangent that is not finite; here only that lane's is not finite.
    """
    hJ = system.h * jnp.where(ok, system.stage_jacobians(Z), 0)
    a = jnp.asarray(system.tableau.A_inverse, hJ.dtype)
    M = None if system.mass is None else system.mass.as_matrix()

    def product(V: Array) -> Array:
        return a @ (V if M is None else V @ M.T) - jnp.einsum("ikl,il->ik", hJ, V)

    rhs = jnp.where(ok, rhs, 0)
    if linear_solver is not None:
        matrix = stacked_matrix(a, hJ) if M is None else stacked_mass_matrix(a, M, hJ)
        return _solve_by(linear_solver, product, stop_gradient(matrix), rhs)
    fixed, fixed_M = stop_gradient((hJ, M))
    if fixed_M is not None:
        return lax.custom_linear_solve(
            product,
            rhs,
            lambda _, b: solve_stacked_mass(a, fixed_M, fixed, b),
            lambda _, b: solve_stacked_mass(a.T, fixed_M.T, jnp.swapaxes(fixed, 1, 2), b),
        )
    return lax.custom_linear_solve(
        product,
        rhs,
        lambda _, b: solve_stacked(a, fixed, b),
        lambda _, b: solve_stacked(a.T, jnp.swapaxes(fixed, 1, 2), b),
    )


def _solve_sparse(
    system: StageSystem, Z: Array, rhs: Array, structure: AbstractStructure, ok: Array
) -> Array:
    """As `solve_linearized`, by sparse factors; products with Jacobians are forward-mode sweeps.

    By those a solution is corrected until they leave rounding, whatever a structure has left out;
    no number where they do not.
    """
    h, tableau = jnp.where(ok, system.h, 0), system.tableau
    a = jnp.asarray(tableau.A_inverse, h.dtype)
    entries = None if system.mass is None else system.mass.entries

    def push(t: Array, y: Array, v: Array) -> Array:
        return jax.jvp(lambda y: system.field(t, y), (y,), (v,))[1]

    def product(V: Array) -> Array:
        slopes = jax.vmap(push)(system.times, system.states(Z), V)
        if entries is not None:
            V = entries[None] * V if entries.ndim == 1 else V @ entries.T
        return a @ V - h * slopes

    frozen = stop_gradient(replace(system, h=h))
    hJ, M = sparse_stage_jacobians(frozen, lax.stop_gradient(Z), structure), None
    if frozen.mass is not None:
        M = sparse_mass_matrix(frozen.mass, structure)

    def solve(transposed: bool, product: Callable, b: Array) -> Array:
        parts = tableau.A_inverse, tableau.transform, M, hJ
        if transposed:
            parts = parts[0].T, parts[1].transposed, None if M is None else M.T, hJ.T
        factors = factor_sparse_stages(*parts)

        def corrected(state: tuple[Array, Array]) -> tuple[Array, Array]:
            V, rest = state
            change = factors.solve(rest.reshape(-1)).reshape(b.shape)
            return V + change, rest - product(change)

        def left(state: tuple[Array, Array]) -> Array:
            V, rest = state
            return units_left(rest, factors.equations.terms(V, b))

        (V, _), size = refine(corrected, left, corrected((jnp.zeros_like(b), b)))
        return jnp.where(size <= LARGEST_LEFT, V, jnp.nan)

    return lax.custom_linear_solve(
        product,
        jnp.where(ok, rhs, 0),
        lambda product, b: solve(False, product, b),
        lambda product, b: solve(True, product, b),
    )


def _solve_by(
    linear_solver: lx.AbstractLinearSolver, product: Callable, matrix: Array, rhs: Array
) -> Array:
    factors = linear_solver.init(lx.MatrixLinearOperator(matrix), {})
    transposed, options = linear_solver.transpose(factors, {})

    def solve(factors: Any, b: Array, options: Any) -> Array:
        return library_solve(linear_solver, factors, b.reshape(-1), options).reshape(b.shape)

    return lax.custom_linear_solve(
        product,
        rhs,
        lambda _, b: solve(factors, b, {}),
        lambda _, b: solve(transposed, b, options),
    )


def iterate_newton(system: StageSystem, guess: Array, method: StageMethod) -> StageSolution:
    """Simplified Newton, and where it fails Newton proper, if the method says so."""
    newton = method.root_finder
    init = newton.init(_with_aux, guess, system, {"solve": None}, guess, None, frozenset())
    fixed = (system, method)
    Z, state = while_open(_is_running, _frozen_iteration, fixed, (guess, init))
    exact = jnp.zeros_like(state.iterations)
    if method.retry_exactly:

        def try_again(iterate: _Iterate, guess: Array) -> tuple[_Iterate, Array]:
            failed = ~iterate[1].converged
            # No lane but a failed one is open at the start.
            start = replace(init, converged=~failed)
            again = while_open(
                _is_running_exactly, _exact_iteration, fixed, (guess, start), few=True
            )
            chosen = jax.tree.map(lambda a, b: jnp.where(failed, a, b), again, iterate)
            return chosen, jnp.where(failed, again[1].iterations, 0)

        # From the guess, and then from where the step starts: a guess may be far from the solution.
        guesses = jnp.stack([guess, jnp.zeros_like(guess)])
        frozen = state.iterations
        (Z, state), counts = lax.scan(try_again, (Z, state), guesses)
        exact = jnp.sum(counts, dtype=exact.dtype)
        state = replace(state, iterations=frozen + exact)
    found = state.converged, state.iterations, state.theta, state.result, state.cycles, exact
    return StageSolution(Z, system.hf0, *found)


_Fixed: TypeAlias = tuple[StageSystem, StageMethod]
_Iterate: TypeAlias = tuple[Array, NewtonState]


def _is_running(fixed: _Fixed, iterate: _Iterate) -> Array:
    return iterate[1].is_open(fixed[1].max_steps)


def _is_running_exactly(fixed: _Fixed, iterate: _Iterate) -> Array:
    return iterate[1].is_open(min(fixed[1].max_steps, _EXACT_ITERATIONS))


def _iteration(fixed: _Fixed, iterate: _Iterate, solve: Callable) -> _Iterate:
    (system, method), (Z, state) = fixed, iterate
    options = {"solve": solve, "rule": method.rule, **times_of(system)}
    newton = method.root_finder
    Z, state, _ = newton.step(_with_aux, Z, system, options, state, frozenset())
    return Z, state


def _frozen_iteration(fixed: _Fixed, iterate: _Iterate) -> _Iterate:
    cycles: list[Any] = []

    def solve(R: Array, _: Array) -> Array:
        solution, count = fixed[1].factors.solve_counted(R)
        cycles.append(count)
        return solution

    Z, state = _iteration(fixed, iterate, solve)
    # The first: later ones are of iterates that tell how much is rounding.
    return Z, replace(state, cycles=state.cycles + cycles[0])


def _exact_iteration(fixed: _Fixed, iterate: _Iterate) -> _Iterate:
    (system, method), (Z, _) = fixed, iterate
    hJ, a = system.h * system.stage_jacobians(Z), jnp.asarray(system.tableau.A_inverse, Z.dtype)
    M = jnp.eye(hJ.shape[-1], dtype=Z.dtype) if system.mass is None else system.mass.as_matrix()
    # Factored once for the iterate and for those around it that tell how much is rounding: to solve
    # each anew would be a third of the program of a solve.
    solve = _factored(method.linear_solver, stacked_mass_matrix(a, M, hJ))
    return _iteration(fixed, iterate, lambda R, _: solve(R.reshape(-1)).reshape(R.shape))


def _factored(linear_solver: lx.AbstractLinearSolver | None, matrix: Array) -> Callable:
    if linear_solver is None:
        return scaled_inverse(matrix).solve
    factors = linear_solver.init(lx.MatrixLinearOperator(finite_or_nan(matrix)), {})
    return lambda b: library_solve(linear_solver, factors, b, {})


def _iterate_any(system: StageSystem, guess: Array, method: StageMethod) -> StageSolution:
    solution = optx.root_find(
        _residual, method.root_finder, guess, system, max_steps=method.max_steps, throw=False
    )
    converged = (solution.result == optx.RESULTS.successful) & jnp.all(jnp.isfinite(solution.value))
    result = optx.RESULTS.where(
        converged | (solution.result != optx.RESULTS.successful),
        solution.result,
        optx.RESULTS.nonfinite,
    )
    iterations, one = jnp.asarray(solution.stats["num_steps"]), jnp.asarray(1)
    exact = one if isinstance(method.root_finder, optx.Chord | diffrax.VeryChord) else iterations
    found = converged, iterations, jnp.asarray(jnp.nan, guess.dtype), result, 0 * one, exact
    return StageSolution(solution.value, system.hf0, *found)


def _iterate(
    system: StageSystem, guess: Array, method: StageMethod
) -> tuple[tuple[Array, Array | None], StageSolution]:
    ours = isinstance(method.root_finder, SimplifiedNewton)
    solution = method.found or (iterate_newton if ours else _iterate_any)(system, guess, method)
    return (solution.Z, solution.hf0), solution


def solve_refined(
    solve: Callable[[Array], Array],
    system: StageSystem | SlopeSystem,
    Z: Array,
    rhs: Array,
    rhs_again: Array,
) -> Array:
    """Solves dR/dZ V = rhs, and once more for what the vector field itself leaves of it.

    The entries of its Jacobian are rounded: of two fast reactions, one the reverse of the other,
    little else may be left in a sum than what they have lost. The right-hand side is given twice,
    so that in reverse mode solution and correction are pulled back apart: their sum would round
    what the correction holds.
    """
    first = solve(rhs_again)
    rest = rhs - jax.jvp(with_rounded_cotangents(system).residual, (Z,), (first,))[1]
    return first + solve(rest)


def _implicit_derivative(primals: Any, tangents: Any) -> Any:
    system, guess, method = primals
    t_system, _, _ = tangents
    increments, solution = _stage_increments(system, guess, method)
    ok = solution.converged
    system, Z = linearization_point(system, increments[0], ok)

    def equations(system: StageSystem) -> tuple[Array, Array | None]:
        system = with_rounded_cotangents(system).with_start_slope()
        return system.residual(Z), system.hf0

    def pushed() -> tuple[Array, Array | None]:
        return eqx.filter_jvp(equations, (system,), (t_system,))[1]

    def solve(rhs: Array) -> Array:
        if method.structure is not None and method.structure.has_pattern:
            return _solve_sparse(system, Z, rhs, method.structure, ok)
        return solve_linearized(system, Z, rhs, method.linear_solver, ok)

    r_dot, hf0_dot = pushed()
    Z_dot = solve_refined(solve, system, Z, -r_dot, -pushed()[0])
    # Where a mass is singular no derivative of a failed solve is a number.
    dots = jax.tree.map(lambda x: jnp.where(ok, x, 0), (Z_dot, hf0_dot))
    t_solution = jax.tree.map(lambda _: None, solution)
    return (increments, solution), (dots, t_solution)


_stage_increments = with_derivative("stage_increments", _iterate, _implicit_derivative)


def solve_stages(
    system: StageSystem, guess: Float[Array, "m n"], method: StageMethod
) -> StageSolution:
    """Solves a stage system from a starting guess; differentiable in everything `system` holds.

    The derivative is exact at the solution: one linear solve with the Jacobians at the stages,
    whatever approximations the iteration used, in forward and in reverse mode and any composition.
    A solve that failed has the derivative zero and does not disturb others in its batch.
    """
    guess, method = stop_gradient((guess, method))
    system = replace(system, hf0=stop_gradient(system.hf0))
    (Z, hf0), solution = _stage_increments(system, guess, method)
    return replace(stop_gradient(solution), Z=Z, hf0=hf0)
