"""A place for the tolerances of a step-size controller, in a root finder or where one would be."""

from typing import Any, final

import equinox as eqx
import optimistix as optx

from ..diffrax_loop import enclosing_steps_are_fixed, use_stepsize_tol


def _open_under_fixed_steps(value: Any) -> bool:
    return value is use_stepsize_tol and enclosing_steps_are_fixed()


class AbstractOpenTolerances(eqx.Module):
    """Tolerances and norm that may be left for the step-size controller to fill in.

    diffrax does so for the root finder of an implicit solver, and refuses one that leaves them open
    under fixed steps, where nothing can fill them in: to those alone they show as settled.
    """

    _rtol: Any = use_stepsize_tol
    _atol: Any = use_stepsize_tol
    _norm: Any = use_stepsize_tol

    @property
    def rtol(self) -> Any:
        """Relative tolerance."""
        return 0.0 if _open_under_fixed_steps(self._rtol) else self._rtol

    @property
    def atol(self) -> Any:
        """Absolute tolerance, in units of the state."""
        return 0.0 if _open_under_fixed_steps(self._atol) else self._atol

    @property
    def norm(self) -> Any:
        """Norm of a scaled error or displacement."""
        return optx.rms_norm if _open_under_fixed_steps(self._norm) else self._norm

    @property
    def has_tolerances(self) -> bool:
        """Whether tolerances were given, or filled in by an adaptive controller."""
        return self._rtol is not use_stepsize_tol


@final
class ControllerTolerances(AbstractOpenTolerances):
    """The controller's tolerances, in a solver that has no root finder for diffrax to put them in."""
