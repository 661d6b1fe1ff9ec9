"""What implicit Runge-Kutta and Rosenbrock methods share: a tableau, a structure, a slope."""

import abc
from typing import Any, TypeAlias

import diffrax
import equinox as eqx
import lineax as lx
from jaxtyping import ArrayLike, PyTree

from ..stages import AbstractStructure, Dense
from ._consistent_start import typical_slope
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
        given = self.structure
        return given.linear_solver if isinstance(given, Dense) else self.linear_solver

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
