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
from ._trajectories import Trajectories

_FEWEST_SAMPLES = 5


@final
class SmoothingSpline(diffrax.AbstractPath):
    r"""The natural cubic spline between closeness to samples and smoothness, as a diffrax path.

    $$\min_u \; \sum_k |u(t_k) - y_k|^2 + \alpha \int |u''(t)|^2 \, dt$$

    Differentiable in time, twice; beyond the samples it goes on as the cubic of the first or last
    interval. SciPy fits it before anything is traced.

    **Arguments:**

    - `ts`: times, increasing, five or more, `Float[Array, " times"]`.
    - `ys`: samples, `Float[Array, "times n"]`.
    - `alpha`: the smoothing, in the unit of time cubed; 0 goes through the samples.

    **Raises:** `ValueError` for fewer samples, shapes that do not fit, and a negative `alpha`.

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
    coefficients: tuple[Float[Array, "*runs times-1 n"], ...]

    def __init__(self, ts: Any, ys: Any, alpha: float = 0.0):
        ts, ys = _checked(ts, ys, alpha)
        self.ts = jnp.asarray(ts)
        self.coefficients = tuple(map(jnp.asarray, _fit(ts, ys, alpha)))

    @classmethod
    def for_runs(cls, data: Trajectories, alpha: float = 0.0) -> "SmoothingSpline":
        """One spline a run, stacked: map over it with `jax.vmap`."""
        # By NumPy, which a trace of the loss does not see.
        runs = [_checked(*run, alpha) for run in data]
        # An empty interval after the last sample is never asked for within the run.
        pieces = [stacked(x, 0.0) for x in zip(*(_fit(*run, alpha) for run in runs), strict=True)]
        new = stacked((ts for ts, _ in runs), np.inf), tuple(pieces)
        first = cls(*runs[0], alpha)
        return eqx.tree_at(lambda s: (s.ts, s.coefficients), first, jax.tree.map(jnp.asarray, new))

    @property
    def t0(self) -> Array:
        """The time of the first sample."""
        return self.ts[0]

    @property
    def t1(self) -> Array:
        """The time of the last sample."""
        return self.ts[-1]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Float[Array, "*times n"]:
        """The path at `t0`; with `t1` its increment from `t0` to `t1`.

        At many times, an array, the result has their shape before its own: `t0.shape + (n,)`.
        """
        if t1 is not None:
            return self.evaluate(t1, left=left) - self.evaluate(t0, left=left)
        s, (a, b, c, d) = self._cubic(t0)
        return a + s * (b + s * (c + s * d))

    def derivative(self, t: Any, left: bool = True) -> Float[Array, "*times n"]:
        """The derivative of the path in time at `t`; at many times as `evaluate`."""
        del left
        s, (_, b, c, d) = self._cubic(t)
        return b + s * (2 * c + 3 * s * d)

    def _cubic(self, t: Any) -> tuple[Array, tuple[Array, ...]]:
        t = jnp.asarray(t, self.ts.dtype)
        count = jnp.sum(jnp.isfinite(self.ts)) - 1
        # Comparing all is one fused kernel; a binary search is a loop of small ones.
        index = jnp.searchsorted(self.ts, t, side="right", method="compare_all") - 1
        index = jnp.clip(index, 0, (count - 1).astype(index.dtype))
        return (t - self.ts[index])[..., None], tuple(c[index] for c in self.coefficients)


def _fit(ts: np.ndarray, ys: np.ndarray, alpha: float) -> list[np.ndarray]:
    """`a, b, c, d` of `a + b s + c s^2 + d s^3` on each interval."""
    from scipy.interpolate import PPoly, make_smoothing_spline

    pieces = [PPoly.from_spline(make_smoothing_spline(ts, y, lam=alpha)) for y in ys.T]
    # At both ends three intervals have no length.
    return list(np.stack([x.c[::-1, 3:-3] for x in pieces], axis=-1))


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
    if not alpha >= 0:
        raise ValueError(f"`alpha={alpha}` was given; it needs a number that is not negative.")
    return ts, ys
