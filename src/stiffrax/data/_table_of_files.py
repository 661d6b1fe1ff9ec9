"""Tables of one run or more each as one table."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ._column_roles import find_run, find_time
from ._table import Table, few
from ._unclear_columns import check_unnamed_runs


def one_table(
    tables: Sequence[Table], run: str | None, time: str | None, used: Collection[str] | None
) -> Table:
    """The rows of all tables. One without a column of runs is a run of the name of its file."""
    if not tables:
        raise ValueError("No file was given: name one or more, as in `['a.csv', 'b.csv']`.")
    to_run = "run" if run is None else run
    to_time = find_time(tables[0], time)
    tables = list(tables)
    for i, table in enumerate(tables):
        own_run, own_time = find_run(table, run), find_time(table, time)
        if own_run is None:
            if used is not None:
                left = [name for name in table.columns if name != own_time and name not in used]
                check_unnamed_runs(table, own_time, left)
            labels = [Path(table.source).stem] * len(table)
            table = table.like(table.columns | {to_run: labels}, table.given | {to_run: labels})
        new = {own_run: to_run, own_time: to_time}
        parts: Any = table.columns, table.given, table.units
        columns, given, units = (
            {str(new.get(k, k)): x for k, x in cells.items()} for cells in parts
        )
        tables[i] = table.like(columns, given, units)
    _check_runs(tables, to_run)
    names = dict.fromkeys(name for table in tables for name in table.columns)
    units = _units(tables)
    columns, given = {}, {}
    for name in names:
        empty = [[float("nan")] * len(table) for table in tables]
        pairs = list(zip(tables, empty, strict=True))
        columns[name] = [x for table, none in pairs for x in table.columns.get(name, none)]
        given[name] = [x for table, none in pairs for x in table.given.get(name, none)]
    places = [(table, row) for table in tables for row in range(len(table))]

    def locate(row: int, name: str) -> str:
        table, own = places[row]
        return table.locate(own, name)

    source = few(table.source for table in tables)
    header = [name for table in tables for name in table.header]
    return Table(source, header, units, columns, given, locate)


def _check_runs(tables: Sequence[Table], run: str) -> None:
    """Refuses runs of one name in two files, which may be two experiments."""
    sources = {}
    for table in tables:
        for label in dict.fromkeys(table.labels("run", run)):
            if label in sources:
                raise ValueError(
                    f"The run {label!r} is in {sources[label]} and in {table.source}. Give every run "
                    "a name of its own; a file without a column `run` is a run of its own name."
                )
            sources[label] = table.source


def _units(tables: Sequence[Table]) -> dict[str, str]:
    units, sources = {}, {}
    for table in tables:
        for name, unit in table.units.items():
            if units.setdefault(name, unit) != unit:
                raise ValueError(
                    f"Column {name!r} is in {units[name]} in {sources[name]} and in {unit} in "
                    f"{table.source}: bring both to one unit."
                )
            sources.setdefault(name, table.source)
    return units
