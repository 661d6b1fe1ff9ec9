"""A smooth path through noisy samples."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import real_numbers
from ._ragged import stacked
from ._trajectories import Trajectories, check_trajectories

_FEWEST_SAMPLES = 5
# The part of the path that may be rounding. Chosen, not measured.
_LARGEST_ROUNDING = 1e-3


@final
class SmoothingSpline(diffrax.AbstractPath):
    r"""The natural cubic spline between closeness to samples and smoothness, as a diffrax path.

    $$\min_u \; \sum_k |u(t_k) - y_k|^2 + \alpha \int |u''(t)|^2 \, dt$$

    Differentiable in time, twice; beyond the samples it goes on as the cubic of the first or last
    interval. It is fitted by NumPy, before anything is traced.

    **Arguments:**

    - `ts`: times, increasing, five or more, `Float[Array, " times"]`.
    - `ys`: samples, `Float[Array, "times n"]`.
    - `alpha`: the smoothing, in the unit of time cubed; 0 goes through the samples.

    **Raises:** `ValueError` for fewer samples, shapes that do not fit, and an `alpha` that is negative
    or not finite.

    ??? cite "Reference"
        Reinsch, *Smoothing by spline functions*, Numerische Mathematik 10 (1967).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 3.0, 31)
    >>> spline = srx.SmoothingSpline(ts, np.sin(ts)[:, None], alpha=0.0)
    >>> print(f"{spline.evaluate(1.55)[0]:.3f} {spline.derivative(1.55)[0]:.3f}")
    1.000 0.021

    ```
    """

    ts: Float[Array, "*runs times"]
    # `a, b, c, d` of `a + b x + c x^2 + d x^3`, `x` from 0 to 1 on each interval: powers of times
    # may leave the range of single precision.
    coefficients: tuple[Float[Array, "*runs times-1 n"], ...]

    def __init__(self, ts: Any, ys: Any, alpha: float = 0.0):
        ts, ys = _checked(ts, ys, alpha)
        self.ts = jnp.asarray(ts)
        self.coefficients = tuple(map(jnp.asarray, _fit(ts, ys, alpha)))

    @classmethod
    def for_runs(cls, data: Trajectories, alpha: float = 0.0) -> "SmoothingSpline":
        """One spline a run, stacked: map over it with `jax.vmap`."""
        # By NumPy, which a trace of the loss does not see.
        runs = [_checked(*run, alpha) for run in check_trajectories(data)]
        # An empty interval after the last sample is never asked for within the run.
        pieces = [stacked(x, 0.0) for x in zip(*(_fit(*run, alpha) for run in runs), strict=True)]
        new = stacked((ts for ts, _ in runs), np.inf), tuple(pieces)
        first = cls(*runs[0], alpha)
        return eqx.tree_at(lambda s: (s.ts, s.coefficients), first, jax.tree.map(jnp.asarray, new))

    @property
    def t0(self) -> Array:
        """The time of the first sample."""
        return self.ts[..., 0]

    @property
    def t1(self) -> Array:
        """The time of the last sample."""
        return jnp.max(self.ts, axis=-1, where=jnp.isfinite(self.ts), initial=-jnp.inf)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Float[Array, "*times n"]:
        """The path at `t0`; with `t1` its increment from `t0` to `t1`.

        At many times, an array, the result has their shape before its own: `t0.shape + (n,)`.
        """
        if t1 is not None:
            return self.evaluate(t1, left=left) - self.evaluate(t0, left=left)
        x, _, (a, b, c, d) = self._cubic(t0)
        return a + x * (b + x * (c + x * d))

    def derivative(self, t: Any, left: bool = True) -> Float[Array, "*times n"]:
        """The derivative of the path in time at `t`; at many times as `evaluate`."""
        del left
        x, step, (_, b, c, d) = self._cubic(t)
        return (b + x * (2 * c + 3 * x * d)) / step

    def _cubic(self, t: Any) -> tuple[Array, Array, tuple[Array, ...]]:
        t = jnp.asarray(t, self.ts.dtype)
        count = jnp.sum(jnp.isfinite(self.ts)) - 1
        # Comparing all is one fused kernel; a binary search is a loop of small ones.
        index = jnp.searchsorted(self.ts, t, side="right", method="compare_all") - 1
        index = jnp.clip(index, 0, (count - 1).astype(index.dtype))
        start = self.ts[index]
        step = self.ts[index + 1] - start
        x = ((t - start) / step)[..., None]
        return x, step[..., None], tuple(c[index] for c in self.coefficients)


def _fit(ts: np.ndarray, ys: np.ndarray, alpha: float) -> list[np.ndarray]:
    """`a, b, c, d` on each interval, from Reinsch's equations for the second derivatives `g`.

    `(R + alpha Q^T Q) g = Q^T y`, with the divided differences `Q`, has five diagonals. (SciPy's
    `make_smoothing_spline` loses all digits at the times of stiff data, by its B-splines.)
    """
    ys, steps = np.asarray(ys, float), np.diff(np.asarray(ts, float))
    # In units of the longest, whose cubes have room.
    unit = steps.max()
    h = steps / unit
    inverse = 1 / h
    # Column j of Q has `before`, `-both`, `after` in rows j, j + 1, j + 2.
    before, after, both = inverse[:-1], inverse[1:], inverse[:-1] + inverse[1:]
    strength = alpha / unit**3
    bands = np.zeros((3, len(h) - 1))
    bands[0] = (h[:-1] + h[1:]) / 3 + strength * (before**2 + both**2 + after**2)
    bands[1, :-1] = h[1:-1] / 6 - strength * (both[:-1] * before[1:] + after[:-1] * both[1:])
    bands[2, :-2] = strength * after[:-2] * before[2:]
    scale = 1 / np.sqrt(bands[0])
    for k in range(3):
        bands[k, : len(scale) - k] *= scale[k:] * scale[: len(scale) - k]
    slope = np.diff(ys, axis=0) * inverse[:, None]
    bent = _solve(bands, np.diff(slope, axis=0) * scale[:, None], alpha)
    g = np.pad(bent * scale[:, None], ((1, 1), (0, 0)))
    # `Q g`.
    bends = np.diff(np.diff(g, axis=0) * inverse[:, None], axis=0, prepend=0, append=0)
    path = ys - strength * bends
    change, g0, g1 = np.diff(path, axis=0), g[:-1] * h[:, None] ** 2, g[1:] * h[:, None] ** 2
    return [path[:-1], change - (2 * g0 + g1) / 6, g0 / 2, (g1 - g0) / 6]


def _solve(bands: np.ndarray, rhs: np.ndarray, alpha: float) -> np.ndarray:
    """Solves a banded system with ones on its diagonal, unless rounding would decide."""
    from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

    try:
        factors = cholesky_banded(bands, lower=True), True
        # Three rounds of inverse iteration: the size becomes that of the inverse.
        x = np.cos(1.0 + np.arange(len(rhs)))
        for _ in range(3):
            x = cho_solve_banded(factors, x / np.linalg.norm(x))
        if np.linalg.norm(x) * np.finfo(float).eps < _LARGEST_ROUNDING:
            return cho_solve_banded(factors, rhs)
    except LinAlgError:
        pass
    raise ValueError(
        f"`alpha={alpha}` smooths over so many samples that rounding would decide the path. Leave "
        "samples out, or write a smaller `alpha`."
    )


def _checked(ts: Any, ys: Any, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    ts, ys = real_numbers("ts", ts), real_numbers("ys", ys)
    if ts.ndim != 1 or ys.ndim != 2 or len(ts) != len(ys):
        raise ValueError(
            f"`ts` of shape {ts.shape} and `ys` of shape {ys.shape} were given; they need shapes "
            "(times,) and (times, n): write `ys[:, None]` for one state."
        )
    if len(ts) < _FEWEST_SAMPLES:
        raise ValueError(
            f"{len(ts)} samples were given; a smoothing spline needs {_FEWEST_SAMPLES} or more."
        )
    if not np.all(np.isfinite(ys)) or not np.all(np.diff(ts) > 0):
        raise ValueError(
            "`ts` must increase and `ys` be finite: leave missing samples out, or make "
            "`Trajectories.from_arrays(ts, ys, mask=...)` say what is wrong."
        )
    if not 0 <= alpha < np.inf:
        raise ValueError(
            f"`alpha={alpha}` was given; it needs a finite number that is not negative."
        )
    return ts, ys
