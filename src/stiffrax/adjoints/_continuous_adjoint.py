"""What the continuous adjoints share: a linear differential equation, solved back in time."""

import abc
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from ._adjoint_equation import AdjointEquation
from ._adjoint_loop import AdjointState, AdjointTolerances, solve_adjoint
from ._cotangent_jumps import cotangent_jumps
from ._linear_methods import AbstractLinearMethod
from ._recorded_adjoint import AbstractRecordedAdjoint
from ._refusals import check_choice, check_tolerances, refuse_singular_mass
from ._saved_values import SavedCotangents
from ._step_equations import StepEquations
from ._step_record import StepRecord


class AbstractContinuousAdjoint(AbstractRecordedAdjoint):
    """An adjoint that solves `lambda' = -J^T lambda` along the recorded solution."""

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    trains_tableaus: ClassVar[bool] = False

    def __check_init__(self):
        check_choice(self, "failed", "zero", "nan")
        check_tolerances(self)

    @property
    @abc.abstractmethod
    def method(self) -> AbstractLinearMethod:
        """The method for the adjoint equation."""

    @property
    def integrates_on_the_way(self) -> bool:
        """Whether the parameter integral is part of the solve, or made of its dense output."""
        return True

    def parameter_integral(self, equation: AdjointEquation, state: AdjointState) -> PyTree:
        """The cotangents of the parameters."""
        del equation
        return state.integral

    def pull(
        self, equations: StepEquations, record: StepRecord, saved: list[SavedCotangents]
    ) -> tuple[Float[Array, " n"], PyTree]:
        """Solves the adjoint equation and the parameter integral."""
        refuse_singular_mass(type(self).__name__, equations.terms)
        equation = AdjointEquation(equations, record)
        state = solve_adjoint(
            equation,
            cotangent_jumps(saved),
            AdjointTolerances(self.rtol, self.atol, self.method),
            max_steps=self.max_steps,
            integrate=self.integrates_on_the_way,
            keep_dense=not self.integrates_on_the_way,
        )
        return state.adjoint, self.parameter_integral(equation, state)
