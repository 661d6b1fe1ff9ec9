"""Inputs: functions of time that are known, such as a feed or a temperature program."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._ragged import stacked
from ._table import Table

KINDS = ("step", "linear", "cubic")
# How far from a straight line a stretch of an input may be, as a part of its range: noise and digits of
# what is logged. Chosen, not measured.
_STRAIGHT = 0.02
# A stretch is long beside the next if it is so much longer, or longer and flatter, which those of sines
# and white noise are not. Within its length the next would leave it by this part of the range, which
# that of a random walk would not.
_LONGER, _LONGER_IF_FLAT, _FLATTER, _LEAVES = 3, 1.5, 10, 0.6


@final
class KnownInput(eqx.Module):
    r"""Known functions of time, one a run, as a cubic polynomial from each row to the next:

    $$u(t) = \sum_{k=0}^3 c_k x^k, \qquad x = \frac{t - t_i}{t_{i+1} - t_i} \in [0, 1).$$

    Its derivative at a row is that after it. After the last row the value stays; the first is at
    the start of the run or before. Made by [`stiffrax.Measurements.from_csv`][] with `inputs=`.

    **Attributes:**

    - `ts`: times of the rows, in the unit of time, infinite where a run has fewer.
    - `coefficients`: `c`, in the unit of the input: over powers of times they may leave the range of
        single precision.
    - `jump_ts`: times at which a solve stops, infinite where a run has fewer: where the function jumps,
        or leaves a line that it kept to for long, by 2 % of its range or more, or comes to one.

    ```python
    >>> import stiffrax as srx
    >>> table = {"t": [0.0, 1.0, 2.0], "A": [1.0, 0.7, 0.5], "feed": [0.0, 2.0, 2.0]}
    >>> data = srx.Measurements.from_table(table, inputs={"feed": "step"})
    >>> float(data.inputs["feed"](0, 1.5))
    2.0

    ```
    """

    ts: Float[Array | np.ndarray, "runs rows"]
    coefficients: Float[Array | np.ndarray, "runs rows 4"]
    jump_ts: Float[Array | np.ndarray, "runs jumps"]

    def __call__(self, run: Any, t: Any) -> Float[Array, "..."]:
        """The values in a run (its index) at a time, or at each of an array of them."""
        ts = jnp.asarray(self.ts)[run]
        row = jnp.maximum(jnp.searchsorted(ts, t, side="right") - 1, 0)
        # `maximum` would halve the derivative at a row, where the first steps of solves begin.
        since = jnp.where(t < ts[row], 0, t - ts[row])
        x = since / (ts.at[row + 1].get(mode="fill", fill_value=jnp.inf) - ts[row])
        c = jnp.asarray(self.coefficients)[run, row]
        return c[..., 0] + x * (c[..., 1] + x * (c[..., 2] + x * c[..., 3]))


def input_of_runs(
    table: Table, name: str, kind: str, ts: np.ndarray, rows: Sequence[np.ndarray]
) -> KnownInput:
    """A column of a table as an input; `rows` are those of each run."""
    values = table.numbers("inputs", name)
    runs = [_given_rows(table.source, name, ts[own], values[own]) for own in rows]
    coefficients, jumps = [], []
    for ts, values in runs:
        c = np.pad(values[:, None], ((0, 0), (0, 3)))
        if kind == "linear":
            c[:-1, 1] = np.diff(values)
        if kind == "cubic" and len(ts) > 1:
            from scipy.interpolate import PchipInterpolator

            # Monotone between rows: a feed that is never negative stays so.
            with np.errstate(over="ignore"):  # slopes at tiny values, which are then zero
                powers = PchipInterpolator(ts, values).c[::-1].T
            c[:-1] = powers * np.diff(ts)[:, None] ** np.arange(4)
        coefficients.append(c)
        is_step = kind == "step"
        jumps.append(ts[1:][np.diff(values) != 0] if is_step else _ends_of_quiet(ts, values))
    times = stacked((ts for ts, _ in runs), np.inf)
    return KnownInput(times, stacked(coefficients, 0.0), stacked(jumps, np.inf))


def _ends_of_quiet(ts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where a function leaves a line that it kept to for long, or comes to one.

    Steps have grown on such a line, and would pass over a pulse behind it. Those that begin at a pulse
    are bounded where it ends.
    """
    if len(ts) < 2:
        return ts[:0]
    size = np.ptp(values)
    rows = _straight_stretches(ts.tolist(), values.tolist(), _STRAIGHT * size)
    lengths = np.diff(ts[rows])
    slopes = np.diff(values[rows]) / lengths
    speeds = np.abs(slopes)
    shorter, longer = np.sort([lengths[:-1], lengths[1:]], axis=0)
    flatter, steeper = np.sort([speeds[:-1], speeds[1:]], axis=0)
    is_flat = (steeper > _FLATTER * flatter) & (longer > _LONGER_IF_FLAT * shorter)
    leaves = np.abs(np.diff(slopes)) * longer > _LEAVES * size
    ends = ts[rows[1:-1]][leaves & (is_flat | (longer > _LONGER * shorter))]
    # After the last row the value stays, also at the end of a pulse.
    is_open = speeds[-1] * (ts[-1] - ts[0]) > _LEAVES * size
    return np.append(ends, ts[-1]) if is_open else ends


def _straight_stretches(ts: list[float], values: list[float], width: float) -> list[int]:
    """First and last rows of the longest stretches, one after another, that are near a line each."""
    rows, low, high = [0], -np.inf, np.inf
    for k in range(1, len(ts)):
        for begin in (rows[-1], k - 1):
            since, rise = ts[k] - ts[begin], values[k] - values[begin]
            # The slopes of lines from the first row that are near all others.
            low, high = max(low, (rise - width) / since), min(high, (rise + width) / since)
            if low <= high:
                break
            rows.append(k - 1)
            low, high = -np.inf, np.inf
    return [*rows, len(ts) - 1]


def _given_rows(
    source: str, name: str, ts: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    if not known.any():
        raise ValueError(f"`inputs` names {name!r}, which is empty in a run of {source}.")
    order = np.flatnonzero(known)[np.argsort(ts[known], kind="stable")]
    times, sizes = ts[order], values[order]
    again = np.diff(times) == 0
    for row in np.flatnonzero(again & (np.diff(sizes) != 0)):
        one, other = sorted(sizes[row : row + 2])
        raise ValueError(
            f"`inputs` names {name!r}, which has the values {one:g} and {other:g} at time "
            f"{times[row]:g} of a run of {source}; an input has one at a time."
        )
    first = np.append(True, ~again)
    return times[first], sizes[first]
