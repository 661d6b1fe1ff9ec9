"""Files of complete samples: one row a sample, one column a state."""

import csv
from collections.abc import Iterable, Sequence
from os import PathLike

import numpy as np

from ._names import check_names
from ._sample_runs import Run
from ._table import Table, rows_by_label


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
    with open(path, "w", newline="", encoding="utf-8") as file:
        # In quotes a name that begins with `#` makes no comment of its row.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["run", "t", *names])
        for label, ts, ys in runs:
            writer.writerows([label, *row] for row in np.column_stack([ts, ys]).tolist())
