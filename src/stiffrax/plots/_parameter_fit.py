"""Fits of measured systems: data with error bars, residuals, starts and profiles."""

from collections.abc import Mapping
from typing import Any, SupportsIndex

import numpy as np

from .._arguments import check_instance
from ..data import Measurements
from ..losses import check_measurements
from ..training import ParameterFit, Profile
from ._axes import COLORS, one_axes
from ._trajectories import panels_of, run_number


def measured_fit(
    fit: ParameterFit,
    *,
    data: Measurements | None = None,
    run: SupportsIndex | str = 0,
    measured: bool = True,
    points: int = 200,
    log_time: bool = False,
    axes: Any = None,
) -> Any:
    """Measurements of one run with error bars, and the fit with its 95 % band, one axes a column.

    **Arguments:**

    - `fit`: what `fit_parameters` returned.
    - `data`: other runs, such as those held out; their noise is that of the fit where they have none.
        Those of the fit without.
    - `run`: which run, by its number or its name.
    - `measured`: false for runs to predict, whose cells are no measurements.
    - `points`: along each curve.
    - `log_time`: a logarithmic axis of time, for stiff data; times of zero are left out.
    - `axes`: at least as many axes as columns; by default those of a new figure.

    **Returns:** the axes used, an array of one for each column.

    **Raises:** `ValueError` for an unknown run, one of which the fit says nothing, too few axes, or
    without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-ts)[:, None], names=["A"], sd=0.01)
    >>> system = srx.System(lambda t, y, args: -y, srx.bounded([0.5], 0.0, 2.0), states=["A"])
    >>> fit = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> srx.plots.measured_fit(fit)[0].get_title()
    'A'

    ```
    """
    _check_fit(fit)
    data = fit.data if data is None else check_measurements(data)
    data = data.select([run_number(data.run_names, run)])
    band = fit.band(data=data, points=points, log_time=log_time)
    lower, upper = fit.error_limits(data)
    panels = panels_of(axes, data.num_columns)
    for j, ax in enumerate(panels):
        if log_time:
            ax.set_xscale("log")
        seen = np.asarray(data.mask)[0, :, j] & ~(log_time & (np.asarray(data.ts)[0] <= 0))
        ts, values = np.asarray(data.ts)[0, seen], np.asarray(data.values)[0, seen, j]
        bars = np.stack([values - lower[0, seen, j], upper[0, seen, j] - values])
        bars = np.where(bars > 0, bars, 0)
        if measured:
            ax.errorbar(ts, values, bars, fmt="o", color=COLORS[-1], ms=3, lw=1, label="measured")
        drawn = ~(log_time & (band.ts[0] <= 0))
        times, *lines = (x[drawn] for x in (band.ts[0], *(y[0, :, j] for y in band[1:])))
        ax.plot(times, lines[0], color=COLORS[0], label="fit")
        # Left out, as what is not finite is, a band without an end would look like none.
        edges = zip(lines[1:], ax.get_ylim(), strict=True)
        edges = [np.where(np.isinf(x), end, x) for x, end in edges]
        ax.fill_between(times, *edges, color=COLORS[0], alpha=0.25, lw=0)
        unit = data.units[j]
        ax.set_title(f"{data.names[j]} [{unit}]" if unit else data.names[j])
        ax.set_xlabel("time")
    panels[0].legend()
    return panels


def normal_quantiles(fit: ParameterFit, ax: Any = None) -> Any:
    """Residuals over their standard deviations against quantiles of the normal distribution.

    **Arguments:**

    - `fit`: what `fit_parameters` returned.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes. Points on the diagonal are what normal noise of the size assumed gives.

    **Raises:** `ValueError` without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-ts)[:, None], names=["A"], sd=0.01)
    >>> system = srx.System(lambda t, y, args: -y, srx.bounded([0.5], 0.0, 2.0), states=["A"])
    >>> fit = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> len(srx.plots.normal_quantiles(fit).lines[0].get_xdata())
    9

    ```
    """
    from scipy import stats

    found = np.sort(_check_fit(fit).residuals())
    ax = one_axes(ax)
    expected = stats.norm.ppf((np.arange(len(found)) + 0.5) / len(found))
    ax.plot(expected, found, "o", color=COLORS[-1], ms=3)
    ax.plot(expected, expected, color=COLORS[0])
    ax.set_xlabel("normal quantile")
    ax.set_ylabel("residual / standard deviation")
    return ax


def waterfall(fit: ParameterFit, ax: Any = None) -> Any:
    """The cost of every start above the best one, sorted; failed ones are left out.

    **Arguments:**

    - `fit`: what `fit_parameters` returned.
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes. A plateau at the left is the best optimum, found several times.

    **Raises:** `ValueError` without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-ts)[:, None], names=["A"], sd=0.01)
    >>> system = srx.System(lambda t, y, args: -y, srx.bounded([0.5], 0.0, 2.0), states=["A"])
    >>> fit = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> converged, others = srx.plots.waterfall(fit).lines
    >>> len(converged.get_xdata()), len(others.get_xdata())
    (1, 0)

    ```
    """
    starts = [one for one in _check_fit(fit).starts if np.isfinite(one.cost)]
    costs = np.array([one.cost for one in starts])
    ended = np.array([one.stopped == "converged" for one in starts])
    ax = one_axes(ax)
    rank, above = np.arange(1, len(costs) + 1), costs - costs[0] + 1e-3
    ax.semilogy(rank[ended], above[ended], "o", color=COLORS[0], ms=4, label="converged")
    ax.semilogy(rank[~ended], above[~ended], "x", color=COLORS[1], ms=4, label="not converged")
    ax.set_xlabel("start")
    ax.set_ylabel("cost above the best + 0.001")
    ax.legend()
    return ax


def profiles(found: Mapping[str, Profile], axes: Any = None) -> Any:
    """Profile likelihoods with the level of their intervals, one axes a parameter.

    **Arguments:**

    - `found`: what `fit.profile()` returned.
    - `axes`: at least as many axes as profiles; by default those of a new figure.

    **Returns:** the axes used.

    **Raises:** `ValueError` for too few axes, no profile, or without matplotlib.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> values = np.linspace(1.0, 3.0, 5)
    >>> found = srx.Profile(values, 4 * (values - 2) ** 2, 1.31, 2.69, "identifiable", 1.92)
    >>> srx.plots.profiles({"k": found})[0].get_title()
    'k: identifiable'

    ```
    """
    check_instance("found", found, Mapping, "profiles by their names", "profiles(fit.profile())")
    if not found:
        raise ValueError("`found` has no profile; it needs one or more. Write `fit.profile()`.")
    panels = panels_of(axes, len(found), share=False)
    for ax, (name, profile) in zip(panels, found.items(), strict=True):
        ax.plot(profile.values, profile.costs, "o-", color=COLORS[0], ms=3)
        ax.axhline(profile.level_cost, color=COLORS[-1], linestyle="--", lw=1)
        for end in (profile.lower, profile.upper):
            ax.axvline(end, color=COLORS[1], linestyle=":", lw=1)
        ax.set_title(f"{name}: {profile.verdict}", fontsize=8)
        if np.all(profile.values > 0) and profile.values[-1] > 10 * profile.values[0]:
            ax.set_xscale("log")
    return panels


def _check_fit(fit: Any) -> ParameterFit:
    write = "srx.fit_parameters(system, data, loss)"
    return check_instance("fit", fit, ParameterFit, "the fit of a system", write)
