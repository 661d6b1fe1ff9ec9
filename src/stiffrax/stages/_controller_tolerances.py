"""A place for the tolerances of a controller, in a solver that iterates nothing."""

from typing import Any, final

import equinox as eqx
import optimistix as optx

from ..diffrax_loop import enclosing_steps_are_fixed, use_stepsize_tol


def _open_under_fixed_steps(value: Any) -> bool:
    return value is use_stepsize_tol and enclosing_steps_are_fixed()


@final
class ControllerTolerances(eqx.Module):
    """Tolerances and norm of the step-size controller, which diffrax fills in.

    diffrax hands them to the root finder of an implicit solver only; a Rosenbrock method has none,
    and keeps them where one would be. To a fixed-step solve, which has nothing to fill in and would
    refuse, they show as settled.
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
        """Norm of a scaled error."""
        return optx.rms_norm if _open_under_fixed_steps(self._norm) else self._norm

    @property
    def are_known(self) -> bool:
        """Whether an adaptive controller has filled them in."""
        return self._rtol is not use_stepsize_tol
