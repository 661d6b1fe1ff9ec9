"""What solves did: steps, Newton iterations, exponents, cost."""

from collections.abc import Mapping
from typing import Any

import diffrax
import numpy as np

from .._arguments import check_instance, check_one_lane
from ..controllers import StepHistory
from ..diagnostics import LyapunovSpectrum
from ._axes import COLORS, line_styles, marker_styles, one_axes


def steps(solution: diffrax.Solution, *, log_time: bool = False, ax: Any = None) -> Any:
    """The size of every accepted step over the time of its end.

    **Arguments:**

    - `solution`: of a solve with `SaveAt(steps=True)`; one lane of a batch.
    - `log_time`: a logarithmic axis of time.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if the solution holds no steps, other times (which their number tells), or
    is a batch, or without matplotlib.

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
    _check_solution(solution)
    if solution.ts is None or np.ndim(solution.ts) != 1:
        shape = None if solution.ts is None else np.shape(solution.ts)
        raise ValueError(
            f"The solution has times of shape {shape}; one solve with `SaveAt(steps=True)` is "
            "needed. Write `jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, solution)` for "
            "the first lane of a batch."
        )
    ts = np.asarray(solution.ts)
    saved = np.concatenate([[float(solution.t0)], ts[np.isfinite(ts)]])
    # A step from right before a jump to the jump has no length, nor has what `t0=True` adds.
    ts = saved[np.append(True, np.diff(saved) != 0)]
    if len(ts) < 2:
        raise ValueError("The solution holds no step. Solve with `SaveAt(steps=True)`.")
    accepted = int(solution.stats["num_accepted_steps"])
    if not len(ts) <= accepted + 1 <= len(saved):
        raise ValueError(
            f"The solution holds {len(ts) - 1} times after its start, and took {accepted} steps: other "
            "times than the ends of its steps were saved. Solve with `SaveAt(steps=True)` alone."
        )
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

    **Raises:** `ValueError` if the solution holds no record, one of too few rows, or is a batch, or
    without matplotlib.

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
    _check_solution(solution)
    history = solution.controller_state
    if not isinstance(history, StepHistory):
        raise ValueError(
            "The solution holds no record of its steps. Solve with "
            "`stepsize_controller=RecordingController(...)` and `SaveAt(..., controller_state=True)`."
        )
    check_one_lane(history.count)
    num = int(history.count)
    if num > len(history.t):
        raise ValueError(
            f"The record holds the first {len(history.t)} of {num} attempted steps; the others would "
            f"be missing. Solve with `RecordingController(..., num_rows={num})`."
        )
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


def lyapunov_convergence(spectrum: LyapunovSpectrum, *, ax: Any = None) -> Any:
    """The running mean of every exponent that is known over the time measured, with its error.

    **Arguments:**

    - `spectrum`: of [`stiffrax.diagnostics.lyapunov_spectrum`][].
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if none is known, or without matplotlib.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> spectrum = srx.diagnostics.lyapunov_spectrum(
    ...     lambda t, y, args: y * jnp.array([-1.0, -2.0]), jnp.ones(2), time=5.0, burn_in=5.0)
    >>> ax = srx.plots.lyapunov_convergence(spectrum)
    >>> len(ax.get_lines())
    2

    ```
    """
    write = "lyapunov_convergence(srx.diagnostics.lyapunov_spectrum(...))"
    check_instance("spectrum", spectrum, LyapunovSpectrum, "a `LyapunovSpectrum`", write)
    known = np.flatnonzero(np.isfinite(spectrum.exponents))
    local = np.asarray(spectrum.local)[:, :, known]
    local = local[np.all(np.isfinite(local), axis=(1, 2))]
    if not local.size:
        raise ValueError(
            f"The spectrum has no exponent to draw, and {spectrum.num_failed} of {len(spectrum.local)} "
            "starts failed. Start elsewhere, or give more steps or a shorter `interval`: "
            "`lyapunov_spectrum(..., max_steps=..., interval=...)`."
        )
    ax = one_axes(ax)
    # Failed starts are left out as a whole, as they are of the exponents.
    local = np.mean(local, axis=0)
    count = np.arange(1, len(local) + 1)
    running = np.cumsum(local, axis=0) / count[:, None]
    times = spectrum.interval * count
    for k, mean, style in zip(known, running.T, line_styles(), strict=False):
        ax.plot(times, mean, label=f"exponent {k + 1}", **style)
        value, error = float(spectrum.exponents[k]), float(spectrum.standard_errors[k])
        ax.axhspan(value - error, value + error, color=style["color"], alpha=0.2, lw=0)
    ax.set(xlabel="time", ylabel="Lyapunov exponent")
    ax.legend()
    return ax


def work_precision(
    curves: Mapping[str, tuple[Any, Any]], *, ax: Any = None, work: str = "time [ms]"
) -> Any:
    """Work against the error that was measured, one line a method.

    **Arguments:**

    - `curves`: label to `(errors, work)`, `Float[ndarray, " runs"]` each.
    - `ax`: axes to draw in; by default those of a new figure.
    - `work`: what the second numbers are.

    **Returns:** the axes; accuracy grows to the right.

    **Raises:** `ValueError` if errors and work of a method differ in number, or without matplotlib.

    ```python
    >>> import stiffrax as srx
    >>> ax = srx.plots.work_precision({"order 5": ([1e-4, 1e-6], [0.2, 0.5])})
    >>> ax.get_xlabel(), bool(ax.xaxis_inverted())
    ('error', True)

    ```
    """
    needed = "pairs of errors and work by their labels"
    check_instance("curves", curves, Mapping, needed, "work_precision({'order 5': (errors, work)})")
    for label, (errors, costs) in curves.items():
        if np.shape(errors) != np.shape(costs) or np.ndim(errors) != 1:
            raise ValueError(
                f"The curve {label!r} has errors of shape {np.shape(errors)} and work of shape "
                f"{np.shape(costs)}; write two sequences of equal length."
            )
    ax = one_axes(ax)
    for (label, (errors, costs)), style in zip(curves.items(), marker_styles(), strict=False):
        order = np.argsort(errors)
        ax.loglog(np.asarray(errors)[order], np.asarray(costs)[order], label=label, **style)
    if not ax.xaxis_inverted():
        ax.invert_xaxis()
    ax.set(xlabel="error", ylabel=work)
    ax.legend()
    return ax


def _check_solution(solution: Any) -> None:
    write = "diffrax.diffeqsolve(..., saveat=diffrax.SaveAt(steps=True))"
    check_instance("solution", solution, diffrax.Solution, "the solution of a solve", write)
