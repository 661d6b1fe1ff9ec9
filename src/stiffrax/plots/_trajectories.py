"""Measured runs and what a model makes of them, one axes a state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Array, Float

from .._arguments import as_integer, check_instance
from ..data import Trajectories, check_trajectories
from ._axes import COLORS, line_styles, pyplot


def trajectories(
    data: Trajectories,
    predictions: Mapping[str, Any] | None = None,
    *,
    run: SupportsIndex | str = 0,
    log_time: bool = False,
    axes: Any = None,
) -> Any:
    """Samples of one run as markers, predictions as lines: small multiples, one axes a state.

    **Arguments:**

    - `data`: the runs.
    - `predictions`: label to `(ts, ys)`, `Float[ndarray, " times"]` and
        `Float[ndarray, "times n"]`.
    - `run`: which run, by its number or its name.
    - `log_time`: a logarithmic axis of time, for stiff data; times of zero are left out.
    - `axes`: at least as many axes as states, in any arrangement; by default those of a new figure.

    **Returns:** the axes used, an array of one for each state.

    **Raises:** `ValueError` for an unknown run, too few axes, predictions of other shapes, or
    without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None], names=["c"])
    >>> axes = srx.plots.trajectories(data, {"exact": (ts, np.exp(-ts)[:, None])})
    >>> axes[0].get_title()
    'c'

    ```
    """
    n = check_trajectories(data).num_states
    ts, ys = data[run_number(data.run_names, run)]
    curves = {} if predictions is None else predictions
    needed = "pairs of times and values by their labels"
    check_instance("predictions", curves, Mapping, needed, "predictions={'model': (ts, ys)}")
    for label, (times, values) in curves.items():
        _check_prediction(label, times, values, n)
    panels = panels_of(axes, n)
    for i, ax in enumerate(panels):
        ax.plot(*_visible(ts, ys[:, i], log_time), "o", color=COLORS[-1], ms=3, label="data")
        for (label, (times, values)), style in zip(curves.items(), line_styles(), strict=False):
            ax.plot(*_visible(times, np.asarray(values)[:, i], log_time), label=label, **style)
        ax.set_title(data.names[i])
        if log_time:
            ax.set_xscale("log")
    for ax in panels[-_columns(n) :]:
        ax.set_xlabel("time")
    if curves:
        panels[0].legend()
    return panels


def _columns(n: int) -> int:
    return max(1, min(n, 4))


def panels_of(axes: Any, n: int, *, share: bool = True) -> np.ndarray:
    """The first `n` of the axes given, or those of a new figure."""
    if axes is None:
        rows = math.ceil(n / _columns(n))
        size = (3 * _columns(n), 2.4 * rows)
        figure, axes = pyplot().subplots(
            rows, _columns(n), squeeze=False, sharex=share, figsize=size, layout="constrained"
        )
        for ax in axes.flat[n:]:
            figure.delaxes(ax)
    panels = np.asarray(axes, dtype=object).reshape(-1)
    if len(panels) < n:
        raise ValueError(
            f"`axes` holds {len(panels)} axes; {n} are needed, one for each panel. Leave `axes` out "
            "for a new figure."
        )
    return panels[:n]


def run_number(run_names: Sequence[str], run: SupportsIndex | str) -> int:
    """The number of a run, given by it or by its name."""
    names: Sequence[Any] = list(run_names)
    if run in names:
        return names.index(run)
    number = as_integer(run)
    if number is not None and -len(names) <= number < len(names):
        return number
    raise ValueError(
        f"`run={run!r}` was given; the data have {len(names)} runs, with names "
        f"{', '.join(map(str, names[:5]))}{', ...' if len(names) > 5 else ''}. Write one of them, "
        "or a number from 0."
    )


def _check_prediction(label: str, times: Any, values: Any, n: int) -> None:
    if np.ndim(times) != 1 or np.shape(values) != (np.size(times), n):
        raise ValueError(
            f"The prediction {label!r} has times of shape {np.shape(times)} and values of shape "
            f"{np.shape(values)}; write `(ts, ys)` with shapes (times,) and (times, {n})."
        )


def _visible(
    ts: Any, y: Float[Array | np.ndarray, " times"], log_time: bool
) -> tuple[np.ndarray, np.ndarray]:
    ts, y = np.asarray(ts), np.asarray(y)
    shown = ts > 0 if log_time else np.ones(len(ts), bool)
    return ts[shown], y[shown]
