"""Everything stiffrax needs from diffrax that diffrax does not export: the only such file."""

import sys
from typing import Any

import diffrax
from diffrax import _adjoint
from diffrax._integrate import SaveState as SaveState, loop as loop
from diffrax._root_finder import use_stepsize_tol as use_stepsize_tol
from diffrax._saveat import save_y as save_y
from diffrax._term import WrapTerm as WrapTerm

inner_loop = _adjoint._inner_loop
outer_loop = _adjoint._outer_loop
nondiff_solver_controller_state = _adjoint._nondiff_solver_controller_state
only_transpose_ys = _adjoint._only_transpose_ys

_DIFFEQSOLVE = diffrax.diffeqsolve.__wrapped__.__code__


def enclosing_steps_are_fixed() -> bool:
    """Whether the `diffeqsolve` that is being traced right now has a fixed-step controller.

    diffrax fills the tolerances of an implicit solver in from an adaptive controller, and refuses
    an implicit solver without tolerances under a fixed-step one. Nothing that it hands to a solver
    tells the two apart, so that a solver with a default for fixed steps *and* the controller's
    tolerances for adaptive ones has to look at the caller. Only diffrax's own check depends on it.
    """
    controller = _enclosing_argument("stepsize_controller")
    if controller is None:
        return False
    return not isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)


def enclosing_solve_throws() -> bool:
    """Whether the `diffeqsolve` that is being traced right now raises when it fails.

    A solver cannot add a result code of its own, so that a message of its own has to be raised; not
    where the caller asked for results instead. Outside of `diffeqsolve` errors are raised.
    """
    throws = _enclosing_argument("throw")
    return throws is None or bool(throws)


def _enclosing_argument(name: str) -> Any:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _DIFFEQSOLVE:
            return frame.f_locals[name]
        frame = frame.f_back
    return None


def unwrap_term(term: Any) -> Any:
    """The user's own term: `diffeqsolve` hides its attributes in wrappers."""
    while isinstance(term, WrapTerm):
        term = term.term
    return term
