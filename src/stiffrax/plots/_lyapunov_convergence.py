"""How Lyapunov exponents settle."""

from typing import Any

import numpy as np

from ..diagnostics import LyapunovSpectrum
from ._axes import line_styles, one_axes


def lyapunov_convergence(spectrum: LyapunovSpectrum, *, ax: Any = None) -> Any:
    """The running mean of every exponent over the time measured, with its standard error.

    **Arguments:**

    - `spectrum`: of [`stiffrax.diagnostics.lyapunov_spectrum`][].
    - `ax`: axes to draw in; by default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` without matplotlib.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> spectrum = srx.diagnostics.lyapunov_spectrum(
    ...     lambda t, y, args: y * jnp.array([-1.0, -2.0]), jnp.ones(2), time=5.0, burn_in=5.0)
    >>> ax = srx.plots.lyapunov_convergence(spectrum)
    >>> len(ax.get_lines())
    2

    ```
    """
    ax = one_axes(ax)
    local = np.nanmean(np.asarray(spectrum.local), axis=0)
    count = np.arange(1, len(local) + 1)
    running = np.cumsum(local, axis=0) / count[:, None]
    times = spectrum.interval * count
    for k, style in zip(range(running.shape[1]), line_styles(), strict=False):
        ax.plot(times, running[:, k], label=f"exponent {k + 1}", **style)
        value, error = float(spectrum.exponents[k]), float(spectrum.standard_errors[k])
        ax.axhspan(value - error, value + error, color=style["color"], alpha=0.2, lw=0)
    ax.set(xlabel="time", ylabel="Lyapunov exponent")
    ax.legend()
    return ax
