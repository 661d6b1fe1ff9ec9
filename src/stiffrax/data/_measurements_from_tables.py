"""From tables, and what a user says of their columns, to the fields of `Measurements`."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._arguments import check_instance
from ._column_names import Renaming, check_found, check_sequence, one_unit, renaming
from ._column_roles import are_columns, find_roles, find_run, find_time, input_kinds
from ._long_table import widened
from ._measured_runs import cut_runs, padded_runs
from ._second_tables import (
    check_time_units,
    run_constants,
    run_doses,
    run_inputs,
    second_tables,
)
from ._table import Table, few
from ._unclear_columns import check_unnamed_runs


def measurements_from_tables(
    tables: Sequence[Table],
    renaming: Renaming,
    decimal: str | None = None,
    by_file: bool = False,
    /,
    *,
    run: Any = None,
    time: Any = None,
    columns: Any = None,
    sd: Any = None,
    constants: Any = (),
    inputs: Any = (),
    doses: Any = (),
    start: Any = None,
    long: Any = None,
) -> dict[str, Any]:
    """The fields of `Measurements`."""
    for name, given in (("run", run), ("time", time)):
        check_instance(name, given, str | None, "the name of a column", f"{name}='A'")
    columns = check_sequence("columns", columns, "['A']")
    constants = () if constants is None else constants
    kinds = input_kinds(inputs)
    used = {*(columns or ()), *_named(constants), *kinds, *_named(sd)}
    table = _one_table(tables, run, time, None if long else used) if by_file else tables[0]
    own = are_columns(constants, table)
    second = second_tables(constants, kinds, doses, renaming, decimal)
    headers = [(x.source, x.header) for x in tables] + second.headers()
    left = None
    if long is not None:
        table, columns, sd, left, written = widened(table, long, columns, sd, run, renaming)
        headers.append((f"{table.source}, column {long[0]!r}", written))
    check_found(renaming, headers)
    found = find_roles(
        table,
        run=run,
        time=time,
        columns=columns,
        sd=sd,
        constants=constants if own else (),
        inputs=kinds,
        beside=left,
    )
    for name, spread in found.sd.items():
        _check_unit(table, name, spread)
    cut = cut_runs(table, found)
    labels, known = tuple(cut.runs), cut.constants
    check_time_units((table, found.time), second.timed(), found.time)
    if second.constants is not None:
        known = run_constants(second.constants, labels, found.run)
    functions = cut.inputs | run_inputs(second.inputs, labels, found.run, found.time)
    given = second.listed
    if second.doses is not None:
        given = run_doses(second.doses, labels, found.run, found.time)
    doses = [x for x in given if getattr(x, "run", None) not in cut.left_out]
    if isinstance(start, Mapping):
        start = {name: t for name, t in start.items() if name not in cut.left_out}
    units = tuple(table.units.get(name, "") for name in found.measured)
    return padded_runs(cut.runs, found.measured, units, known, functions, doses, start, cut.numbers)


def renaming_of(owner: str, options: dict[str, Any], *own: str) -> Renaming:
    """Takes `rename` and `ignore` out of options, of which all must be known."""
    parameters = inspect.signature(measurements_from_tables).parameters.values()
    known = [*own, *(x.name for x in parameters if x.kind is x.KEYWORD_ONLY), "rename", "ignore"]
    for name in options:
        if name not in known:
            raise ValueError(f"`{owner}({name}=...)` was given; its options are {known}.")
    return renaming(options.pop("rename", None), options.pop("ignore", None))


def _check_unit(table: Table, name: str, spread: Any) -> None:
    """Refuses standard deviations in another unit than their column: a share of it, for one."""
    unit, own = (table.units.get(x, "") for x in (name, spread))
    if own != unit and own and (unit or own == "%"):
        raise ValueError(
            f"Column {name!r} of {table.source} is in {unit or 'no unit'} and its standard deviations, "
            f"{spread!r}, in {own}: bring both to one unit."
        )


def _named(given: Any) -> list[str]:
    names = [*given, *given.values()] if isinstance(given, Mapping) else given
    return [x for x in names if isinstance(x, str)] if isinstance(names, list | tuple) else []


def _one_table(
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
    units = one_unit((table.source, table.units) for table in tables)
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
