"""A training and what it found."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arguments import check_instance
from ..recovery import Comparison
from ..training import History
from ._axes import COLORS, line_styles, one_axes


def history(history: History, *, ax: Any = None) -> tuple[Any, Any]:
    """The loss of every step, and on a second scale the norm of its gradient.

    Both are logarithmic, unless a loss is negative.

    **Arguments:**

    - `history`: `fit(...).history`.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes of the loss and those of the gradient norm, which share the steps.

    **Raises:** `ValueError` without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> fit = srx.fit(srx.Polynomial(1, degree=1), data, srx.SegmentLoss(), steps=5)
    >>> loss_axes, norm_axes = srx.plots.history(fit.history)
    >>> loss_axes.get_ylabel(), norm_axes.get_ylabel()
    ('loss', 'gradient norm')

    ```
    """
    check_instance("history", history, History, "a `History`", "history(fit.history)")
    ax = one_axes(ax)
    beside = ax.twinx()
    beside.semilogy(history.gradient_norm, color=COLORS[4], lw=0.8, alpha=0.7)
    beside.set_ylabel("gradient norm", color=COLORS[4])
    held = history.held_out_loss
    ax.plot(history.loss, color=COLORS[0], label="training")
    if held.size:
        ax.plot(history.held_out_steps, held, "--", color=COLORS[1], label="held out")
        ax.legend()
    if not np.any(np.append(history.loss, held) < 0):
        ax.set_yscale("log")
    # The loss is what is looked for: it is drawn over the other.
    ax.set_zorder(beside.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.set(xlabel="step", ylabel="loss")
    return ax, beside


def loss_landscape(
    positions: Any, losses: Mapping[str, Any], *, ax: Any = None, log: bool = True
) -> Any:
    """Losses at positions along a line, one curve a loss.

    **Arguments:**

    - `positions`: `Float[ndarray, " points"]`, zero at the trained model.
    - `losses`: label to `Float[ndarray, " points"]`.
    - `ax`: axes to draw in; by default those of a new figure.
    - `log`: a logarithmic axis of the loss.

    **Returns:** the axes.

    **Raises:** `ValueError` if a loss has another number of values, or without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> x = np.linspace(-1.0, 1.0, 5)
    >>> ax = srx.plots.loss_landscape(x, {"coupled": 1 + x**2, "free": 2 + np.sin(9 * x)})
    >>> ax.get_ylabel()
    'loss'

    ```
    """
    check_instance("losses", losses, Mapping, "losses by their labels", "losses={'free': values}")
    for label, values in losses.items():
        if np.shape(values) != np.shape(positions):
            raise ValueError(
                f"The loss {label!r} has shape {np.shape(values)} at positions of shape "
                f"{np.shape(positions)}; write one value for each position."
            )
    ax = one_axes(ax)
    for (label, values), style in zip(losses.items(), line_styles(), strict=False):
        ax.plot(positions, values, label=label, **style)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="position along the line", ylabel="loss")
    ax.legend()
    return ax


def coefficients(comparison: Comparison, *, ax: Any = None) -> Any:
    """The absolute value of every recovered coefficient over that of the true one.

    Terms that were found lie on the diagonal; missing ones are drawn at the lower edge, and extra
    ones at the left edge. Those found with the wrong sign have a marker of their own.

    **Arguments:**

    - `comparison`: of [`stiffrax.compare`][].
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if there is no coefficient to draw, or without matplotlib.

    ```python
    >>> import stiffrax as srx
    >>> true, found = srx.from_text("dx/dt = -2*x"), srx.from_text("dx/dt = -2.1*x + 0.1")
    >>> ax = srx.plots.coefficients(srx.compare(found, true))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['found', 'missing', 'extra']

    ```
    """
    write = "coefficients(srx.compare(found, true))"
    rows = check_instance("comparison", comparison, Comparison, "a `Comparison`", write).rows
    sizes = [abs(x) for row in rows for x in (row.true, row.recovered) if isinstance(x, float)]
    if not sizes:
        raise ValueError("The comparison has no coefficient that a float holds; compare others.")
    ax = one_axes(ax)
    low, high = min(sizes) / 3, max(sizes) * 3
    both = [r for r in rows if r.true is not None and r.recovered is not None]
    signs = np.sign(np.array([(r.true, r.recovered) for r in both], float).reshape(-1, 2))
    is_right = signs[:, 0] == signs[:, 1]
    kinds = {
        "found": [r for r, right in zip(both, is_right, strict=True) if right],
        "missing": [r for r in rows if r.recovered is None],
        "extra": [r for r in rows if r.true is None],
    }
    if not np.all(is_right):
        kinds["wrong sign"] = [r for r, right in zip(both, is_right, strict=True) if not right]
    for (label, found), marker, color in zip(kinds.items(), "oxs^", COLORS, strict=False):
        x = [low if r.true is None else abs(r.true) for r in found]
        y = [low if r.recovered is None else abs(r.recovered) for r in found]
        ax.loglog(x, y, marker, color=color, ms=5, label=label, clip_on=False)
    line = np.array([low, high])
    ax.loglog(line, line, "-", color="0.7", lw=0.8, zorder=0)
    ax.set(xlim=(low, high), ylim=(low, high))
    ax.set(xlabel="true coefficient (absolute value)", ylabel="recovered coefficient")
    ax.legend()
    return ax
