"""From arrays, or tables and what a user says of their columns, to the fields of `Measurements`."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._arguments import check_instance, real_numbers
from ._column_names import Renaming, check_found, check_sequence, one_unit, renaming
from ._column_roles import (
    are_columns,
    check_unnamed_runs,
    find_roles,
    find_run,
    find_time,
    input_kinds,
)
from ._long_table import widened
from ._measured_runs import MeasuredRun, cut_runs, padded_runs
from ._names import check_run_names, state_names
from ._ragged import along_runs, is_ragged, runs_of
from ._run_checks import per_run
from ._second_tables import (
    check_time_units,
    run_constants,
    run_doses,
    run_inputs,
    second_tables,
)
from ._table import Table, few


def measurements_from_arrays(
    ts: Any,
    values: Any,
    *,
    names: Sequence[str] | None,
    units: Sequence[str] | None,
    sd: Any,
    constants: Any,
    inputs: Any,
    doses: Any,
    start: Any,
    run_names: Sequence[str] | None,
) -> dict[str, Any]:
    """The fields of `Measurements`."""
    names = check_sequence("names", names, "['A']")
    units = check_sequence("units", units, "['mM']")
    given, _ = runs_of("values", values, 2)
    num_columns = given[0].shape[1]
    times, spreads = along_runs("ts", ts, "values", given)[0], _spreads(sd, given)
    names = state_names(names, num_columns)
    titles = ("",) * num_columns if units is None else _units(units, num_columns)
    if isinstance(run_names, Iterable) and not isinstance(run_names, str):
        run_names = [str(x) for x in run_names]
    labels = check_sequence("run_names", run_names, "['a']")
    labels = [str(i) for i in range(len(given))] if labels is None else labels
    check_run_names(labels, len(given))
    runs = {
        label: _run(t, y, s) for label, t, y, s in zip(labels, times, given, spreads, strict=True)
    }
    needed = "one number a run by the name of the condition"
    write = "constants={'T': [298.0, 310.0]}"
    check_instance("constants", constants, Mapping | None, needed, write)
    known = {k: per_run(k, real_numbers(k, x), len(given)) for k, x in (constants or {}).items()}
    second = second_tables((), _input_kinds(inputs), doses, Renaming(), None)
    check_time_units(None, second.timed(), None)
    functions = run_inputs(second.inputs, labels, None, None)
    given = second.listed
    if second.doses is not None:
        given = run_doses(second.doses, labels, None, None)
    return padded_runs(runs, names, titles, known, functions, given, start)


def _spreads(sd: Any, runs: list[np.ndarray]) -> list[np.ndarray]:
    if is_ragged(sd):
        given = [real_numbers(f"sd[{i}]", x) for i, x in enumerate(sd)]
    else:
        array = real_numbers("sd", np.nan if sd is None else sd)
        given = list(array) if array.ndim == 3 else [array]
    given = given * len(runs) if len(given) == 1 else given
    try:
        return [np.broadcast_to(x, run.shape) for x, run in zip(given, runs, strict=True)]
    except ValueError:
        raise ValueError(
            f"`sd` has shape {[x.shape for x in given]}; it needs a number, one for each column, or "
            f"the shape of `values`, which is {[run.shape for run in runs]}, run by run."
        ) from None


def _run(ts: np.ndarray, values: np.ndarray, sd: np.ndarray) -> MeasuredRun:
    """Rows by time. One that has neither a time nor a value is padding, and no row."""
    rows = np.argsort(ts, kind="stable")
    kept = rows[np.isfinite(ts[rows]) | ~np.isnan(values[rows]).all(axis=1)]
    rows = kept if len(kept) else rows
    return MeasuredRun(ts[rows], values[rows], sd[rows])


def _units(units: Sequence[str], count: int) -> tuple[str, ...]:
    if len(units) != count:
        raise ValueError(
            f"`units={units!r}` was given; it needs one text for each of {count} columns, empty "
            f"where there is none. Write `units={['mM', *[''] * (count - 1)]}`."
        )
    return tuple(units)


def _input_kinds(inputs: Any) -> dict[str, Any]:
    kinds = input_kinds(inputs)
    for name, given in kinds.items():
        if isinstance(given, str):
            raise ValueError(
                f"`inputs` has {name!r} without its rows, and arrays have no columns. Write "
                f"`inputs={{{name!r}: ({given!r}, {{'t': [0.0, 5.0], {name!r}: [0.0, 2.0]}})}}`, or "
                "a file in place of the dictionary."
            )
    return kinds


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
