"""Times at which predictions are drawn: equal steps, and the rows of the data."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._ragged import stacked


def resampled(data: Any, points: int, log_time: bool) -> Any:
    """The runs of measurements with so many steps from start to last row, and their rows among them."""
    runs = zip(np.asarray(data.ts), np.asarray(data.starts), strict=True)
    ts = stacked(_times(*run, points, log_time) for run in runs)
    # A system without an initial state starts there. Noise on logarithms refuses zeros.
    first = np.asarray(data.first_values())[:, None]
    values = np.where((ts == ts[:, :1])[:, :, None], first, 1.0)
    mask, sd = np.isfinite(values), np.zeros_like(values)
    return dataclasses.replace(data, ts=ts, values=np.nan_to_num(values), mask=mask, sd=sd)


def _times(
    ts: Float[np.ndarray, " times"], start: float, points: int, log_time: bool
) -> Float[np.ndarray, " points"]:
    rows = np.unique(ts[ts >= start])
    after = rows[rows > start] - start
    if log_time and after.size:
        steps = start + np.append(0.0, np.geomspace(after[0], after[-1], points - 1))
        steps[-1] = rows[-1]
    else:
        steps = np.linspace(start, rows[-1], points)
    # A row is one of the steps where rounding alone tells them apart, that of JAX at last.
    near = 1e-9 * (rows[-1] - start if not log_time else np.abs(rows - start))
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    near = np.maximum(near, 200 * eps * np.maximum(np.abs(rows), abs(start)))
    new = np.min(np.abs(rows[:, None] - steps), axis=1) > near
    return np.sort(np.append(steps, rows[new]))
