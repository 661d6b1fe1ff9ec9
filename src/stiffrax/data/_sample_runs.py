"""Runs of samples: out of arrays and tables, checked, and into files."""

import csv
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, NamedTuple, final

import numpy as np

from .._arguments import real_numbers
from ._names import check_names
from ._ragged import along_runs, runs_of
from ._table import Table, rows_by_label


@final
class Run(NamedTuple):
    """The present samples of one run.

    `locate(sample, state)` says in the words of the input where a value came from (`ys[2][5, 3]`,
    or a row and column of a file); `state` is `None` for the time.
    """

    title: str
    ts: np.ndarray
    ys: np.ndarray
    locate: Callable[[int, int | None], str]


def _samples(name: str, values: Any) -> np.ndarray:
    """States as float64: what is an integer may be a count, and truth values a mistake."""
    if (dtype := np.asarray(values).dtype).kind in "biu":
        raise ValueError(
            f"`{name}` has dtype {dtype}, but states must be floating point numbers: write "
            f"`np.asarray({name}, dtype=float)`."
        )
    return real_numbers(name, values)


def _flags(name: str, values: Any) -> np.ndarray:
    if (array := np.asarray(values)).dtype != bool:
        raise ValueError(
            f"`{name}` has dtype {array.dtype}, but booleans are needed (True: present): write "
            "`np.asarray(mask, dtype=bool)`."
        )
    return array


def check_run(run: Run) -> None:
    """Raises `ValueError` unless the run has two or more finite samples at increasing times."""
    if len(run.ts) == 0:
        raise ValueError(f"{run.title} is empty: leave it out, or give it two samples or more.")
    if len(run.ts) == 1:
        raise ValueError(
            f"{run.title} has one sample, but a run needs two or more (a segment joins two "
            "samples): leave it out."
        )
    bad_time = np.flatnonzero(~np.isfinite(run.ts))
    if len(bad_time):
        k = int(bad_time[0])
        raise ValueError(f"{run.locate(k, None)} is {run.ts[k]}, but times must be finite.")
    bad_state = np.argwhere(~np.isfinite(run.ys))
    if len(bad_state):
        k, j = (int(i) for i in bad_state[0])
        raise ValueError(
            f"{run.locate(k, j)} is {run.ys[k, j]}, but samples must be finite: delete the sample "
            "(in a file, the row), or declare it missing with `mask=`."
        )
    late = np.flatnonzero(np.diff(run.ts) <= 0)
    if len(late):
        k = int(late[0]) + 1
        fault = "repeats" if run.ts[k] == run.ts[k - 1] else "comes after"
        remedy = "keep one of the two" if fault == "repeats" else "sort the samples by time"
        raise ValueError(
            f"{run.locate(k, None)} is {run.ts[k]} and {fault} {run.ts[k - 1]}, but the times "
            f"of a run must increase strictly: {remedy}."
        )


def runs_from_arrays(ts: Any, ys: Any, mask: Any) -> list[Run]:
    """The runs in `ts`, `ys`, `mask`, without the samples that `mask` declares missing."""
    states, single = runs_of("ys", ys, 2, _samples)
    times, shared = along_runs("ts", ts, "ys", states)
    present = [np.ones(len(y), bool) for y in states]
    if mask is not None:
        present, _ = along_runs("mask", mask, "ys", states, _flags)
    runs = []
    for i, own in enumerate(present):
        kept = np.flatnonzero(own)

        def locate(sample: int, state: int | None, i: int = i, kept: np.ndarray = kept) -> str:
            if state is None:
                return f"`ts{'' if shared else f'[{i}]'}[{kept[sample]}]`"
            return f"`ys{'' if single else f'[{i}]'}[{kept[sample]}, {state}]`"

        title = "the run in `ys`" if single else f"run {i} of `ys`"
        if own.size and not own.any():
            title += " (its `mask` is False throughout)"
        runs.append(Run(title, times[i][kept], states[i][kept], locate))
    return runs


def runs_of_samples(
    table: Table, run: str | None, time: str, states: Sequence[str] | None
) -> tuple[dict[str, Run], tuple[str, ...]]:
    """The runs of the table in order of appearance, keyed by their names; and the state names."""
    source, columns = table.source, list(table.columns)
    for argument, name in (("time", time), ("run", run)):
        if name not in columns and (argument, name) != ("run", None):
            or_none = ", or `run=None` if the file holds one run" * (argument == "run")
            raise ValueError(
                f"{argument}={name!r} is no column of {source}, which has {columns}: pass the column "
                f"of the {argument} as `{argument}=`{or_none}."
            )
    given = "`states`"
    if states is None:
        given = f"the header of {source}"
        states = [name for name in columns if name not in (run, time)]
        if not states:
            raise ValueError(f"{source} has the columns {columns}, so no state: add one column.")
    names = check_names(given, states)
    if not names:
        raise ValueError("`states` is empty: name one column or more, or leave it out.")
    labels = ["0"] * len(table) if run is None else table.labels("run", run)
    ts = table.numbers("time", time)
    ys = np.stack([table.numbers("states", name) for name in names], axis=1)
    runs = {}
    for label, rows in rows_by_label(labels).items():

        def locate(sample: int, state: int | None, rows: np.ndarray = rows) -> str:
            return table.locate(int(rows[sample]), time if state is None else names[state])

        runs[label] = Run(f"run {label!r} of {source}", ts[rows], ys[rows], locate)
    return runs, names


def write_csv(
    path: str | PathLike[str],
    names: Sequence[str],
    runs: Iterable[tuple[str, np.ndarray, np.ndarray]],
) -> None:
    """Writes `(name, ts, ys)` of each run, every bit of a double."""
    header = check_names("The header, which begins with `run` and `t`,", ["run", "t", *names])
    with open(path, "w", newline="", encoding="utf-8") as file:
        # In quotes a name that begins with `#` makes no comment of its row.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(header)
        for label, ts, ys in runs:
            writer.writerows([label, *row] for row in np.column_stack([ts, ys]).tolist())
