"""What is known of each run beside its measurements: constants, inputs and doses of other tables."""

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._column_names import Renaming
from ._column_roles import find_run, find_time
from ._frame_table import read_table
from ._known_input import KnownInput, input_of_runs
from ._run_conditions import Dose
from ._table import Table, is_given, rows_by_label
from ._text_table import read_csv


@final
class SecondTables(NamedTuple):
    """Tables beside that of the measurements, and doses that are `listed` in place of a table."""

    constants: Table | None
    doses: Table | None
    listed: Sequence[Any]
    inputs: dict[str, tuple[str, Table]]

    def timed(self) -> list[Table]:
        """Those with a column of times."""
        fed = [table for _, table in self.inputs.values()]
        return fed if self.doses is None else [self.doses, *fed]

    def headers(self) -> list[tuple[str, Sequence[str]]]:
        """The names of columns as they are written, by the source."""
        tables = self.timed() if self.constants is None else [self.constants, *self.timed()]
        return [(table.source, table.header) for table in tables]


def second_tables(
    constants: Any, inputs: Mapping[str, Any], doses: Any, renaming: Renaming, decimal: str | None
) -> SecondTables:
    """Reads those that are given. `decimal` is what was said of the first table."""

    def read(what: str, source: Any) -> Table:
        if isinstance(source, str | PathLike):
            return read_csv(source, renaming, likely=decimal)
        return read_table(source, renaming, what)

    in_columns = isinstance(constants, list | tuple)
    if isinstance(doses, Dose):
        raise ValueError(
            f"`doses` is one dose; it needs a list of them. Write `doses=[srx.{doses!r}]`."
        )
    doses = () if doses is None else doses
    listed = list(doses) if isinstance(doses, list | tuple | Iterator) else None
    fed = {name: given for name, given in inputs.items() if not isinstance(given, str)}
    return SecondTables(
        None if in_columns else read("`constants`", constants),
        read("`doses`", doses) if listed is None else None,
        listed or (),
        {name: (kind, read(f"`inputs[{name!r}]`", x)) for name, (kind, x) in fed.items()},
    )


def run_constants(
    table: Table, runs: Sequence[str], run: str | None
) -> dict[str, Float[np.ndarray, " runs"]]:
    """One number a run for each column of a table with one row a run, or one row for all."""
    column, places = _run_column(table, run), _rows(table, "as `constants`", runs, run)
    if column is None and len(table) != 1:
        raise ValueError(
            f"{table.source}, given as `constants`, has {len(table)} rows and the columns "
            f"{list(table.columns)}, none of which names the runs: call it `run`, as in "
            "`rename={'experiment': 'run'}`."
        )
    for label, own in zip(runs, places, strict=True):
        if len(own) > 1:
            raise ValueError(f"{table.source} has two rows for the run {label!r}; it needs one.")
    rows = [int(own[0]) for own in places]
    constants = {}
    for name in table.columns:
        if name == column:
            continue
        values = table.numbers("constants", name)[rows]
        for k in np.flatnonzero(~np.isfinite(values)):
            raise ValueError(f"{table.locate(rows[k], name)} is empty; a constant is needed.")
        constants[name] = values
    return constants


def run_inputs(
    inputs: Mapping[str, tuple[str, Table]], runs: Sequence[str], run: str | None, time: str | None
) -> dict[str, KnownInput]:
    """Inputs by their names; the table of each may name its runs and times as the first one does."""
    found = {}
    for name, (kind, table) in inputs.items():
        ts = table.known("time", _time_column(table, time), "is no finite time")
        rows = _rows(table, f"for the input {name!r}", runs, run)
        found[name] = input_of_runs(table, name, kind, ts, rows)
    return found


def _rows(table: Table, what: str, runs: Sequence[str], run: str | None) -> list[np.ndarray]:
    column = _run_column(table, run)
    if column is None:
        return [np.arange(len(table))] * len(runs)
    places = rows_by_label(table.labels("run", column))
    for label in runs:
        if label not in places:
            raise ValueError(
                f"{table.source}, given {what}, has no row for the run {label!r}; it has "
                f"{list(places)}."
            )
    return [places[label] for label in runs]


def run_doses(
    table: Table, runs: Sequence[str], run: str | None, time: str | None
) -> tuple[Dose, ...]:
    """One dose a row of a table with columns of times, states and amounts."""
    needed = [name for name in ("state", "amount") if name not in table.columns]
    if needed:
        raise ValueError(
            f"{table.source}, given as `doses`, has the columns {list(table.columns)}, and not "
            f"{needed[0]!r}: it needs `state`, `amount` and a time. Name the "
            f"column so, in the table or by `rename={{'old name': {needed[0]!r}}}`."
        )
    time = _time_column(table, time)
    column = _run_column(table, run)
    known = {time, column, "state", "amount", "seen", "keeps"}
    unknown = [name for name in table.columns if name not in known]
    if unknown:
        raise ValueError(
            f"{table.source}, given as `doses`, has a column {unknown[0]!r}; it needs those of the "
            f"run, the time, `state`, `amount`, `seen` and `keeps`. Leave it out, in the table or by "
            f"`ignore=[{unknown[0]!r}]`."
        )
    fault = "is empty; a dose has a time and an amount"
    ts, amounts = (table.known("doses", name, fault) for name in (time, "amount"))
    states = table.labels("doses", "state", "state")
    given = enumerate(table.columns.get("seen", [0.0] * len(ts)))
    seen = [_is_true(table, row, cell) for row, cell in given]
    keeps = table.numbers("doses", "keeps") if "keeps" in table.columns else np.ones(len(ts))
    labels = [None] * len(ts) if column is None else table.labels("run", column)
    ts, amounts, keeps = (x.tolist() for x in (ts, amounts, np.where(np.isnan(keeps), 1.0, keeps)))
    rows = zip(labels, ts, states, amounts, seen, keeps, strict=True)
    return tuple(
        Dose(label, *dose) for own, *dose in rows for label in (runs if own is None else [own])
    )


def check_time_units(
    first: tuple[Table, str] | None, others: Sequence[Table], time: str | None
) -> None:
    """Refuses tables whose times are in different units, of which none is converted."""
    found = [] if first is None else [first]
    found += [(table, _time_column(table, time)) for table in others]
    stated = [
        (table.source, name, table.units[name]) for table, name in found if name in table.units
    ]
    for source, name, unit in stated[1:]:
        if unit != stated[0][2]:
            raise ValueError(
                f"The times {stated[0][1]!r} of {stated[0][0]} are in {stated[0][2]} and those, "
                f"{name!r}, of {source} in {unit}: bring both to one unit."
            )


def _is_true(table: Table, row: int, cell: Any) -> bool:
    if not is_given(cell):
        return False
    words = {"true": True, "false": False, "yes": True, "no": False, "1.0": True, "0.0": False}
    if (word := str(cell).lower()) not in words:
        raise ValueError(f"{table.locate(row, 'seen')} holds {cell!r}; write 1 or 0.")
    return words[word]


def _time_column(table: Table, time: str | None) -> str:
    write = "name the one of times so, in the table or by `rename={'hours': 't'}`"
    return find_time(table, time if time in table.columns else None, write)


def _run_column(table: Table, run: str | None) -> str | None:
    return find_run(table, run if run in table.columns else None)
