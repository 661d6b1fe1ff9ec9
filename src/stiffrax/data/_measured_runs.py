"""From a table to runs of measured cells: which column is what, and what each row belongs to."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ._known_input import KINDS, KnownInput, known_input
from ._names import check_names
from ._table import Table

_TIMES = ("t", "time", "Time", "TIME")
_SPREADS = ("_sd", "_std", "_se", "_sem", "_err", "_error", "_sigma")


@final
class MeasuredRun(NamedTuple):
    """The rows of one run, sorted by time. Cells that were not measured are NaN."""

    ts: np.ndarray
    values: np.ndarray
    sd: np.ndarray


@final
class Columns(NamedTuple):
    """What the columns of a table are."""

    run: str | None
    time: str
    measured: tuple[str, ...]
    sd: dict[str, Any]
    constants: tuple[str, ...]
    inputs: dict[str, str]


def find_columns(
    table: Table,
    *,
    run: str | None,
    time: str | None,
    columns: Sequence[str] | None,
    sd: Mapping[str, Any],
    constants: Sequence[str],
    inputs: Mapping[str, str] | Sequence[str],
) -> Columns:
    """Tells the columns apart: those named, and as measurements all that are left.

    A column left over that looks like anything else is refused, with what to write.
    """
    time = _time(table, time)
    if run is not None:
        table.column("run", run)
    elif "run" in table.columns:
        run = "run"
    for name in inputs:
        table.column("inputs", name)
    inputs = _kinds(inputs)
    for name in constants:
        table.column("constants", name)
    spreads = {name: x for name, x in sd.items() if isinstance(x, str)}
    for name in spreads.values():
        table.column("sd", name)
    taken = {run, time, *constants, *inputs, *spreads.values()}
    if columns is None:
        columns = [name for name in table.columns if name not in taken]
        _check_guess(table, columns, run, time)
    if not columns:
        raise ValueError(
            f"{table.source} has the columns {list(table.columns)}, and none of them is measured."
        )
    measured = _measured_names(columns)
    for name in measured:
        table.column("columns", name)
    for name in sd:
        if name not in measured:
            raise ValueError(f"`sd` has {name!r}, which is not measured; measured are {measured}.")
    return Columns(run, time, measured, dict(sd), tuple(constants), inputs)


def _measured_names(columns: Sequence[str]) -> tuple[str, ...]:
    for name in columns:
        if not name.isidentifier():
            symbol = re.sub(r"\W+", "_", name).strip("_")
            raise ValueError(
                f"Column {name!r} has no name that can stand in a formula. Write `rename="
                f"{{{name!r}: {symbol!r}}}`, or another name of letters, digits and underscores."
            )
    return check_names("`columns`", columns)


def _time(table: Table, time: str | None) -> str:
    if time is not None:
        table.column("time", time)
        return time
    found = [name for name in table.columns if name in _TIMES]
    if len(found) != 1:
        raise ValueError(
            f"{table.source} has the columns {list(table.columns)}, and not one of the name `t` or "
            "`time`: say which one is the time, as in `time='hours'`."
        )
    return found[0]


def _kinds(inputs: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    kinds = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(inputs, "linear")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(
                f"`inputs={{{name!r}: {kind!r}}}` was given; between its rows an input is one of "
                f"{KINDS}. Write `inputs={{{name!r}: 'linear'}}`."
            )
    return kinds


def _check_guess(table: Table, columns: Sequence[str], run: str | None, time: str) -> None:
    """Refuses a column that would be taken for a measurement and looks like something else."""
    _check_long(table, columns)
    for name in columns:
        for ending in _SPREADS:
            base = name.removesuffix(ending)
            if base != name and base in table.columns:
                raise ValueError(
                    f"Column {name!r} of {table.source} looks like the standard deviation of "
                    f"{base!r}. Write `sd={{{base!r}: {name!r}}}`, or name what is measured in "
                    "`columns=`."
                )
    labels = ["0"] * len(table) if run is None else table.labels("run", run)
    ts = table.numbers("time", time)
    for name in columns:
        values = table.numbers("columns", name)
        parts = [_of_run(values, labels, label) for label in dict.fromkeys(labels)]
        known = [part[np.isfinite(part)] for part in parts]
        if sum(map(len, known)) > len(known) and all(len(set(part)) <= 1 for part in known):
            raise ValueError(
                f"Column {name!r} of {table.source} does not change within a run. Write "
                f"`constants=[{name!r}]` if it is a condition, such as a temperature or a dose, or "
                "name it in `columns=` if it is measured."
            )
        repeats = [_repeats(values, ts, labels, label) for label in dict.fromkeys(labels)]
        if sum(len(part) for part in repeats) > 3 and np.mean(np.concatenate(repeats)) > 0.5:
            raise ValueError(
                f"Column {name!r} of {table.source} stays the same over most of its rows, as what "
                f"is set and not measured does. Write `inputs={{{name!r}: 'step'}}` if it is a "
                "known function of time, or name it in `columns=` if it is measured."
            )


def _of_run(values: np.ndarray, labels: Sequence[str], label: str) -> np.ndarray:
    return values[np.array([x == label for x in labels])]


def _repeats(values: np.ndarray, ts: np.ndarray, labels: Sequence[str], label: str) -> np.ndarray:
    """Whether each known value of a run is exactly the one before."""
    part = _of_run(values, labels, label)[np.argsort(_of_run(ts, labels, label), kind="stable")]
    return np.diff(part[np.isfinite(part)]) == 0


def _check_long(table: Table, columns: Sequence[str]) -> None:
    """Refuses a table with one row a measurement, which has a reader of its own."""
    lower = {name.lower(): name for name in columns}
    names = [name for name in columns if any(isinstance(x, str) for x in table.columns[name])]
    if names and "value" in lower:
        raise ValueError(
            f"Column {names[0]!r} of {table.source} holds names and column {lower['value']!r} "
            f"their values, one row a measurement. Write `long=({names[0]!r}, {lower['value']!r})`."
        )


def cut_runs(
    table: Table, columns: Columns
) -> tuple[dict[str, MeasuredRun], dict[str, np.ndarray], dict[str, KnownInput]]:
    """The runs in order of appearance, their constants and their inputs."""
    ts = table.numbers("time", columns.time)
    for row in np.flatnonzero(~np.isfinite(ts)):
        raise ValueError(f"{table.locate(int(row), columns.time)} is no finite time.")
    values = np.stack([table.numbers("columns", name) for name in columns.measured], axis=1)
    sd = np.stack([_spread(table, columns.sd.get(x), len(ts)) for x in columns.measured], axis=1)
    labels = ["0"] * len(ts)
    if columns.run is not None:
        labels = table.labels("run", columns.run)
    runs, rows = {}, {}
    for label in dict.fromkeys(labels):
        own = np.flatnonzero([x == label for x in labels])
        rows[label] = own[np.argsort(ts[own], kind="stable")]
        runs[label] = MeasuredRun(ts[rows[label]], values[rows[label]], sd[rows[label]])
    constants = {name: _constant(table, name, rows) for name in columns.constants}
    inputs = {
        name: known_input(kind, [_input_rows(table, name, ts, own) for own in rows.values()])
        for name, kind in columns.inputs.items()
    }
    return runs, constants, inputs


def _spread(table: Table, sd: Any, count: int) -> np.ndarray:
    if sd is None:
        return np.full(count, np.nan)
    return table.numbers("sd", sd) if isinstance(sd, str) else np.full(count, float(sd))


def _constant(table: Table, name: str, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """One number a run."""
    values, numbers = table.numbers("constants", name), []
    for label, own in rows.items():
        known = np.unique(values[own][np.isfinite(values[own])])
        if len(known) != 1:
            what = "no value" if len(known) == 0 else f"the values {known[0]:g} and {known[1]:g}"
            raise ValueError(
                f"`constants` names {name!r}, which has {what} in run {label!r} of "
                f"{table.source}; a constant has one. Write `inputs=[{name!r}]` if it changes."
            )
        numbers.append(known[0])
    return np.array(numbers)


def _input_rows(
    table: Table, name: str, ts: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows in which an input is given, one a time."""
    values = table.numbers("inputs", name)[own]
    known = np.isfinite(values)
    if not known.any():
        raise ValueError(f"`inputs` names {name!r}, which is empty in a run of {table.source}.")
    times, first = np.unique(ts[own][known], return_index=True)
    for t in times:
        at = np.unique(values[known & (ts[own] == t)])
        if len(at) > 1:
            raise ValueError(
                f"`inputs` names {name!r}, which has the values {at[0]:g} and {at[1]:g} at time "
                f"{t:g} of a run of {table.source}; an input has one at a time."
            )
    return times, values[known][first]
