"""From tables, and what a user says of their columns, to the fields of `Measurements`."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._arguments import check_instance
from ._column_names import Renaming, check_found, check_sequence
from ._column_roles import are_columns, find_roles, input_kinds
from ._long_table import widened
from ._measured_runs import cut_runs, padded_runs
from ._second_tables import (
    check_time_units,
    run_constants,
    run_doses,
    run_inputs,
    second_tables,
)
from ._table import Table
from ._table_of_files import one_table


def measurements_from_tables(
    tables: Sequence[Table],
    renaming: Renaming,
    decimal: str | None = None,
    *,
    by_file: bool = False,
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
    table = one_table(tables, run, time, None if long else used) if by_file else tables[0]
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
        inputs={name: kind for name, kind in kinds.items() if isinstance(kind, str)},
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
