"""The step shared by every implicit Runge-Kutta method."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._arguments import check_shapes, check_tolerances
from .._flat_state import magnitudes
from ..diffrax_loop import (
    ErrorLeaf,
    StepReport,
    StepWork,
    enclosing_controller_is_pid,
    enclosing_steps_are_fixed,
    report_is_read,
    traced_once,
)
from ..linear_algebra import largest_of_rows, weighted_sum
from ..stages import (
    LEAST_SIZE_TO_REUSE,
    AbstractStructure,
    Dense,
    ErrorTolerance,
    LinearizationWork,
    MatrixFree,
    SimplifiedNewton,
    SingleFactors,
    SplitFactors,
    StageMethod,
    StagePolynomial,
    StageSolution,
    StageSystem,
    accepts_error,
    error_controlled_rule,
    error_tolerance,
    estimate_error,
    factorize,
    flat_field,
    given_tolerance_rule,
    grows_unresolved,
    interior_error,
    most_iterations,
    next_eta,
    no_linearization,
    no_polynomial,
    predict,
    rounding_rule,
    solve_stages,
    solve_with_reuse,
    stage_polynomial,
    stiff_part,
    stop_gradient,
    weighed_rule,
    worst_component,
)
from ..tableaus import Tableau
from ._ended_solve import can_start, short_onto_constraints, step_ending
from ._step_memory import Attempt, CollocationInterpolation, StepMemory
from ._tableau_solver import AbstractTableauSolver, check_parts
from ._terms import check_term, mass_of, system_of_terms

Y: TypeAlias = PyTree[ArrayLike]


class AbstractImplicitRungeKutta(AbstractTableauSolver):
    r"""An implicit Runge-Kutta method as a diffrax solver.

    A subclass gives a tableau; this class does the rest. In each step the stage increments solve

    $$\sum_j (A^{-1})_{ij} Z_j = h f(t_0 + c_i h, y_0 + Z_i), \qquad y_1 = y_0 + \sum_i d_i Z_i .$$

    **Arguments:**

    - `root_finder`: any of optimistix; by default [`stiffrax.SimplifiedNewton`][], which takes its
      tolerances from an adaptive controller and converges to rounding under fixed steps. Others
      solve for all stages at once, by a linear solver of their own.
    - `root_find_max_steps`: the most iterations a step may take.
    - `linear_solver`: any lineax solver for the linear systems; by default explicit inverses, the
      fastest choice for small ones.
    - `structure`: what is known of the Jacobian: [`stiffrax.Banded`][], [`stiffrax.BlockDiagonal`][],
      [`stiffrax.Sparsity`][], [`stiffrax.MatrixFree`][]; by default [`stiffrax.Dense`][].
    - `mixed_precision`: factor the Newton matrices of a float64 solve in float32: half the memory
      and, on accelerators, a fraction of the time, for about as many iterations and the same
      result; increments below 1e-38 of the largest are lost. It does not change a float32 solve.
    - `control_interior`: hold the error between the ends of steps to the tolerance of an adaptive
      controller as well, for `SaveAt(ts=...)`, dense output and events at high order; costs one
      evaluation and one linear solve a step, and smaller steps.

    **Raises:** `ValueError` if both `linear_solver` and `structure` are given, or `mixed_precision`
    with `MatrixFree`.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    Your own method needs only a tableau:

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
    structure: AbstractStructure | None = None
    control_interior: bool = eqx.field(static=True, default=False)
    mixed_precision: bool = eqx.field(static=True, default=False)

    def __repr__(self) -> str:
        finder, solver, structure = self.root_finder, self.linear_solver, self.structure
        shown = [] if self._is_open else [f"root_finder={type(finder).__name__}(...)"]
        shown += [] if solver is None else [f"linear_solver={type(solver).__name__}(...)"]
        shown += [] if structure is None else [f"structure={type(structure).__name__}(...)"]
        options = ("control_interior", "mixed_precision")
        shown += [f"{name}=True" for name in options if getattr(self, name)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __check_init__(self):
        check_parts(self)

    @property
    def _is_open(self) -> bool:
        return isinstance(self.root_finder, SimplifiedNewton) and not self.root_finder.given

    @property
    def _is_error_controlled(self) -> bool:
        newton = self.root_finder
        return isinstance(newton, SimplifiedNewton) and not newton.given and newton.has_tolerances

    @property
    def _jacobian_structure(self) -> AbstractStructure:
        given = self._given_structure
        return SingleFactors(given) if self.mixed_precision else given

    @property
    @abc.abstractmethod
    def tableau(self) -> Tableau:
        """The coefficients of the method."""

    def init(self, terms: Any, t0: Any, t1: Any, y0: Y, args: Any) -> StepMemory:
        """No polynomial to continue yet, and no contraction known.

        **Raises:** `ValueError` for a term that is no ordinary differential equation, or a mass
        matrix that the method or the structure cannot take.
        """
        check_term(terms, may_have_mass=True)
        field, flat, _ = flat_field(lambda t, y: terms.vf(t, y, args), jnp.asarray(t0), y0)
        mass, structure, consistent = mass_of(terms, y0), self._jacobian_structure, None
        if mass is not None:
            mass, consistent = self._checked_start(
                lambda: system_of_terms(self.tableau, terms, t0, t1, y0, args)[0],
                terms, mass, y0, structure, self.tableau.gamma,
            )  # fmt: skip
            # The field has been divided by it.
            mass = None if self.tableau.explicit_first_stage else mass
        linearization = None
        if self._reuses(flat.size):
            linearization = no_linearization(
                self.tableau, field, jnp.asarray(t0), flat, structure, mass
            )
        polynomial, one = no_polynomial(self.tableau, flat), jnp.ones((), flat.dtype)
        # In the memory only what is computed of it: a memory is selected in every step, and by lane.
        mass = None if mass is None or mass.projector is None else mass
        return StepMemory(polynomial, one, one, linearization, consistent, mass)

    @traced_once
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
        """One step: predict, linearize, factorize, iterate, estimate the error, interpolate.

        Called by hand, outside of `diffeqsolve`, it iterates to rounding (or to the tolerances of
        its `SimplifiedNewton(rtol, atol)`), and returns the error estimate in units of the state,
        for a controller of your own: of order `error_order(terms)` in the step, infinite where the
        iteration failed. Under fixed steps nobody asks for the estimate, and it is `None`.
        """
        system, restore = system_of_terms(self.tableau, terms, t0, t1, y0, args)
        frozen = stop_gradient(system)
        if solver_state.mass is not None:
            frozen = replace(frozen, mass=solver_state.mass)
        tolerance = self._tolerance(y0)

        guess = predict(self.tableau, solver_state.polynomial, frozen.h, made_jump)
        attempt = self._attempt(frozen, y0, guess, tolerance, solver_state, made_jump)
        solution = solve_stages(system, guess, attempt.method)

        y1 = system.y0 + weighted_sum(self.tableau.d, solution.Z)
        coefficients = stage_polynomial(replace(system, hf0=solution.hf0), solution.Z)
        f0 = None if tolerance is None else frozen.field(frozen.t0, frozen.y0)
        starts = None if f0 is None else can_start(frozen, f0, attempt, solution, solver_state)
        error, evaluations = self._error(frozen, f0, attempt, solution, tolerance)
        last_h, consistent = solver_state.polynomial.h, solver_state.consistent
        jump = last_h, made_jump, tolerance, self._jacobian_structure
        error = short_onto_constraints(error, terms, frozen, *jump)
        accepts = accepts_error(error, frozen.y0, lax.stop_gradient(y1), tolerance)
        worst = worst_component(error, tolerance)
        ending = step_ending(frozen, last_h, consistent, starts, accepts, solution.converged)
        y1 = restore(ending.state(system.y0, y1))
        coefficients = ending.polynomial(coefficients)
        if error is not None:
            error = magnitudes(restore(ending.error(error)))
            if enclosing_controller_is_pid():
                error = jax.tree.map(ErrorLeaf, error)
        result = ending.result(diffrax.RESULTS.promote(solution.result))
        if report_is_read(self.root_finder.norm):
            error = self._report(frozen, guess, solution, error, worst, attempt.work, evaluations)
        memory = StepMemory(
            StagePolynomial(lax.stop_gradient(coefficients), frozen.h, solution.converged),
            next_eta(solution.theta, solver_state.eta),
            solution.theta,
            attempt.linearization,
            solver_state.consistent,
            solver_state.mass,
        )
        dense_info = {"y0": ending.start(y0), "coefficients": jax.vmap(restore)(coefficients)}
        return y1, error, dense_info, memory, result

    def solve_fixed_step(self, system: StageSystem, guess: Float[Array, "m n"]) -> StageSolution:
        """Solves one step to rounding from a guess; linearized at the middle of the guess."""
        frozen, guess = stop_gradient((system, guess))
        structure = self._jacobian_structure
        t, y = frozen.t0 + frozen.dt / 2, frozen.y0 + sum(guess) / len(guess)
        hJ = structure.scaled(frozen.h, structure.jacobian(frozen.field, t, y))
        factors = factorize(self.tableau.transform, hJ, structure, frozen.mass)
        one = jnp.ones((), guess.dtype)
        return solve_stages(system, guess, self._method(frozen, frozen.y0, factors, None, one))

    def _tolerance(self, y0: Y) -> ErrorTolerance | None:
        newton = self.root_finder
        if not self._is_error_controlled:
            return None
        check_tolerances("PIDController", newton.rtol, newton.atol, state=y0)
        y0 = lax.stop_gradient(y0)
        return error_tolerance(self.tableau, y0, newton.rtol, newton.atol, newton.norm)

    def _reuses(self, size: int) -> bool:
        """Whether Jacobian and factors outlive a step: under error control, where they cost."""
        costs = size >= LEAST_SIZE_TO_REUSE and not isinstance(self.structure, MatrixFree)
        return costs and self._is_error_controlled

    def _estimates(self, tolerance: ErrorTolerance | None) -> bool:
        return not (self._is_open and tolerance is None and enclosing_steps_are_fixed())

    def _attempt(
        self,
        frozen: StageSystem,
        state: Y,
        guess: Array,
        tolerance: ErrorTolerance | None,
        memory: StepMemory,
        made_jump: Any,
    ) -> Attempt:
        """Linearizes and factorizes; iterates as well, where that decides what is reused."""
        kept, structure = memory.linearization, self._jacobian_structure
        if kept is None:
            hJ = structure.scaled(frozen.h, structure.jacobian(frozen.field, frozen.t0, frozen.y0))
            gamma = self.tableau.gamma if self._estimates(tolerance) else None
            factors = factorize(self.tableau.transform, hJ, structure, frozen.mass, gamma)
            method = self._method(frozen, state, factors, tolerance, memory.eta)
            return Attempt(method, factors, hJ, None, None)
        method = self._method(frozen, state, None, tolerance, memory.eta)
        found, factors, linearization, work = solve_with_reuse(
            frozen, guess, method, kept, made_jump, structure
        )
        method = replace(method, factors=factors, found=found)
        hJ = structure.scaled(frozen.h, linearization.jacobian)
        return Attempt(method, factors, hJ, linearization, work)

    def _method(
        self,
        system: StageSystem,
        state: Y,
        factors: SplitFactors | None,
        tolerance: ErrorTolerance | None,
        eta: Array,
    ) -> StageMethod:
        newton = self.root_finder
        if tolerance is not None:
            rule = error_controlled_rule(self.tableau, tolerance, eta)
        elif isinstance(newton, SimplifiedNewton) and newton.given:
            check_shapes(newton.rtol, newton.atol, state)
            rule = given_tolerance_rule(lax.stop_gradient(state), newton.rtol, newton.atol)
        else:
            rule = rounding_rule(system.y0)
        if system.mass is not None and system.mass.powers is not None:
            rule = weighed_rule(rule, jnp.asarray(system.mass.error_weights(system.h)))
        return StageMethod(
            self.root_finder,
            rule,
            factors,
            self.exact_linear_solver,
            max_steps=self.root_find_max_steps,
            # With exact Jacobians at the stages the systems have no structure left.
            retry_exactly=tolerance is None and isinstance(self.structure, Dense | None),
            structure=self.structure,
        )

    def _error(
        self,
        system: StageSystem,
        f0: Float[Array, " n"] | None,
        attempt: Attempt,
        solution: StageSolution,
        tolerance: ErrorTolerance | None,
    ) -> tuple[Float[Array, " n"] | None, Any]:
        """The estimate in the controller's units, and how many evaluations of the field it took.

        Infinite where the iteration failed, or the step is too large for a growing mode.
        """
        tableau, hf0, apply_filter = self.tableau, system.hf0, attempt.factors.solve_real
        if not self._estimates(tolerance):
            return None, int(tableau.explicit_first_stage)
        if hf0 is None:
            hf0 = system.h * (system.field(system.t0, system.y0) if f0 is None else f0)
        weights = 1.0 if system.mass is None else system.mass.error_weights(system.h)
        Z = lax.stop_gradient(solution.Z)
        error, evaluations = estimate_error(
            system,
            Z,
            hf0,
            apply_filter,
            None if tolerance is None else lambda error: tolerance.scaled_norm(weights * error),
        )
        stiff, powers = stiff_part(system, error, apply_filter)
        scale = 1.0 if tolerance is None else tolerance.scale / weights
        usable = solution.converged & ~grows_unresolved(powers, scale)
        if tolerance is not None:
            # Stiff components are not superconvergent: for them the tolerance is as it was given.
            error = jnp.maximum(jnp.abs(error) / tolerance.ratio, jnp.abs(stiff))
        if self.control_interior:
            error = jnp.maximum(jnp.abs(error), jnp.abs(interior_error(system, Z, apply_filter)))
            evaluations = evaluations + 1
        reads_start = tableau.stiffly_accurate or tableau.explicit_first_stage
        return jnp.where(usable, weights * error, jnp.inf), evaluations + int(reads_start)

    def _report(
        self,
        system: StageSystem,
        guess: Array,
        solution: StageSolution,
        error: Y | None,
        worst: Array,
        work: LinearizationWork | None,
        evaluations: Any,
    ) -> StepReport:
        """The error estimate, with what a controller or an adjoint may want to know beside it."""
        if work is None:
            exact = solution.exact
            work = LinearizationWork(1 + len(guess) * exact, 1 + exact, solution.iterations)
        change = largest_of_rows(jnp.abs(solution.Z - guess))
        size = largest_of_rows(jnp.abs(system.states(solution.Z)))
        relative = change / jnp.maximum(size, jnp.finfo(size.dtype).tiny)
        component = jnp.argmax(jnp.where(jnp.isnan(relative), jnp.inf, relative))
        component = jnp.where(solution.converged, worst, component)
        return StepReport(
            error=error,
            converged=solution.converged,
            finite=jnp.all(jnp.isfinite(solution.Z)),
            theta=solution.theta,
            most_iterations=jnp.asarray(most_iterations(self.tableau)),
            component=component,
            work=StepWork(
                f_evaluations=self.tableau.num_stages * work.iterations + evaluations,
                jacobians=work.jacobians,
                factorizations=work.factorizations,
                linear_solves=work.iterations,
                newton_iterations=work.iterations,
                gmres_cycles=solution.cycles,
            ),
        ).sent()
