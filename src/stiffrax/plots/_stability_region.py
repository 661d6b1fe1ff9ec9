"""Where a method damps, and where it damps as the solution does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tableaus import Tableau, stability_function
from ._axes import COLORS, line_styles, one_axes

_POINTS = 300


def _grid(extent: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    left, right, bottom, top = extent
    if not (left < right and bottom < top):
        raise ValueError(
            f"`extent={extent}` was given; write (left, right, bottom, top) with left < right and "
            "bottom < top."
        )
    return np.meshgrid(np.linspace(left, right, _POINTS), np.linspace(bottom, top, _POINTS))


def stability_region(
    methods: Tableau | Mapping[str, Any],
    *,
    extent: tuple[float, float, float, float] = (-5.0, 8.0, -6.0, 6.0),
    ax: Any = None,
) -> Any:
    r"""The edge of the stability region, $|R(z)| = 1$; that of a single method is filled.

    **Arguments:**

    - `methods`: a tableau, or several by their labels; whatever
        `stiffrax.tableaus.stability_function` takes.
    - `extent`: left, right, bottom and top of the part of the plane of `z = h lambda`.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` for an extent without area, or without matplotlib.

    ```python
    >>> import stiffrax as srx
    >>> tableaus = {"Radau IIA 5": srx.tableaus.radau_iia(3), "Gauss 4": srx.tableaus.gauss(2)}
    >>> ax = srx.plots.stability_region(tableaus)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['Radau IIA 5', 'Gauss 4']

    ```
    """
    x, y = _grid(extent)
    several = isinstance(methods, Mapping)
    ax = one_axes(ax)
    named = dict(methods) if several else {"": methods}
    for (label, method), style in zip(named.items(), line_styles(), strict=False):
        size = np.abs(np.asarray(stability_function(method, x + 1j * y)))
        if not several:
            ax.contourf(x, y, size, levels=[0, 1], colors=[COLORS[5]], alpha=0.4)
        ax.contour(x, y, size, levels=[1], colors=[style["color"]], linestyles=[style["linestyle"]])
        # A contour has no legend entry of its own.
        ax.plot([], [], label=label, **style)
    if several:
        ax.legend()
    return _complex_plane(ax)


def order_star(
    method: Tableau,
    *,
    extent: tuple[float, float, float, float] = (-5.0, 8.0, -6.0, 6.0),
    ax: Any = None,
) -> Any:
    r"""The order star, $|R(z)| > |e^z|$: its fingers at the origin number the order plus one.

    **Arguments:**

    - `method`: a tableau.
    - `extent`: left, right, bottom and top of the part of the plane of `z = h lambda`.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` for an extent without area, or without matplotlib.

    ??? cite "Reference"
        Wanner, Hairer and Norsett, *Order stars and stability theorems*, BIT 18 (1978).

    ```python
    >>> import stiffrax as srx
    >>> srx.plots.order_star(srx.tableaus.radau_iia(3)).get_xlabel()
    'Re z'

    ```
    """
    x, y = _grid(extent)
    ax = one_axes(ax)
    size = np.log(np.abs(np.asarray(stability_function(method, x + 1j * y)))) - x
    ax.contourf(x, y, size, levels=[0, np.inf], colors=[COLORS[4]], alpha=0.6)
    ax.contour(x, y, size, levels=[0], colors=["black"], linewidths=0.8)
    return _complex_plane(ax)


def _complex_plane(ax: Any) -> Any:
    ax.axhline(0, color="0.5", lw=0.6)
    ax.axvline(0, color="0.5", lw=0.6)
    ax.set(xlabel="Re z", ylabel="Im z", aspect="equal")
    return ax
