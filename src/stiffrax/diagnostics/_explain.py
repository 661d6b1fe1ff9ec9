"""What a solve did, in words: where it failed, in which component, what to try."""

from collections.abc import Sequence

import diffrax

from .._arguments import check_instance, check_one_lane
from ._advice import advice

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
    return "\n".join([*lines, *(f"To try: {text}." for text in advice(solution))])


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
