"""What a solve did, in words: where it failed, in which component, what to try."""

from collections.abc import Sequence

import diffrax
import numpy as np

from .._arguments import check_instance, check_one_lane

# Beyond this share of steps whose iteration failed, a success is worth a word as well.
_MANY_REJECTED = 0.2
# A step so much shorter than the way behind it is stuck: more steps would not bring it on.
_STUCK = 1e-10

# Cycles of GMRES a Newton iteration: with a good preconditioner three for each of one to four systems.
_MANY_CYCLES = 16

# Beyond so many steps a method of an order so low takes two to six times as many for a further digit.
_MANY_STEPS, _LOW_ORDER = 1000, 3

_FIELD = (
    "look for a root, logarithm or division that has no value at a state on the way; if the solution "
    "itself gets there, end the solve before, by a `diffrax.Event`"
)
_AT_START = (
    "print `vector_field(t, y, args)` and its `jax.jacfwd` at the start of this step: state, slope "
    "or Jacobian is not finite there, or with Rosenbrock methods the derivative by the time, so "
    "that a step of no size can succeed"
)
_SHORT_OF_STEPS = (
    "raise `max_steps`, loosen rtol and atol, or take a method of higher order (`RadauIIA9`)"
)
_HIGHER_ORDER = (
    "take a method of higher order, such as `RadauIIA5`: at this tolerance a method of order "
    "{order} takes many short steps, and for each further digit several times as many"
)
_UNDAMPED = (
    "if the problem is stiff, take a method that damps, such as `RadauIIA5`: with Gauss methods and "
    "`Trapezoid` fast components stay as far off as the first steps have left them, and steps stay "
    "short"
)
_SINGULARITY = (
    "look at the solution just before this time: if it grows without bound or reaches the end of the "
    "domain of the vector field, end the solve before; if the vector field jumps there, pass the "
    "time as `jump_ts` of `diffrax.ClipStepSizeController`; more steps will not help"
)
_SINGLE = (
    "give the state in double precision, or loosen rtol and atol: with what single precision rounds "
    "the stage equations may not be solved to this tolerance, in shorter steps neither"
)
_BELOW_SPACING = (
    "raise `dt0`, or give the times in double precision: a step of this size is below the spacing of "
    "the numbers around this time"
)
_SMALLER_DTMIN = "lower `dtmin`, or leave it out, if the solution needs shorter steps than that"
_FORCED = (
    "lower `dtmin`, or leave it out: a step of that size could not be solved, and "
    "`diffrax.PIDController` keeps it; with `force_dtmin=False` it says so instead, as "
    "`PredictiveController` does"
)
_ADAPTIVE = "take an adaptive controller, such as `PredictiveController`, or smaller fixed steps"
_INCONSISTENT = (
    "start a problem with a mass matrix from `consistent_initial_values(term, t0, y0, args)`; "
    "`throw=True` says it if the start is refused for another reason"
)
_PREDICTIVE = (
    "take `PredictiveController`: many steps were rejected because the iteration failed, and it "
    "takes that into account"
)
_LOWER_ORDER = (
    "take a method of lower order, such as `RadauIIA5`, or a smaller rtol: many steps were rejected "
    "because the iteration failed, since they are long for a Jacobian from their start"
)
_PRECONDITIONER = (
    "give `MatrixFree` a `preconditioner`, such as `Banded(1, 1)`, or take `Banded`, "
    "`BlockDiagonal` or `Sparsity`: without one the linear solves of a stiff problem stop short, and "
    "steps shrink until they succeed"
)
_CLOSER = (
    "give `MatrixFree` a `preconditioner` that is closer to the Jacobian: its linear solves take "
    "{count} cycles of GMRES a Newton iteration"
)
_TO_KNOW_MORE = (
    "To know where, in which component and after how much work, solve by a stiffrax solver, not "
    "`LearnableRungeKutta`, with `adjoint=stiffrax.DiscreteAdjoint()`."
)


