"""The arguments of the `diffeqsolve` being traced, read from its frame: the only such file.

diffrax hands a solver neither its controller, its event, its adjoint nor `throw`. They are settled
while tracing, so that they can be read off the caller's frame. Once diffrax passes them to
`solver.init`, or lets a solver say which tolerances it takes under fixed steps, this file goes.
"""

import functools as ft
import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax

from ._step_report import asks_for_report

_DIFFEQSOLVE = diffrax.diffeqsolve.__wrapped__.__code__


def run_with_controller(
    loop: Callable[..., Any],
    stepsize_controller: Any,  # noqa: ARG001
    event: Any,  # noqa: ARG001
) -> Any:
    """Calls `loop`, and has the steps that it traces know what controls and what may stop them.

    JAX traces the derivative rule of a solve when `diffeqsolve` has long returned.
    """
    return loop()


# Within what checkers of types have wrapped around it.
_SOLVES = (_DIFFEQSOLVE, inspect.unwrap(run_with_controller).__code__)


def traced_once(step: Callable[..., Any]) -> Callable[..., Any]:
    """A solver's `step`, of which a solve keeps the trace, and no other solve.

    diffrax's loop traces a step three times, its derivative seven times: more than a third of what
    Python does before a first gradient is compiled. A controller is one object in one solve alone.
    """
    latest: list[Any] = [(lambda: None, None)]

    def compiled() -> Any:
        def run(arrays: Any, rest: Any) -> Any:
            args, given = eqx.combine(arrays, jax.tree.unflatten(*rest))
            return step(*args, **given)

        return jax.jit(run, static_argnums=1)

    @ft.wraps(step)
    def traced(*args: Any, **given: Any) -> Any:
        controller = _enclosing_argument("stepsize_controller")
        if controller is None:
            return step(*args, **given)
        of_solve, once = latest[0]
        if of_solve() is not controller:
            once = compiled()
            latest[0] = weakref.ref(controller), once
        arrays, rest = eqx.partition((args, given), eqx.is_array)
        leaves, tree = jax.tree.flatten(rest)
        return once(arrays, (tree, tuple(leaves)))

    return traced


def enclosing_steps_are_fixed() -> bool:
    """Whether the `diffeqsolve` that is being traced right now has a fixed-step controller.

    diffrax fills the tolerances of an implicit solver in from an adaptive controller, and refuses
    an implicit solver without tolerances under a fixed-step one. A solver with a default for fixed
    steps *and* the controller's tolerances for adaptive ones must know which of the two it is in.
    Only diffrax's own check depends on it.
    """
    controller = _enclosing_argument("stepsize_controller")
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    return controller is not None and not adaptive


def enclosing_controller_is_pid() -> bool:
    """Whether diffrax's controller judges the error, and no class of a user's on the way reads it."""
    return _is_judged_by_pid(_enclosing_argument("stepsize_controller"))


def takes_report(controller: Any) -> bool:
    """Whether a controller of stiffrax gets a `StepReport`, which no class of a user's reads before."""
    return _reaches(controller, lambda x: type(x).__module__.startswith("stiffrax."))


def _is_judged_by_pid(controller: Any) -> bool:
    return _reaches(controller, lambda x: isinstance(x, diffrax.PIDController))


def _reaches(controller: Any, is_judge: Callable[[Any], bool]) -> bool:
    if not isinstance(controller, diffrax.AbstractStepSizeController):
        return False
    adapt = inspect.unwrap(type(controller).adapt_step_size)
    code = getattr(adapt, "__code__", None)
    if code is not None and adapt.__module__.partition(".")[0] not in ("diffrax", "stiffrax"):
        # One that names the error, its seventh argument, may read it; without another it judges.
        if code.co_argcount > 6 or "adapt_step_size" not in code.co_names:
            return False
    if is_judge(controller):
        return True
    is_one = lambda x: isinstance(x, diffrax.AbstractStepSizeController)  # noqa: E731
    inner = jax.tree.leaves(vars(controller), is_leaf=is_one)
    return any(_reaches(x, is_judge) for x in inner)


def report_is_read(norm: Any) -> bool:
    """Whether a `StepReport` is read: by the controller, or by what counts the work of all steps."""
    controller = _enclosing_argument("stepsize_controller")
    return takes_report(controller) or asks_for_report(norm) and (norm.counts or controller is None)


def enclosing_event() -> Any:
    """The event of the `diffeqsolve` that is being traced right now, if it has one.

    diffrax asks it after each step, whether or not the step failed.
    """
    return _enclosing_argument("event")


def enclosing_solver() -> Any:
    """The solver of the `diffeqsolve` that is being traced right now, which may wrap another."""
    return _enclosing_argument("solver")


def enclosing_adjoint() -> Any:
    """The adjoint of the `diffeqsolve` that is being traced right now."""
    return _enclosing_argument("adjoint")


def enclosing_solve_jumps() -> bool:
    """Whether the controller of the `diffeqsolve` being traced has times at which the field jumps."""
    is_one = lambda x: getattr(x, "jump_ts", None) is not None  # noqa: E731
    controller = _enclosing_argument("stepsize_controller")
    return any(is_one(x) for x in jax.tree.leaves(controller, is_leaf=is_one))


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
        if frame.f_code in _SOLVES and name in frame.f_locals:
            return frame.f_locals[name]
        frame = frame.f_back
    return None
