"""A solve in words: what it took, what failed and where, and what to try."""

from collections.abc import Sequence

import diffrax
import numpy as np

_ADVICE = (
    (
        diffrax.RESULTS.max_steps_reached,
        "raise `max_steps`, loosen rtol and atol, or take a method of higher order "
        "(`RadauIIA9`); if h stays tiny, look for a singularity or a jump there",
    ),
    (
        diffrax.RESULTS.dt_min_reached,
        "lower `dtmin`; if the solution has a jump there, pass its time as `jump_ts` of "
        "`diffrax.ClipStepSizeController`; if it grows without bound, end the solve before",
    ),
    (
        diffrax.RESULTS.nonlinear_divergence,
        "take an adaptive controller, such as `PredictiveController`, or smaller fixed steps",
    ),
    (
        diffrax.RESULTS.nonlinear_max_steps_reached,
        "take an adaptive controller, such as `PredictiveController`, or smaller fixed steps",
    ),
    (
        diffrax.RESULTS.nonfinite,
        "look for a root, logarithm or division that has no value at a state on the way, and "
        "take a smaller `dt0` or an adaptive controller",
    ),
)


def explain(solution: diffrax.Solution, names: Sequence[str] | None = None) -> str:
    """Says in words what a solve took; if it failed, where, in which component, what to try.

    **Arguments:**

    - `solution`: of a solve with `adjoint=stiffrax.DiscreteAdjoint()`, which counts the work in
      `solution.stats`; for failed solves with `throw=False`. One lane of a batch.
    - `names`: names of the components of the flat state; `y1`, `y2`, ... without.

    **Returns:** a few lines of text.

    **Raises:** `ValueError` if the solution has no counts, or is a whole batch.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> blow_up = diffrax.ODETerm(lambda t, y, args: y**2)
    >>> solution = diffrax.diffeqsolve(blow_up, srx.BackwardEuler(), 0.0, 2.0, 0.5, jnp.ones(1),
    ...     adjoint=srx.DiscreteAdjoint(), throw=False)
    >>> print(srx.diagnostics.explain(solution).splitlines()[0])
    Failed in the step from t = 0 with h = 0.5: the iteration for y1 did not converge.

    ```
    """
    stats = solution.stats
    if "last_step" not in stats:
        raise ValueError(
            "The solution has no counts in its `stats`. Solve with "
            "`adjoint=stiffrax.DiscreteAdjoint()`."
        )
    if np.ndim(stats["num_steps"]):
        raise ValueError(
            f"A batch of shape {np.shape(stats['num_steps'])} was given; one solution is needed. "
            "Write `jax.tree.map(lambda x: x[0], solution)` for its first lane."
        )
    lines = [_work(stats)]
    good = solution.result == diffrax.RESULTS.successful
    if not good and solution.result != diffrax.RESULTS.event_occurred:
        lines = [_failure(solution, names), *lines]
        advice = [text for code, text in _ADVICE if solution.result == code]
        lines += [f"To try: {text}." for text in advice]
    elif stats["num_rejected_by_newton"] > 0.2 * stats["num_steps"]:
        lines.append(
            "To try: many steps were rejected because the iteration failed; "
            "`PredictiveController` takes that into account."
        )
    return "\n".join(lines)


def _failure(solution: diffrax.Solution, names: Sequence[str] | None) -> str:
    last = solution.stats["last_step"]
    direction = -1 if solution.t1 < solution.t0 else 1
    k = int(last["component"])
    name = f"y{k + 1}" if names is None else names[k]
    where = f"in the step from t = {direction * float(last['t']):.6g} with h = {last['h']:.3g}"
    if solution.result == diffrax.RESULTS.max_steps_reached:
        return f"Stopped at the limit of steps, {where}; {name} has the largest error there."
    if last["converged"]:
        return f"Failed {where}: the error of {name} is the largest, and too large."
    return f"Failed {where}: the iteration for {name} did not converge."


def _work(stats: dict) -> str:
    return (
        f"{stats['num_steps']} steps, {stats['num_rejected_steps']} of them rejected "
        f"({stats['num_rejected_by_error']} by their error, {stats['num_rejected_by_newton']} "
        f"because the iteration failed); {stats['num_newton_iterations']} iterations, "
        f"{stats['num_f_evaluations']} evaluations of the vector field, "
        f"{stats['num_jacobians']} Jacobians, {stats['num_factorizations']} factorizations."
    )