def explain(solution: diffrax.Solution, names: Sequence[str] | None = None) -> str:
    """Explains a solve in words: its work, and where, why and in which component it failed.

    **Arguments:**

    - `solution`: of any solve; for failed ones with `throw=False`. One lane of a batch. With
      `adjoint=stiffrax.DiscreteAdjoint()`, or another adjoint of stiffrax, `solution.stats` counts
      the work and tells where the solve failed; without, and of `LearnableRungeKutta`, only the
      number of steps is known.
    - `names`: names of the components of the flat state; `y1`, `y2`, ... without.

    **Returns:** a few lines of text.

    **Raises:** `ValueError` if the solution is a whole batch, or something else, and for too few
    names.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> blow_up = diffrax.ODETerm(lambda t, y, args: y**2)
    >>> solution = diffrax.diffeqsolve(blow_up, srx.BackwardEuler(), 0.0, 2.0, 0.5, jnp.ones(1),
    ...     adjoint=srx.DiscreteAdjoint(), throw=False)
    >>> print(srx.diagnostics.explain(solution).splitlines()[0])
    Failed in the step from t = 0 with h = 0.5: the iteration for y1 did not converge.

    ```
    """
    check_instance(
        "solution",
        solution,
        diffrax.Solution,
        "the solution of a solve",
        "explain(diffrax.diffeqsolve(..., throw=False))",
    )
    stats = solution.stats
    check_one_lane(stats["num_steps"])
    if "last_step" not in stats:
        return _without_counts(solution)
    lines = [_work(stats)]
    if _failed(solution):
        lines = [_failure(solution, names), *lines]
    return "\n".join([*lines, *(f"To try: {text}." for text in _advice(solution))])


def _failed(solution: diffrax.Solution) -> bool:
    good = solution.result == diffrax.RESULTS.successful
    return not good and bool(solution.result != diffrax.RESULTS.event_occurred)


def _without_counts(solution: diffrax.Solution) -> str:
    stats = solution.stats
    lines = [f"{stats['num_steps']} steps, {stats['num_rejected_steps']} of them rejected."]
    if _failed(solution):
        lines.insert(0, f"Failed: {diffrax.RESULTS[solution.result]}")
    return "\n".join([*lines, _TO_KNOW_MORE])


def _failure(solution: diffrax.Solution, names: Sequence[str] | None) -> str:
    last = solution.stats["last_step"]
    direction = -1 if solution.t1 < solution.t0 else 1
    k = int(last["component"])
    name = f"y{k + 1}" if names is None else _named(k, names)
    where = f"in the step from t = {direction * float(last['t']):.6g} with h = {last['h']:.3g}"
    if solution.result == diffrax.RESULTS.max_steps_reached:
        return f"Stopped at the limit of steps, {where}; {name} has the largest error there."
    if last["converged"]:
        return f"Failed {where}: the error of {name} is the largest, and too large."
    if not _iterates(solution.stats):
        return f"Failed {where}: the stages of {name} are not finite."
    return f"Failed {where}: the iteration for {name} did not converge."


def _named(k: int, names: Sequence[str]) -> str:
    if isinstance(names, str) or k >= len(names):
        raise ValueError(
            f"`names={names!r}` was given, and component {k + 1} of the state is to be named; it needs "
            "a sequence of one name for each component of the flat state, or leave it out."
        )
    return names[k]


def _iterates(stats: dict) -> bool:
    return int(stats["num_newton_iterations"]) > 0


def _work(stats: dict) -> str:
    if not _iterates(stats):
        return (
            f"{stats['num_steps']} steps, {stats['num_rejected_steps']} of them rejected "
            f"({stats['num_rejected_by_error']} by their error, {stats['num_rejected_by_newton']} "
            f"because their stages were not finite); {stats['num_f_evaluations']} evaluations of the "
            f"vector field, {stats['num_jacobians']} Jacobians, {stats['num_factorizations']} "
            "factorizations."
        )
    cycles = int(stats["num_gmres_cycles"])
    cycles = f", {cycles} cycles of GMRES" if cycles else ""
    return (
        f"{stats['num_steps']} steps, {stats['num_rejected_steps']} of them rejected "
        f"({stats['num_rejected_by_error']} by their error, {stats['num_rejected_by_newton']} "
        f"because the iteration failed); {stats['num_newton_iterations']} iterations, "
        f"{stats['num_f_evaluations']} evaluations of the vector field, "
        f"{stats['num_jacobians']} Jacobians, {stats['num_factorizations']} factorizations{cycles}."
    )


