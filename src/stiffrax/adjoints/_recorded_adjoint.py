"""What adjoints that go back over the recorded steps of a solve share."""

from typing import Any

from ._differentiable_solve import AbstractGradientRule, SolveInputs, differentiable_solve
from ._solve_adjoint import AbstractSolveAdjoint


class AbstractRecordedAdjoint(AbstractSolveAdjoint, AbstractGradientRule):
    """An adjoint that records the steps of a stiffrax solver and makes the gradient of them."""

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """Forward with a record of the steps, backward over it."""
        return differentiable_solve(inputs, rule=self, **kwargs)
