"""Recovered coefficients against the true ones."""

from typing import Any

import numpy as np

from ..recovery import Comparison
from ._axes import COLORS, one_axes


def coefficients(comparison: Comparison, *, ax: Any = None) -> Any:
    """The absolute value of every recovered coefficient over that of the true one.

    Terms that were found lie on the diagonal; missing ones are drawn at the lower edge, and extra
    ones at the left edge.

    **Arguments:**

    - `comparison`: of [`stiffrax.compare`][].
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` if there is no term, or without matplotlib.

    ```python
    >>> import stiffrax as srx
    >>> true, found = srx.from_text("dx/dt = -2*x"), srx.from_text("dx/dt = -2.1*x + 0.1")
    >>> ax = srx.plots.coefficients(srx.compare(found, true))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['found', 'missing', 'extra']

    ```
    """
    rows = comparison.rows
    sizes = [abs(x) for row in rows for x in (row.true, row.recovered) if x]
    if not sizes:
        raise ValueError("The comparison has no term to draw; compare systems with terms.")
    ax = one_axes(ax)
    low, high = min(sizes) / 3, max(sizes) * 3
    kinds = {
        "found": [r for r in rows if r.true is not None and r.recovered is not None],
        "missing": [r for r in rows if r.recovered is None],
        "extra": [r for r in rows if r.true is None],
    }
    for (label, found), marker, color in zip(kinds.items(), "oxs", COLORS, strict=False):
        x = [low if r.true is None else abs(r.true) for r in found]
        y = [low if r.recovered is None else abs(r.recovered) for r in found]
        ax.loglog(x, y, marker, color=color, ms=5, label=label, clip_on=False)
    line = np.array([low, high])
    ax.loglog(line, line, "-", color="0.7", lw=0.8, zorder=0)
    ax.set(xlim=(low, high), ylim=(low, high))
    ax.set(xlabel="true coefficient (absolute value)", ylabel="recovered coefficient")
    ax.legend()
    return ax
