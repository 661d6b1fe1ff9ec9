"""What implicit Runge-Kutta and Rosenbrock methods share: a tableau, a structure, a slope, checks."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import diffrax
import equinox as eqx
import lineax as lx
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, PyTree

from .._arguments import check_count, check_instance
from ..diffrax_loop import unwrap_term
from ..stages import (
    AbstractStructure,
    Dense,
    ErrorTolerance,
    Mass,
    MatrixFree,
    RosenbrockSystem,
    StageSystem,
)
from ._consistent_start import check_mass, check_start, projected, typical_slope
from ._terms import mass_of

Y: TypeAlias = PyTree[ArrayLike]


class AbstractTableauSolver(diffrax.AbstractImplicitSolver, diffrax.AbstractAdaptiveSolver):
    """A solver of one method, given by its tableau."""

    linear_solver: eqx.AbstractVar[lx.AbstractLinearSolver | None]
    structure: eqx.AbstractVar[AbstractStructure | None]

    @property
    @abc.abstractmethod
    def tableau(self) -> Any:
        """The coefficients of the method."""

    @property
    def _given_structure(self) -> AbstractStructure:
        return Dense(self.linear_solver) if self.structure is None else self.structure

    @property
    def exact_linear_solver(self) -> lx.AbstractLinearSolver | None:
        """What solves dense systems that are exact: of derivatives, and of Newton's method proper."""
        # That of a `Sparsity`, if it has one.
        given = getattr(self.structure, "dense", self.structure)
        return given.linear_solver if isinstance(given, Dense) else self.linear_solver

    @abc.abstractmethod
    def _tolerance(self, y0: Y) -> ErrorTolerance | None:
        """The tolerances that an adaptive controller filled in, if there is one."""

    def _checked_start(
        self,
        equations: Callable[[], StageSystem | RosenbrockSystem],
        terms: Any,
        mass: Mass,
        y0: Y,
        structure: AbstractStructure,
        shift: float,
    ) -> tuple[Mass, Bool[Array, ""]]:
        """The mass as the steps need it, and whether a solve may start at `y0`."""
        term = unwrap_term(terms)
        check_mass(type(self).__name__, self.tableau, self._given_structure, term, mass)
        system, mass = equations(), projected(term, mass)
        return mass, check_start(self, system, mass, terms, self._tolerance(y0), structure, shift)

    def order(self, terms: Any) -> int:
        """Order of convergence."""
        del terms
        return self.tableau.order

    def error_order(self, terms: Any) -> int:
        """Power of the step size in the error estimate."""
        del terms
        return self.tableau.error_order

    def func(self, terms: Any, t0: Any, y0: Y, args: Any) -> Y:
        """The vector field; with a mass matrix, a slope that it allows."""
        mass = mass_of(terms, y0)
        return terms.vf(t0, y0, args) if mass is None else typical_slope(terms, mass, t0, y0, args)


def check_parts(solver: Any) -> None:
    """Refuses parts of another kind, and parts that exclude each other."""
    check_instance(
        "root_finder",
        solver.root_finder,
        optx.AbstractRootFinder,
        "an optimistix root finder",
        "root_finder=stiffrax.SimplifiedNewton()",
    )
    check_linear_algebra(solver)
    check_count("root_find_max_steps", solver.root_find_max_steps, write="root_find_max_steps=50")
    if solver.mixed_precision and isinstance(solver.structure, MatrixFree):
        raise ValueError(
            "`mixed_precision=True` was given with `structure=MatrixFree(...)`, which has no "
            "factors to keep in single precision. Leave one of them out."
        )


def check_linear_algebra(solver: Any) -> Any:
    """The linear solver, unless it or the structure is of another kind, or both were given."""
    check_instance(
        "linear_solver",
        solver.linear_solver,
        lx.AbstractLinearSolver | None,
        "a lineax solver",
        "linear_solver=lineax.LU()",
    )
    check_instance(
        "structure",
        solver.structure,
        AbstractStructure | None,
        "the structure of a Jacobian",
        "structure=stiffrax.Banded(1, 1)",
    )
    if solver.linear_solver is not None and solver.structure is not None:
        raise ValueError(
            "Both `linear_solver` and `structure` were given. Write `structure=Dense(solver)`, "
            "or leave one of them out."
        )
    linear_solver = solver.exact_linear_solver
    while isinstance(linear_solver, lx.Normal):
        linear_solver = linear_solver.inner_solver
    # lineax lets any solver of a user's own say so.
    if (
        type(linear_solver).__module__.startswith("lineax.")
        and not linear_solver.assume_full_rank()
    ):
        raise ValueError(
            f"`linear_solver={type(linear_solver).__name__}(...)` was given, which may leave equations "
            "unsolved. Leave it out, or write `linear_solver=lineax.LU()`, not under `vmap`."
        )
    return linear_solver
