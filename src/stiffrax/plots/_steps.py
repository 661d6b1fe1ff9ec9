"""The sizes of the steps of a solve, and the Newton iterations that they took."""

from typing import Any

import diffrax
import numpy as np

from ..controllers import StepHistory
from ._axes import COLORS, one_axes


def steps(solution: diffrax.Solution, *, log_time: bool = False, ax: Any = None) -> Any:
    """The size of every accepted step over the time of its end.

    **Arguments:**

    - `solution`: of a solve with `SaveAt(steps=True)`; one lane of a batch.
    - `log_time`: a logarithmic axis of time.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if the solution holds no steps or is a batch, or without matplotlib.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -y)
    >>> solution = diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, 0.25, jnp.array(1.0),
    ...     saveat=diffrax.SaveAt(steps=True))
    >>> ax = srx.plots.steps(solution)
    >>> ax.get_lines()[0].get_ydata().round(3).tolist()
    [0.25, 0.25, 0.25, 0.25]

    ```
    """
    if solution.ts is None or np.ndim(solution.ts) != 1:
        shape = None if solution.ts is None else np.shape(solution.ts)
        raise ValueError(
            f"The solution has times of shape {shape}; one solve with `SaveAt(steps=True)` is "
            "needed. Write `jax.tree.map(lambda x: x[0], solution)` for the first lane of a batch."
        )
    ts = np.asarray(solution.ts)
    ts = np.concatenate([[float(solution.t0)], ts[np.isfinite(ts)]])
    ts = ts[:1] if len(ts) == 1 else ts[np.append(True, np.diff(ts) != 0)]
    if len(ts) < 2:
        raise ValueError("The solution holds no step. Solve with `SaveAt(steps=True)`.")
    ax = one_axes(ax)
    ax.semilogy(ts[1:], np.abs(np.diff(ts)), ".-", color=COLORS[0], lw=0.8, ms=3)
    if log_time:
        ax.set_xscale("log")
    ax.set(xlabel="time", ylabel="step size")
    return ax


def newton_iterations(solution: diffrax.Solution, *, log_time: bool = False, ax: Any = None) -> Any:
    """The Newton iterations of every attempted step over the time of its end.

    Steps that were rejected are crosses, in two colors: by the error estimate, or because the
    iteration failed. Below a picture of `steps` with `sharex` it shows what each step took.

    **Arguments:**

    - `solution`: of a solve with [`stiffrax.RecordingController`][] and
      `SaveAt(..., controller_state=True)`; one lane of a batch.
    - `log_time`: a logarithmic axis of time.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if the solution holds no record or is a batch, or without matplotlib.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> controller = srx.RecordingController(srx.PredictiveController(1e-4, 1e-6), num_rows=64)
    >>> solution = diffrax.diffeqsolve(
    ...     diffrax.ODETerm(lambda t, y, args: -50 * (y - jnp.cos(t))), srx.RadauIIA5(), 0.0, 1.0,
    ...     0.1, jnp.array(2.0), stepsize_controller=controller,
    ...     saveat=diffrax.SaveAt(steps=True, controller_state=True))
    >>> ax = srx.plots.newton_iterations(solution)
    >>> ax.get_lines()[0].get_ydata()[:3].tolist()
    [2, 2, 2]

    ```
    """
    history = solution.controller_state
    if not isinstance(history, StepHistory):
        raise ValueError(
            "The solution holds no record of its steps. Solve with "
            "`stepsize_controller=RecordingController(...)` and `SaveAt(..., controller_state=True)`."
        )
    if np.ndim(history.count):
        raise ValueError(
            f"A batch of shape {np.shape(history.count)} was given; one solution is needed. "
            "Write `jax.tree.map(lambda x: x[0], solution)` for its first lane."
        )
    num = int(history.count)
    ends = (np.asarray(history.t) + np.asarray(history.h))[:num]
    iterations = np.asarray(history.newton_iterations)[:num]
    accepted, converged = np.asarray(history.accepted)[:num], np.asarray(history.converged)[:num]
    ax = one_axes(ax)
    kinds = (
        ("accepted", accepted, "."),
        ("rejected by the error", ~accepted & converged, "x"),
        ("iteration failed", ~accepted & ~converged, "+"),
    )
    for (label, rows, marker), color in zip(kinds, COLORS, strict=False):
        if rows.any():
            ax.plot(ends[rows], iterations[rows], marker, color=color, ms=4, label=label)
    if log_time:
        ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set(xlabel="time", ylabel="Newton iterations")
    if not accepted.all():
        ax.legend()
    return ax
