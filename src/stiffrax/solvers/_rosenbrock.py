"""The step shared by every Rosenbrock method."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from .._arguments import check_tolerances
from .._flat_state import magnitudes, real_dtype
from ..diffrax_loop import (
    ErrorLeaf,
    StepReport,
    StepWork,
    enclosing_controller_is_pid,
    enclosing_solve_jumps,
    enclosing_solve_throws,
    enclosing_steps_are_fixed,
    report_is_read,
    scaled_error,
    traced_once,
)
from ..linear_algebra import ITERATIVE, largest_size, small_matmul, weighted_sum
from ..stages import (
    AbstractStructure,
    ControllerTolerances,
    Dense,
    ErrorTolerance,
    Mass,
    RosenbrockSolution,
    RosenbrockSystem,
    accepts_error,
    flat_field,
    grows_unresolved,
    plain_tolerance,
    rosenbrock_increments,
    solve_rosenbrock,
    stiff_powers,
    stop_gradient,
    worst_component,
)
from ..tableaus import RosenbrockTableau
from ._ended_solve import hold_behind_jump, step_ending
from ._step_memory import CollocationInterpolation
from ._tableau_solver import AbstractTableauSolver, check_linear_algebra
from ._terms import check_term, mass_of, may_be_singular, step_times

Y: TypeAlias = PyTree[ArrayLike]
RESULTS: Any = diffrax.RESULTS

# `h lambda` from which on a mode counts as growing where a stage bends too much.
_GROWTH = 0.1
# The stages do not lie on the constraints: from a start off them a method would come back at the end
# of a step of any length, with an estimate that sees nothing, and be wrong within it.
_JUMPED = (
    "`{solver}` takes each step from where the constraints hold, and a jump at one of the times in "
    "`jump_ts` moved them. Write `stiffrax.RadauIIA5()`, or end the solve at the jump and start "
    "another from `stiffrax.consistent_initial_values(term, t, y, args)`."
)


@final
class RosenbrockMemory(eqx.Module):
    """What a step leaves for the next: its size, whether the solve started consistently, and the mass
    with its projector, if any."""

    h: Float[Array, ""]
    consistent: Bool[Array, ""] | None
    mass: Mass | None = None


class AbstractRosenbrock(AbstractTableauSolver):
    r"""A Rosenbrock method as a diffrax solver: linearly implicit, without any iteration.

    A subclass gives a tableau; this class does the rest. With `J` and $f_t$ the derivatives of `f`
    at the start of the step, its stages are linear systems with one and the same matrix:

    $$\left(\tfrac{1}{\gamma} M - h J\right) U_i = h f\Big(t_0 + c_i h, y_0 + \sum_{j<i} a_{ij} U_j\Big)
      + M \sum_{j<i} C_{ij} U_j + d_i h^2 f_t, \qquad y_1 = y_0 + \sum_i m_i U_i$$

    The Jacobian must be exact: it is part of the method, not the means of an iteration. Its
    derivatives are part of the gradient.

    **Arguments:**

    - `linear_solver`: any lineax solver for the linear systems; by default an explicit inverse, the
      fastest choice for small ones.
    - `structure`: what is known of the Jacobian: [`stiffrax.Banded`][], [`stiffrax.BlockDiagonal`][]
      or [`stiffrax.Sparsity`][]; by default [`stiffrax.Dense`][].

    **Raises:** `ValueError` if both are given, and for `MatrixFree`.

    Cost of a step: one Jacobian, one factorization, and an evaluation of the field and a linear solve
    for each stage; under error control some solves more, which judge the step, and with a singular mass
    an evaluation.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.7.

    ```python
    >>> import stiffrax as srx
    >>> class Rodas4P(srx.AbstractRosenbrock):
    ...     @property
    ...     def tableau(self):
    ...         return srx.tableaus.rodas4p()
    >>> Rodas4P().order(None)
    4

    ```
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CollocationInterpolation]] = CollocationInterpolation
    root_find_max_steps: ClassVar[int] = 0

    linear_solver: lx.AbstractLinearSolver | None = None
    structure: AbstractStructure | None = None
    # No root is found: where a root finder would be, diffrax puts the controller's tolerances.
    root_finder: ControllerTolerances = eqx.field(
        init=False, repr=False, default_factory=ControllerTolerances
    )

    def __repr__(self) -> str:
        parts = ("linear_solver", "structure")
        given = [(name, getattr(self, name)) for name in parts]
        shown = [f"{name}={type(x).__name__}(...)" for name, x in given if x is not None]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __check_init__(self):
        _check_parts(self)

    @property
    @abc.abstractmethod
    def tableau(self) -> RosenbrockTableau:
        """The coefficients of the method."""

    def init(self, terms: Any, t0: Any, t1: Any, y0: Y, args: Any) -> RosenbrockMemory:
        """No step before; **raises** as that of [`stiffrax.RadauIIA5`][]."""
        check_term(terms, may_have_mass=True)
        mass, consistent = mass_of(terms, y0), None
        dtype = real_dtype(y0)
        if mass is not None:
            _check_index(type(self).__name__, mass)
            mass, consistent = self._checked_start(
                lambda: self.step_equations(terms, t0, t1, y0, args)[0],
                terms, mass, y0, self._given_structure, self.tableau.shift,
            )  # fmt: skip
            mass = None if mass.projector is None else mass
        return RosenbrockMemory(jnp.ones((), dtype), consistent, mass)

    @traced_once
    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Y,
        args: Any,
        solver_state: RosenbrockMemory | None,
        made_jump: Any,
    ) -> tuple[Y, Y | None, dict[str, Any], RosenbrockMemory, diffrax.RESULTS]:
        """One step: linearize, factorize, go through the stages, estimate the error.

        By hand as that of [`stiffrax.RadauIIA5`][].
        """
        tableau, tolerance = self.tableau, self._tolerance(y0)
        system, restore = self.step_equations(terms, t0, t1, y0, args)
        # A recorded step is taken once more without one.
        memory = solver_state or RosenbrockMemory(jnp.ones_like(system.h), None)
        frozen, consistent = stop_gradient(system), memory.consistent
        if memory.mass is not None:
            frozen = replace(frozen, mass=memory.mass)
        mass = frozen.mass if may_be_singular(terms) else None
        if mass is not None and enclosing_solve_jumps():
            structure = frozen.structure
            holds = hold_behind_jump(frozen, mass, made_jump, tolerance, structure, tableau.shift)
            if enclosing_solve_throws():
                jumped = _JUMPED.format(solver=type(self).__name__)
                holds = eqx.error_if(holds, ~holds, jumped)
            consistent = holds if consistent is None else consistent & holds
        solution = solve_rosenbrock(frozen, tolerance)
        U = rosenbrock_increments(system, solution)

        y1 = system.y0 + weighted_sum(tableau.m, U)
        polynomial = small_matmul(jnp.asarray(tableau.polynomial.T, U.dtype), U)
        finite = solution.finite
        error = self._error(frozen, solution, mass, tolerance)
        accepts = accepts_error(error, frozen.y0, lax.stop_gradient(y1), tolerance)
        starts = None if tolerance is None else solution.starts
        ending = step_ending(frozen, memory.h, consistent, starts, accepts, finite)
        # A controller that is not told by the error of the failure compares the ends of steps.
        y1 = jnp.where(finite, y1, jnp.nan)
        y1 = restore(ending.state(system.y0, y1))
        coefficients = ending.polynomial(polynomial)
        worst = worst_component(error, tolerance)
        if error is not None:
            error = magnitudes(restore(ending.error(error)))
            error = jax.tree.map(ErrorLeaf, error) if enclosing_controller_is_pid() else error
        code = RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite)
        result = ending.result(code)
        if report_is_read(self.root_finder.norm):
            error = self._report(solution, finite, error, worst, mass, tolerance)
        dense_info = {"y0": ending.start(y0), "coefficients": jax.vmap(restore)(coefficients)}
        memory = replace(memory, h=frozen.h)
        return y1, error, dense_info, memory, result

    def step_equations(
        self, terms: Any, t0: Any, t1: Any, y0: Y, args: Any
    ) -> tuple[RosenbrockSystem, Callable[[Array], PyTree]]:
        """The equations of a step, and what makes a state of a flat one."""
        check_term(terms, may_have_mass=True)
        t0, dt, control = step_times(terms, t0, t1)
        field, flat, restore = flat_field(lambda t, y: terms.vf(t, y, args), t0, y0)
        h, mass = jnp.asarray(control, flat.dtype), mass_of(terms, y0)
        structure = self._given_structure
        return RosenbrockSystem(self.tableau, structure, field, t0, dt, h, flat, mass), restore

    def _tolerance(self, y0: Y) -> ErrorTolerance | None:
        given = self.root_finder
        if not given.has_tolerances:
            return None
        check_tolerances("PIDController", given.rtol, given.atol, state=y0)
        return plain_tolerance(lax.stop_gradient(y0), given.rtol, given.atol, given.norm)

    @property
    def _num_powers(self) -> int:
        """Times that slow modes are removed from the estimate, to see what the stiff ones do."""
        return self.tableau.order + 3 - self.tableau.error_order

    def _error(
        self,
        system: RosenbrockSystem,
        solution: RosenbrockSolution,
        singular: Mass | None,
        tolerance: ErrorTolerance | None,
    ) -> Float[Array, " n"] | None:
        """The embedded estimate, and how far its end is off the constraints of a singular mass.

        Infinite where the step failed, or is too large for a growing mode or for how `f` bends.
        """
        if tolerance is None and enclosing_steps_are_fixed():
            return None
        tableau, structure = self.tableau, system.structure
        error = weighted_sum(tableau.e, solution.U)

        def slow(error: Array) -> Array:
            rhs = tableau.shift * system.times_mass(error)
            return structure.solve(solution.factors, rhs[None])[0]

        written_out = isinstance(structure, Dense)
        _, powers = stiff_powers(slow, error, self._num_powers, written_out)
        largest = tableau.largest_growth / tableau.shift
        if tolerance is None:
            grows = grows_unresolved(powers, 1.0, largest)
        else:
            # Along a mode that grows at all, an iteration that moves a stage by a good part of the
            # way from the start would not converge: the stage lies behind a pole. Where the mode
            # decays, that is a forced motion which turns. (Where a solution ends like
            # `(t1 - t)^(1 / (k + 1))`, `h lambda` is `k / (k + 1)` in a step to the end.)
            bend = solution.bend, slow(solution.bend)
            grows = grows_unresolved(
                powers, tolerance.scale, largest, bend, _GROWTH / tableau.shift
            )
        if tableau.e_inside is not None:
            inside = weighted_sum(tableau.e_inside, solution.U)
            error = jnp.maximum(jnp.abs(error), jnp.abs(inside))
        if singular is not None:
            # From a start off the constraints the error is one that no shorter step makes smaller.
            y1 = system.y0 + weighted_sum(tableau.m, solution.U)
            left = singular.out_of_range(system.field(system.t0 + system.dt, y1))
            left = jnp.abs(structure.solve(solution.factors, (system.h * left)[None])[0])
            if tolerance is not None:
                # Each has its tolerance, as at a start, however many others are at rest.
                largest = largest_size(scaled_error(left, tolerance.scale))
                mean = tolerance.scaled_norm(left)
                left = left * jnp.where((mean > 0) & (mean < largest), largest / mean, 1)
            error = jnp.maximum(jnp.abs(error), jnp.where(jnp.isnan(left), jnp.inf, left))
        return jnp.where(solution.finite & ~grows, error, jnp.inf)

    def _report(
        self,
        solution: RosenbrockSolution,
        finite: Array,
        error: Y | None,
        worst: Array,
        singular: Mass | None,
        tolerance: ErrorTolerance | None,
    ) -> StepReport:
        U, none, stages = solution.U, jnp.asarray(0), self.tableau.num_stages
        ends = int(error is not None and singular is not None)
        solves = stages if error is None else stages + ends + self._num_powers + 1
        solves += 0 if tolerance is None else stages + 1
        size = jnp.where(jnp.isfinite(U), jnp.abs(U), jnp.inf)
        largest = jnp.argmax(jnp.max(size, axis=0))
        return StepReport(
            error=error,
            converged=finite,
            finite=finite,
            theta=jnp.full((), jnp.nan, U.dtype),
            most_iterations=jnp.asarray(1),
            component=jnp.where(finite, worst, largest),
            work=StepWork(
                f_evaluations=jnp.asarray(stages + ends),
                jacobians=jnp.asarray(1),
                factorizations=jnp.asarray(1),
                linear_solves=jnp.asarray(solves),
                newton_iterations=none,
            ),
        ).sent()


