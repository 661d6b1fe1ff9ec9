"""Files of complete samples: one row a sample, one column a state."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np

from ._sample_runs import Run
from ._state_names import check_names

Path = str | PathLike[str]


class _Columns(NamedTuple):
    """Where in a row the run, the time and the states stand; and how many cells a row has."""

    run: int | None
    time: int
    states: list[int]
    width: int


def runs_from_csv(
    path: Path, run: str | None, time: str, states: Sequence[str] | None
) -> tuple[dict[str, Run], tuple[str, ...]]:
    """The runs of the file in order of appearance, keyed by their names; and the state names."""
    rows: dict[str, list[tuple[int, list[float]]]] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(_lines(path, file))
        header = [cell.strip() for cell in next(reader, [])]
        if not any(header):
            raise ValueError(f"{path} is empty: its first row must name the columns.")
        columns, names = _columns(path, header, run, time, states)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            label, numbers = _row(path, reader.line_num, header, columns, cells)
            rows.setdefault(label, []).append((reader.line_num, numbers))
    if not rows:
        raise ValueError(f"{path} has a header but no samples: add one row for each sample.")
    return {
        label: _run_of_rows(path, label, body, names, time) for label, body in rows.items()
    }, names


def _lines(path: Path, file: Iterable[str]) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not UTF-8. Write `srx.Measurements.from_csv(path).to_trajectories()`, which "
            "finds the encoding."
        ) from None


def write_csv(
    path: Path, names: Sequence[str], runs: Iterable[tuple[str, np.ndarray, np.ndarray]]
) -> None:
    """Writes `(name, ts, ys)` of each run; `repr` keeps every bit of a double."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "t", *names])
        for label, ts, ys in runs:
            for t, y in zip(ts, ys, strict=True):
                writer.writerow([label, repr(float(t)), *(repr(float(value)) for value in y)])


def _columns(
    path: Path, header: list[str], run: str | None, time: str, states: Sequence[str] | None
) -> tuple[_Columns, tuple[str, ...]]:
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"{path} names two columns {name!r}: give every column its own name.")

    def place(argument: str, name: str, remedy: str) -> int:
        if name not in header:
            _check_separator(path, header)
            raise ValueError(
                f"{argument}={name!r} is no column of {path}, which has {header}: {remedy}."
            )
        return header.index(name)

    where_run = None
    if run is not None:
        remedy = "pass the column that names the run, or `run=None` if the file holds one run"
        where_run = place("run", run, remedy)
    where_time = place("time", time, "pass the column that holds the time as `time=`")
    if states is None:
        states = [name for name in header if name not in (run, time)]
        if not states:
            raise ValueError(f"{path} has the columns {header}, so no state: add one column each.")
        names = check_names(f"the header of {path}", states)
    else:
        names = check_names("`states`", states)
        if not names:
            raise ValueError("`states` is empty: name one column or more, or leave it out.")
    where = [place("states", name, "pass names out of these") for name in names]
    return _Columns(where_run, where_time, where, len(header)), names


def _check_separator(path: Path, header: list[str]) -> None:
    """Raises `ValueError` for a header of one cell that another separator would divide."""
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise ValueError(
                f"{path} is separated by {word}, not by commas. Write "
                "`srx.Measurements.from_csv(path).to_trajectories()`, which finds the separator."
            )


def _row(
    path: Path, line: int, header: list[str], columns: _Columns, cells: list[str]
) -> tuple[str, list[float]]:
    """The run's name, and the time followed by the states."""
    if len(cells) != columns.width:
        raise ValueError(
            f"row {line} of {path} has {len(cells)} cells, but its header has {columns.width}: "
            "give every row one cell a column."
        )
    label = "0" if columns.run is None else cells[columns.run].strip()
    if not label:
        raise ValueError(
            f"row {line} of {path}, column {header[columns.run or 0]!r}, is empty: name the run."
        )
    numbers = []
    for column in (columns.time, *columns.states):
        try:
            # Python would read `1_2` as 12.
            numbers.append(float(cells[column].replace("_", "?")))
        except ValueError:
            raise ValueError(
                f"row {line} of {path}, column {header[column]!r}, holds {cells[column]!r}, which "
                "is no number: correct it, leave the column out by naming the states in `states=`, "
                "or delete the row if the sample is missing."
            ) from None
    return label, numbers


def _run_of_rows(
    path: Path, label: str, body: list[tuple[int, list[float]]], names: tuple[str, ...], time: str
) -> Run:
    lines = [line for line, _ in body]
    values = np.array([numbers for _, numbers in body])

    def locate(sample: int, state: int | None) -> str:
        column = time if state is None else names[state]
        return f"row {lines[sample]} of {path}, column {column!r},"

    return Run(f"run {label!r} of {path}", values[:, 0], values[:, 1:], locate)
