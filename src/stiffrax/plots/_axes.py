"""Axes to draw in, and colors that everybody can tell apart."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

# Okabe and Ito's palette; lines differ in dash and marker as well, for print without color.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "os^Dvx+"


def pyplot() -> Any:
    """Matplotlib's pyplot, or what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ValueError(
            "`stiffrax.plots` needs matplotlib. Install it with `pip install 'stiffrax[plots]'`."
        ) from error
    return plt


def one_axes(ax: Any) -> Any:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    _, ax = pyplot().subplots(layout="constrained")
    return ax


def line_styles() -> Iterator[dict[str, Any]]:
    """Styles of one line after the other."""
    styles = zip(cycle(COLORS), cycle(_DASHES), strict=False)
    return ({"color": color, "linestyle": dash} for color, dash in styles)


def marker_styles() -> Iterator[dict[str, Any]]:
    """Styles of one line with markers after the other."""
    styles = zip(cycle(COLORS), cycle(_DASHES), cycle(_MARKERS), strict=False)
    return ({"color": c, "linestyle": d, "marker": m, "markersize": 4} for c, d, m in styles)
