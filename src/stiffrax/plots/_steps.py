"""The sizes of the steps of a solve."""

from typing import Any

import diffrax
import numpy as np

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
