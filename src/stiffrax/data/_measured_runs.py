"""Measured runs of any length: the rows of a table, and the padded arrays of `Measurements`."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ._column_roles import ColumnRoles
from ._known_input import KnownInput, input_of_runs
from ._ragged import stacked
from ._run_checks import check_cells, check_dose, run_starts
from ._table import Table, rows_by_label


@final
class MeasuredRun(NamedTuple):
    """The rows of one run, sorted by time. Cells that were not measured are NaN."""

    ts: np.ndarray
    values: np.ndarray
    sd: np.ndarray


def padded_runs(
    runs: dict[str, MeasuredRun],
    names: tuple[str, ...],
    units: tuple[str, ...],
    constants: dict[str, Any],
    inputs: dict[str, KnownInput],
    doses: Sequence[Any],
    start: Any,
    numbers: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The fields of `Measurements`; shorter runs repeat their last time. Numbers count runs up."""
    for label, run in runs.items():
        check_cells(label, names, *run, ~np.isnan(run.values))
    ts, values, sd = (stacked(x) for x in zip(*runs.values(), strict=True))
    present = stacked([np.ones(len(run.ts), bool) for run in runs.values()], False)
    mask = np.isfinite(values) & present[..., None]
    return {
        "ts": ts,
        "values": np.where(mask, values, 0.0),
        "mask": mask,
        "sd": np.where(mask & np.isfinite(sd), sd, 0.0),
        "starts": run_starts(start, ts[:, 0], tuple(runs)),
        "constants": constants,
        "inputs": inputs,
        "doses": tuple(map(check_dose, doses)),
        "names": names,
        "units": units,
        "run_names": tuple(runs),
        "numbers": tuple(range(len(runs)) if numbers is None else numbers),
    }


@final
class CutTable(NamedTuple):
    """The runs of a table in order of appearance, and what it says of them.

    `left_out` names runs without a measured cell. `numbers` are the places of the others among all,
    those that are left out too: arrays by run have a row for each.
    """

    runs: dict[str, MeasuredRun]
    numbers: list[int]
    constants: dict[str, np.ndarray]
    inputs: dict[str, KnownInput]
    left_out: list[str]


def cut_runs(table: Table, columns: ColumnRoles) -> CutTable:
    """Sorts the rows by run and time. Runs in which nothing was measured are left out."""
    ts = table.known("time", columns.time, "is no finite time")
    values = np.stack([table.numbers("columns", name) for name in columns.measured], axis=1)
    sd = np.stack([_spread(table, columns.sd.get(x), len(ts)) for x in columns.measured], axis=1)
    labels = ["0"] * len(ts) if columns.run is None else table.labels("run", columns.run)
    runs, numbers, rows, left_out = {}, [], {}, []
    for number, (label, own) in enumerate(rows_by_label(labels).items()):
        own = own[np.argsort(ts[own], kind="stable")]
        if np.isnan(values[own]).all():
            left_out.append(label)
            continue
        rows[label] = own
        numbers.append(number)
        runs[label] = MeasuredRun(ts[own], values[own], sd[own])
    _say_left_out(table, left_out, rows, columns.measured)
    constants = {name: _constant(table, name, rows) for name in columns.constants}
    inputs = {
        name: input_of_runs(table, name, kind, ts, list(rows.values()))
        for name, kind in columns.inputs.items()
    }
    return CutTable(runs, numbers, constants, inputs, left_out)


def _say_left_out(table: Table, left_out: list[str], kept: Any, measured: Any) -> None:
    if not kept:
        raise ValueError(f"{table.source} has no measured cell in {list(measured)}.")
    if left_out:
        warnings.warn(
            f"The runs {left_out} of {table.source} have no measured cell in {list(measured)} and "
            "are left out.",
            stacklevel=5,
        )


def _spread(table: Table, sd: Any, count: int) -> np.ndarray:
    if sd is None:
        return np.full(count, np.nan)
    return table.numbers("sd", sd) if isinstance(sd, str) else np.full(count, float(sd))


def _constant(table: Table, name: str, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    values, numbers = table.numbers("constants", name), []
    for label, own in rows.items():
        known = np.unique(values[own][np.isfinite(values[own])])
        if len(known) != 1:
            what = "no value" if len(known) == 0 else f"the values {known[0]:g} and {known[1]:g}"
            apart = f", or `run={name!r}` as well if it tells runs apart" if len(rows) == 1 else ""
            raise ValueError(
                f"`constants` names {name!r}, which has {what} in run {label!r} of "
                f"{table.source}; a constant has one. Write `inputs=[{name!r}]` if it changes"
                f"{apart}."
            )
        numbers.append(known[0])
    return np.array(numbers)