def _check_parts(solver: AbstractRosenbrock) -> None:
    linear_solver, name = check_linear_algebra(solver), type(solver).__name__
    if solver.structure is not None and not solver.structure.has_entries:
        raise ValueError(
            f"`{name}(structure={solver.structure.written})` was given; a Rosenbrock method needs the "
            "exact Jacobian, and its linear systems solved to rounding. Write "
            f"`{name}(structure=stiffrax.Banded(1, 1))`, `BlockDiagonal` or `Sparsity`, or "
            "`stiffrax.RadauIIA5(structure=...)`."
        )
    if isinstance(linear_solver, ITERATIVE):
        given = type(solver.exact_linear_solver).__name__
        raise ValueError(
            f"`{name}(linear_solver={given}(...))` was given; a Rosenbrock method needs its linear "
            f"systems solved to rounding, which no iteration does. Write `{name}()` or "
            f"`{name}(linear_solver=lineax.LU())`, or `stiffrax.RadauIIA5(linear_solver=...)`."
        )


def _check_index(name: str, mass: Mass) -> None:
    if mass.powers is not None:
        index = tuple(power + 1 for power in mass.powers)
        raise ValueError(
            f"`{name}` was given a mass matrix with `index={index}`; Rosenbrock methods solve "
            "differential-algebraic equations of index 1. Write `stiffrax.RadauIIA5()`."
        )
