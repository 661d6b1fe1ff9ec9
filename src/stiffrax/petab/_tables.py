"""Measurements of a problem as runs, and back."""

import math
from typing import Any, NamedTuple, final

import numpy as np

from ..data import Measurements
from ._inputs import CONDITION
from ._observables import Row

BEFORE, RESTS, ENDS = "(condition before)", "(starts at rest)", "(measured at rest)"


@final
class Runs(NamedTuple):
    """The measurements in the form of the package.

    **Attributes:**

    - `data`: one run for each pair of conditions before and during the measurement. Its constants
        are `CONDITION` and `BEFORE`, indices into the condition table; `RESTS`, whether a run starts
        at the steady state of `BEFORE`; `ENDS`, whether it is measured there.
    - `cells`: run, row and column of each measurement of the table.
    """

    data: Measurements
    cells: np.ndarray


def read_runs(table: Any, conditions: list[str], names: list[str], rows: list[Row]) -> Runs:
    """From the measurement table of `petab`; `names` are those of the columns."""
    runs: dict[tuple[int, int, bool], list[int]] = {}
    times = table["time"].to_numpy(float)
    for k, (_, line) in enumerate(table.iterrows()):
        before = _name(line.get("preequilibrationConditionId"))
        condition = _name(line["simulationConditionId"])
        for given in (condition, condition if before is None else before):
            if given not in conditions:
                raise ValueError(
                    f"A measurement names the condition {given!r}; the conditions are {conditions}."
                )
        if times[k] < 0:
            raise ValueError(
                f"Condition {condition!r} is measured at time {times[k]:g}; simulations start at 0. "
                "Let times begin there."
            )
        at_rest = bool(times[k] == math.inf)
        if at_rest and before is not None:
            raise ValueError(
                f"Condition {condition!r} is measured at time inf after preequilibration with "
                f"{before!r}, which is not read: a run has one steady state. Give a large time."
            )
        first = -1 if before is None else conditions.index(before)
        runs.setdefault((first, conditions.index(condition), at_rest), []).append(k)
    measured = table["measurement"].to_numpy(float)
    cells = np.zeros((len(table), 3), int)
    ts, values, spreads = [], [], []
    for i, lines in enumerate(runs.values()):
        moments = [0.0 if times[k] == math.inf else times[k] for k in lines]
        places = _rows([(t, rows[k].column) for t, k in zip(moments, lines, strict=True)])
        for k, place in zip(lines, places, strict=True):
            cells[k] = i, place, rows[k].column
        ts.append(np.zeros(max(places) + 1))
        values.append(np.full((max(places) + 1, len(names)), np.nan))
        spreads.append(values[-1].copy())
        for k, t, place in zip(lines, moments, places, strict=True):
            ts[-1][place] = t
            values[-1][place, rows[k].column] = measured[k]
            # Data have standard deviations in the unit of their column, also of logarithms.
            unit = abs(measured[k]) or 1.0 if rows[k].on_logarithms else 1.0
            spreads[-1][place, rows[k].column] = rows[k].sd * unit
    keys = list(runs)
    data = Measurements.from_arrays(
        ts,
        values,
        names=names,
        sd=spreads,
        constants={
            CONDITION: [condition for _, condition, _ in keys],
            BEFORE: [first if first >= 0 else condition for first, condition, _ in keys],
            RESTS: [float(first >= 0 or at_rest) for first, _, at_rest in keys],
            ENDS: [float(at_rest) for _, _, at_rest in keys],
        },
        start=0.0,
        run_names=[_label(key, conditions) for key in keys],
    )
    return Runs(data, cells)


def condition_pairs(data: Measurements) -> list[tuple[int, int]]:
    """The conditions before and during each run, which are the same without one before."""
    indices = (np.asarray(data.constants[name], int).tolist() for name in (BEFORE, CONDITION))
    return list(zip(*indices, strict=True))


def _name(given: Any) -> Any:
    """The name in a cell, if any. A number is none, and no condition has it."""
    given = given.strip() or None if isinstance(given, str) else given
    return None if isinstance(given, float) and math.isnan(given) else given


def _rows(places: list[tuple[float, int]]) -> list[int]:
    """The row of each measurement: rows are ordered by time, replicates take more of one time."""
    taken: dict[tuple[float, int], int] = {}
    wanted = []
    for place in places:
        taken[place] = taken.get(place, 0) + 1
        wanted.append((place[0], taken[place]))
    order = {key: row for row, key in enumerate(sorted(set(wanted)))}
    return [order[key] for key in wanted]


def _label(key: tuple[int, int, bool], conditions: list[str]) -> str:
    before, condition, at_rest = key
    label = conditions[condition]
    if before >= 0:
        label = f"{label} after {conditions[before]}"
    return f"{label} at rest" if at_rest else label
