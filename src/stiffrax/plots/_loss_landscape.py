"""A loss along a line in the space of parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._axes import line_styles, one_axes


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