def _advice(solution: diffrax.Solution) -> list[str]:
    """Imperative sentences without their full stop, the best one first."""
    stats, code = solution.stats, solution.result
    last, setup = stats["last_step"], stats["setup"]
    results = diffrax.RESULTS
    if code == results.successful or code == results.event_occurred:
        return _after_success(stats)
    found = [_PRECONDITIONER] if setup["unpreconditioned"] else []
    found += [] if last["finite"] else [_FIELD]
    if setup["adaptive"] and code == results.nonfinite:
        return [_AT_START] if stats["num_steps"] == 1 else [_AT_START, *found]
    if code == results.max_steps_reached:
        if _is_stuck(solution):
            return [*found, _SINGULARITY]
        undamped = [_UNDAMPED] if setup["adaptive"] and setup["undamped"] else []
        return [*found, *undamped, _short_of_steps(solution)]
    if code == results.dt_min_reached and not setup["adaptive"]:
        return [_BELOW_SPACING]
    if code == results.dt_min_reached:
        rounds = _iteration_fails(stats) and np.asarray(last["h"]).dtype == np.float32
        found += [_SINGLE] if rounds else []
        return [*found, _SINGULARITY] + ([] if _is_stuck(solution) else [_SMALLER_DTMIN])
    # Under fixed steps the start need not be why an iteration has not converged.
    at_start = stats["num_steps"] == 1 and (setup["adaptive"] or last["converged"])
    if at_start:
        return [*found, _INCONSISTENT]
    return [*found, _FORCED if setup["adaptive"] else _ADAPTIVE]


def _short_of_steps(solution: diffrax.Solution) -> str:
    """With an estimate of the steps that are missing: those of the last size to the end."""
    last, taken = solution.stats["last_step"], int(solution.stats["num_steps"])
    direction = -1 if solution.t1 < solution.t0 else 1
    left = direction * float(solution.t1) - float(last["t"])
    # Two digits: step sizes change on the way.
    needed = float(f"{taken + left / float(last['h']):.1e}")
    if not needed < 1e15:
        return _SHORT_OF_STEPS
    return (
        f"{_SHORT_OF_STEPS}; at the last step size the solve needs about {needed:.0f} steps in all"
    )


def _after_success(stats: dict) -> list[str]:
    # A solver without iterations counts none.
    cycles = int(stats["num_gmres_cycles"]) / max(int(stats["num_newton_iterations"]), 1)
    if cycles > _MANY_CYCLES:
        closer = _CLOSER.format(count=round(cycles))
        return [_PRECONDITIONER if stats["setup"]["unpreconditioned"] else closer]
    if not _iteration_fails(stats):
        setup = stats["setup"]
        many = setup["adaptive"] and stats["num_steps"] > _MANY_STEPS
        low = setup["order"] <= _LOW_ORDER
        return [_HIGHER_ORDER.format(order=int(setup["order"]))] if many and low else []
    if stats["setup"]["unpreconditioned"]:
        return [_PRECONDITIONER]
    if int(stats["num_newton_iterations"]) == 0:
        return [_FIELD]
    return [_LOWER_ORDER if stats["setup"]["predictive"] else _PREDICTIVE]


def _iteration_fails(stats: dict) -> bool:
    return int(stats["num_rejected_by_newton"]) > _MANY_REJECTED * int(stats["num_steps"])


def _is_stuck(solution: diffrax.Solution) -> bool:
    last = solution.stats["last_step"]
    direction = -1 if solution.t1 < solution.t0 else 1
    behind = float(last["t"]) - direction * float(solution.t0)
    # Nothing is behind a first step: it is stuck if it is that short of the whole.
    behind = behind or abs(float(solution.t1) - float(solution.t0))
    behind = behind if np.isfinite(behind) else 0.0
    # Not `<=`: a step that is no number is stuck as well.
    return not abs(float(last["h"])) > _STUCK * behind
