"""The step shared by every implicit Runge-Kutta method: diffrax on the outside, stages inside."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._diffrax import unwrap_term
from ..stages import (
    ErrorTolerance,
    SimplifiedNewton,
    SmallInverse,
    SplitFactors,
    StageMethod,
    StagePolynomial,
    StageSolution,
    StageSystem,
    error_controlled_rule,
    error_filter,
    error_tolerance,
    estimate_error,
    factorize,
    flat_field,
    given_tolerance_rule,
    no_polynomial,
    predict,
    rounding_rule,
    solve_stages,
    stage_polynomial,
    stop_gradient,
)
from ..tableaus import Tableau
from ._collocation_interpolation import CollocationInterpolation

Y: TypeAlias = PyTree[ArrayLike]


@final
class StepMemory(eqx.Module):
    """What one accepted step leaves for the next."""

    polynomial: StagePolynomial
    eta: Float[Array, ""]


class AbstractImplicitRungeKutta(diffrax.AbstractImplicitSolver, diffrax.AbstractAdaptiveSolver):
    r"""An implicit Runge-Kutta method as a diffrax solver.

    A subclass names a tableau; everything else is here. In each step the stage increments solve

    $$\sum_j (A^{-1})_{ij} Z_j = h f(t_0 + c_i h, y_0 + Z_i), \qquad y_1 = y_0 + \sum_i d_i Z_i .$$

    **Arguments:**

    - `root_finder`: any optimistix root finder for the stage equations; by default
      [`stiffrax.SimplifiedNewton`][], which takes its tolerances from an adaptive controller and
      converges to rounding under fixed steps.
    - `root_find_max_steps`: the most iterations a step may take.
    - `linear_solver`: any lineax solver for the linear systems; by default explicit inverses, the
      fastest choice for small ones.

    A method of your own needs no more than a tableau:

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> class LobattoIIIA4(srx.AbstractImplicitRungeKutta):
    ...     @property
    ...     def tableau(self):
    ...         return srx.tableaus.lobatto_iiia(3)
    >>> term = diffrax.ODETerm(lambda t, y, args: -y)
    >>> sol = diffrax.diffeqsolve(term, LobattoIIIA4(), 0.0, 1.0, 0.1, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.6f}")
    0.367879

    ```
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CollocationInterpolation]] = CollocationInterpolation

    root_finder: optx.AbstractRootFinder = SimplifiedNewton()
    root_find_max_steps: int = 50
    linear_solver: lx.AbstractLinearSolver | None = None

    def __repr__(self) -> str:
        finder, solver = self.root_finder, self.linear_solver
        default = isinstance(finder, SimplifiedNewton) and not finder.given
        shown = [] if default else [f"root_finder={type(finder).__name__}(...)"]
        shown += [] if solver is None else [f"linear_solver={type(solver).__name__}(...)"]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    @abc.abstractmethod
    def tableau(self) -> Tableau:
        """The coefficients of the method."""

    def order(self, terms: Any) -> int:
        """Order of convergence."""
        del terms
        return self.tableau.order

    def error_order(self, terms: Any) -> int:
        """Power of the step size in the error estimate: the number of stages, plus one."""
        del terms
        return self.tableau.error_order

    def init(self, terms: Any, t0: Any, t1: Any, y0: Y, args: Any) -> StepMemory:
        """No polynomial to continue yet, and no contraction known."""
        _check_term(terms)
        _, flat, _ = flat_field(lambda t, y: terms.vf(t, y, args), jnp.asarray(t0), y0)
        del t1
        return StepMemory(no_polynomial(self.tableau, flat), jnp.ones((), flat.dtype))

    def func(self, terms: Any, t0: Any, y0: Y, args: Any) -> Y:
        """The vector field."""
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Y,
        args: Any,
        solver_state: StepMemory,
        made_jump: Any,
    ) -> tuple[Y, Y | None, dict[str, Any], StepMemory, diffrax.RESULTS]:
        """One step: predict, linearize, factorize, iterate, estimate the error, interpolate."""
        system, restore = stage_system(self.tableau, terms, t0, t1, y0, args)
        frozen = stop_gradient(system)
        tolerance = self._tolerance(y0)

        guess = predict(self.tableau, solver_state.polynomial, frozen.h, made_jump)
        hJ = frozen.h * frozen.field.jacobian(frozen.t0, frozen.y0)
        factors = factorize(self.tableau.transform, hJ, self.linear_solver)
        method = self._method(frozen, factors, tolerance, solver_state.eta)
        solution = solve_stages(system, guess, method)

        d = jnp.asarray(self.tableau.d, guess.dtype)
        y1 = restore(system.y0 + jnp.sum(d[:, None] * solution.Z, axis=0))
        coefficients = stage_polynomial(replace(system, hf0=solution.hf0), solution.Z)
        error = self._error(frozen, hJ, solution, factors, tolerance)
        memory = StepMemory(
            StagePolynomial(lax.stop_gradient(coefficients), frozen.h, solution.converged),
            next_eta(solution.theta, solver_state.eta),
        )
        dense_info = {"y0": y0, "coefficients": jax.vmap(restore)(coefficients)}
        error = None if error is None else restore(error)
        return y1, error, dense_info, memory, diffrax.RESULTS.promote(solution.result)

    def solve_fixed_step(self, system: StageSystem, guess: Float[Array, "m n"]) -> StageSolution:
        """Solves one step to rounding from a guess; linearized at the middle of the guess."""
        frozen, guess = stop_gradient((system, guess))
        jacobian = frozen.field.jacobian(
            frozen.t0 + frozen.dt / 2, frozen.y0 + jnp.mean(guess, axis=0)
        )
        factors = factorize(self.tableau.transform, frozen.h * jacobian, self.linear_solver)
        one = jnp.ones((), guess.dtype)
        return solve_stages(system, guess, self._method(frozen, factors, None, one))

    def _tolerance(self, y0: Y) -> ErrorTolerance | None:
        """The tolerances that an adaptive controller filled in, if there is one."""
        newton = self.root_finder
        if not isinstance(newton, SimplifiedNewton) or newton.given or not newton.has_tolerances:
            return None
        frozen = lax.stop_gradient(y0)
        return error_tolerance(self.tableau, frozen, newton.rtol, newton.atol, newton.norm)

    def _method(
        self,
        system: StageSystem,
        factors: SplitFactors,
        tolerance: ErrorTolerance | None,
        eta: Array,
    ) -> StageMethod:
        newton = self.root_finder
        if tolerance is not None:
            rule = error_controlled_rule(self.tableau, tolerance, eta)
        elif isinstance(newton, SimplifiedNewton) and newton.given:
            rule = given_tolerance_rule(system.y0, newton.rtol, newton.atol)
        else:
            rule = rounding_rule(system.y0)
        exact_solver = SmallInverse() if self.linear_solver is None else self.linear_solver
        return StageMethod(
            self.root_finder,
            rule,
            factors,
            exact_solver,
            max_steps=self.root_find_max_steps,
            retry_exactly=tolerance is None,
        )

    def _error(
        self,
        system: StageSystem,
        hJ: Array,
        solution: StageSolution,
        factors: SplitFactors,
        tolerance: ErrorTolerance | None,
    ) -> Float[Array, " n"] | None:
        """The estimate in the controller's units; infinite where the iteration failed."""
        newton = self.root_finder
        if isinstance(newton, SimplifiedNewton) and not newton.given and tolerance is None:
            return None
        hf0 = system.hf0
        if hf0 is None:
            hf0 = system.h * system.field(system.t0, system.y0)
        apply_filter = error_filter(system, hJ, factors)
        norm = None if tolerance is None else tolerance.scaled_norm
        error = estimate_error(system, lax.stop_gradient(solution.Z), hf0, apply_filter, norm)
        error = error if tolerance is None else error / tolerance.ratio
        return jnp.where(solution.converged, error, jnp.inf)


def next_eta(theta: Float[Array, ""], eta: Float[Array, ""]) -> Float[Array, ""]:
    """The first iteration's estimate for the next step.

    One iteration teaches nothing new, so that the old estimate is trusted less each time: with the
    same one for ever, a single lucky contraction would excuse every later step from iterating.
    """
    contraction = jnp.minimum(theta, 0.99)
    eps = jnp.finfo(eta.dtype).eps
    aged = jnp.maximum(eta, eps) ** 0.8
    return jnp.where(jnp.isnan(theta), aged, contraction / (1 - contraction))


def _check_term(terms: Any) -> None:
    term = unwrap_term(terms)
    if not isinstance(term, diffrax.ODETerm):
        raise ValueError(
            f"A {type(term).__name__} was given to an implicit Runge-Kutta solver; it needs a "
            "`diffrax.ODETerm(vector_field)`. For a sum of stiff and non-stiff terms use "
            "`diffrax.KenCarp4`, for noise an SDE solver."
        )


def stage_system(
    tableau: Tableau, terms: Any, t0: Any, t1: Any, y0: Y, args: Any
) -> tuple[StageSystem, Callable[[Array], Y]]:
    """The stage system of the step from `t0` to `t1`, and the function that restores the state."""
    _check_term(terms)
    # Stages lie between whole numbers: integers given for `t0` and `t1` would round them.
    dtype = jnp.result_type(t0, t1)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    field, flat, restore = flat_field(lambda t, y: terms.vf(t, y, args), t0, y0)
    control = terms.contr(t0, t1)
    # The control carries the direction of time, which `t1 - t0` does not: never rebuild it.
    h = jnp.asarray(control, flat.dtype)
    hf0 = h * field(t0, flat) if tableau.explicit_first_stage else None
    return StageSystem(tableau, field, t0, t1 - t0, h, flat, hf0), restore
