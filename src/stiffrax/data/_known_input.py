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
# A solve whose steps have grown on a slow function steps over a pulse unless it is told of its begin:
# where the speed grows by this factor, for this part of the range, which digits of a logged input are
# not. Chosen, not measured.
_STEEPER, _RISE = 10, 0.02


@final
class KnownInput(eqx.Module):
    r"""Known functions of time, one a run, as a cubic polynomial from each row to the next:

    $$u(t) = \sum_{k=0}^3 c_k (t - t_i)^k, \qquad t_i \le t < t_{i+1}.$$

    After the last row the value stays, and the first one is at the start of the run or before. Made by
    [`stiffrax.Measurements.from_csv`][] with `inputs=`.

    **Attributes:**

    - `ts`: times of the rows, in the unit of time, infinite where a run has fewer.
    - `coefficients`: `c`, in the unit of the input over powers of time.
    - `jump_ts`: times at which a solve stops, infinite where a run has fewer: where the function jumps,
        or begins to change ten times as fast as before, by 2 % of its range or more.

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

    def __call__(self, run: Any, t: Any) -> Float[Array, ""]:
        """The value in a run (its index) at a time."""
        ts = jnp.asarray(self.ts)[run]
        row = jnp.maximum(jnp.searchsorted(ts, t, side="right") - 1, 0)
        since = jnp.maximum(t - ts[row], 0)
        c = jnp.asarray(self.coefficients)[run, row]
        return c[0] + since * (c[1] + since * (c[2] + since * c[3]))


def input_of_runs(
    table: Table, name: str, kind: str, ts: np.ndarray, rows: Sequence[np.ndarray]
) -> KnownInput:
    """A column of a table as an input; `rows` are those of each run."""
    values = table.numbers("inputs", name)
    runs = [_given_rows(table.source, name, ts[own], values[own]) for own in rows]
    coefficients, jumps = [], []
    for ts, values in runs:
        coefficients.append(np.pad(values[:, None], ((0, 0), (0, 3))))
        if kind == "step":
            jumps.append(ts[1:][np.diff(values) != 0])
            continue
        slopes = np.diff(values) / np.diff(ts)
        speeds = np.abs(slopes)
        rises = np.abs(np.diff(values)) > _RISE * np.ptp(values)
        jumps.append(ts[1:-1][(speeds[1:] > _STEEPER * speeds[:-1]) & rises[1:]])
        if len(ts) > 1 and kind == "linear":
            coefficients[-1][:-1, 1] = slopes
        elif len(ts) > 1:
            from scipy.interpolate import PchipInterpolator

            # Monotone between rows: a feed that is never negative stays so.
            coefficients[-1][:-1] = PchipInterpolator(ts, values).c[::-1].T
    times = stacked((ts for ts, _ in runs), np.inf)
    return KnownInput(times, stacked(coefficients, 0.0), stacked(jumps, np.inf))


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
