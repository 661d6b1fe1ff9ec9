"""Loss and gradient norm of a training."""

from typing import Any

from ..training import History
from ._axes import COLORS, one_axes


def history(history: History, *, ax: Any = None) -> tuple[Any, Any]:
    """The loss of every step, and on a second scale the norm of its gradient.

    **Arguments:**

    - `history`: `fit(...).history`.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes of the loss and those of the gradient norm, which share the steps.

    **Raises:** `ValueError` without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> fit = srx.fit(srx.Polynomial(1, degree=1), srx.SegmentLoss(), data, steps=5)
    >>> loss_axes, norm_axes = srx.plots.history(fit.history)
    >>> loss_axes.get_ylabel(), norm_axes.get_ylabel()
    ('loss', 'gradient norm')

    ```
    """
    ax = one_axes(ax)
    beside = ax.twinx()
    beside.semilogy(history.gradient_norm, color=COLORS[4], lw=0.8, alpha=0.7)
    beside.set_ylabel("gradient norm", color=COLORS[4])
    ax.semilogy(history.loss, color=COLORS[0], label="training")
    if history.held_out_loss.size:
        ax.semilogy(
            history.held_out_steps, history.held_out_loss, "--", color=COLORS[1], label="held out"
        )
        ax.legend()
    # The loss is what is looked for: it is drawn over the other.
    ax.set_zorder(beside.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.set(xlabel="step", ylabel="loss")
    return ax, beside
