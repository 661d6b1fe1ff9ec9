"""What accuracy costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._axes import marker_styles, one_axes


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
