"""What implicit Runge-Kutta and Rosenbrock methods share: a tableau, a structure, a slope."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import diffrax
import equinox as eqx
import lineax as lx
from jaxtyping import Array, ArrayLike, Bool, PyTree

from ..diffrax_loop import unwrap_term
from ..stages import (
    AbstractStructure,
    Dense,
    ErrorTolerance,
    Mass,
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
