"""Measurements made of others: of several data sets as one, and with times to draw at."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._column_names import one_unit
from ._known_input import KnownInput
from ._ragged import stacked


def joined(parts: Sequence[Any]) -> dict[str, Any]:
    """The fields of `Measurements` with the runs of all parts and the columns of each."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    labels = tuple(label for part in parts for label in part.run_names)
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Two of the data sets have a run {repeated[0]!r}. Give every run a name of its own, by "
            "`run_names=` or by the column of runs, or read the files together: "
            "`Measurements.from_csv(['a.csv', 'b.csv'])` names runs by their files."
        )
    numbers = tuple(number for part in parts for number in part.numbers)
    if len(set(numbers)) < len(numbers):
        numbers = tuple(parts[0].numbers)
        numbers += tuple(range(max(numbers) + 1, max(numbers) + 1 + len(labels) - len(numbers)))
    units = common_units(parts, names)
    longest = max(part.ts.shape[1] for part in parts)

    def cells(field: str) -> np.ndarray:
        rows = []
        for part in parts:
            own = np.asarray(getattr(part, field))
            whole = np.zeros((len(own), longest, len(names)), own.dtype)
            whole[:, : own.shape[1], [names.index(name) for name in part.names]] = own
            rows.append(whole)
        return np.concatenate(rows)

    return {
        "ts": stacked(row for part in parts for row in part.ts),
        **{field: cells(field) for field in ("values", "mask", "sd")},
        "starts": np.concatenate([part.starts for part in parts]),
        "constants": {
            name: np.concatenate(given) for name, given in _known_of_all("constants", parts).items()
        },
        "inputs": {name: _input(given) for name, given in _known_of_all("inputs", parts).items()},
        "doses": tuple(dose for part in parts for dose in part.doses),
        "names": names,
        "units": units,
        "run_names": labels,
        "numbers": numbers,
    }


def common_units(parts: Sequence[Any], names: Sequence[str] = ()) -> tuple[str, ...]:
    """The units of columns by name, which must be those of all data sets."""
    tables = (
        (f"the data of run {part.run_names[0]!r}", dict(zip(part.names, part.units, strict=True)))
        for part in parts
    )
    units = one_unit(tables)
    return tuple(units.get(name, "") for name in names)


def _known_of_all(kind: str, parts: Sequence[Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for part in parts for name in getattr(part, kind))
    for name in names:
        for part in parts:
            if name not in getattr(part, kind):
                given = "{'T': 298.0}" if kind == "constants" else "{'T': ('step', 'feeds.csv')}"
                raise ValueError(
                    f"{name!r} is one of the {kind} of some runs, and the run {part.run_names[0]!r} "
                    f"has none. Give it where these data are read: "
                    f"`{kind}={given.replace('T', name, 1)}`."
                )
    return {name: [getattr(part, kind)[name] for part in parts] for name in names}


def _input(parts: Sequence[KnownInput]) -> KnownInput:
    """The input of all runs; rows and jumps that a run does not have are at infinite times."""
    return KnownInput(
        stacked((row for x in parts for row in x.ts), np.inf),
        stacked((row for x in parts for row in x.coefficients), 0.0),
        stacked((row for x in parts for row in x.jump_ts), np.inf),
    )


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
