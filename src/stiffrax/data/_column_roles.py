"""Which column of a table is the run, the time, a measurement, or what is known of a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ._known_input import KINDS
from ._names import check_names, suggestion
from ._table import Table
from ._unclear_columns import check_beside, check_left_over, check_texts, check_unnamed_runs

_TIMES = ("t", "time", "Time", "TIME")
_RUNS = ("run", "Run", "RUN")


@final
class ColumnRoles(NamedTuple):
    """What the columns of a table are."""

    run: str | None
    time: str
    measured: tuple[str, ...]
    sd: dict[str, Any]
    constants: tuple[str, ...]
    inputs: dict[str, str]


def find_roles(
    table: Table,
    *,
    run: str | None,
    time: str | None,
    columns: Sequence[str] | None,
    sd: Any,
    constants: Sequence[str],
    inputs: Mapping[str, Any],
    beside: Sequence[str] | None,
) -> ColumnRoles:
    """Tells the columns apart: those named, and as measurements all that are left."""
    time, run = find_time(table, time), find_run(table, run)
    # A column of the name of an input with a table of its own is left out.
    own = {name: kind for name, kind in inputs.items() if isinstance(kind, str)}
    for argument, names in (("inputs", own), ("constants", constants)):
        for name in names:
            table.column(argument, name)
    sd = _spreads(sd)
    spreads = [x for x in sd.values() if isinstance(x, str)] if isinstance(sd, dict) else []
    for name in spreads:
        if beside is None:  # of several species in one column one may have none
            table.spreads(name)
    taken = {run, time, *constants, *inputs, *spreads}
    left = [name for name in table.columns if name not in taken]
    if columns is None:
        check_texts(table, left, run)
    if beside is not None:
        check_beside(table, [x for x in beside if x in left], run, sd)
    elif run is None:
        check_unnamed_runs(table, time, [x for x in left if x not in (columns or ())])
    if columns is None:
        check_left_over(table, left, run, time)
        columns = left
    if not columns:
        raise ValueError(
            f"{table.source} has the columns {list(table.columns)}, and none of them is measured."
        )
    measured = _measured_names(columns)
    for name in measured:
        table.column("columns", name)
    sd = sd if isinstance(sd, dict) else dict.fromkeys(measured, sd)
    for name in sd:
        if name not in measured:
            raise ValueError(f"`sd` has {name!r}, which is not measured; measured are {measured}.")
    return ColumnRoles(run, time, measured, sd, tuple(constants), own)


def find_time(
    table: Table, time: str | None, write: str = "say which one is the time, as in `time='hours'`"
) -> str:
    """The column of times."""
    if time is not None:
        table.column("time", time)
        return time
    found = [name for name in table.columns if name in _TIMES]
    if len(found) != 1:
        raise ValueError(
            f"{table.source} has the columns {list(table.columns)}, and not one of the name `t` or "
            f"`time`: {write}."
        )
    return found[0]


def find_run(table: Table, run: str | None) -> str | None:
    """The column that names the runs, or none where all rows are one."""
    if run is not None:
        table.column("run", run)
        return run
    found = [name for name in table.columns if name in _RUNS]
    if len(found) > 1:
        raise ValueError(
            f"{table.source} has the columns {found}: say which one names the runs, as in "
            f"`run={found[0]!r}`, and leave the others out by `ignore=`."
        )
    return found[0] if found else None


def are_columns(constants: Any, table: Table) -> bool:
    """Whether constants are columns of the table, and not a second one."""
    if isinstance(constants, str) and constants in table.columns:
        raise ValueError(
            f"`constants={constants!r}` was given, which is a column: write "
            f"`constants=[{constants!r}]`. A name alone is that of a file with a second table."
        )
    return isinstance(constants, list | tuple)


def input_kinds(inputs: Any) -> dict[str, Any]:
    """How each input goes on between its rows, or a pair of this and the table that it stands in."""
    table = hasattr(inputs, "columns") or getattr(inputs, "ndim", 1) > 1
    text = isinstance(inputs, str) or not isinstance(inputs, Iterable | None)
    names = [] if inputs is None or table or text else list(inputs)
    if table or text or not all(isinstance(x, str) for x in names):
        given = type(inputs).__name__ if table else repr(inputs)
        raise ValueError(
            f"`inputs={given}` was given; it needs the names of columns. Write "
            "`inputs={'feed': 'linear'}`, or for one of a table of its own `inputs={'feed': "
            "('linear', 'feeds.csv')}`."
        )
    kinds: dict[str, Any] = dict.fromkeys(names, "linear")
    kinds |= inputs if isinstance(inputs, Mapping) else {}
    for name, given in kinds.items():
        kind = given[0] if isinstance(given, tuple) and len(given) == 2 else given
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(
                f"`inputs={{{name!r}: {given!r}}}` was given; between its rows an input is one of "
                f"{KINDS}. Write `inputs={{{name!r}: 'linear'}}`, or for one of a table of its own "
                f"`inputs={{{name!r}: ('linear', 'feeds.csv')}}`."
            )
    return kinds


def _spreads(sd: Any) -> Any:
    if sd is None:
        return {}
    if isinstance(sd, Mapping):
        for name, given in sd.items():
            if not isinstance(given, str) and not _is_number(given):
                raise ValueError(
                    f"`sd={{{name!r}: {given!r}}}` was given; it needs a number, or the name of a "
                    f"column. Write `sd={{{name!r}: 0.1}}` or `sd={{{name!r}: '{name}_sd'}}`."
                )
        return dict(sd)
    if not _is_number(sd):
        raise ValueError(
            f"`sd={sd!r}` was given; it needs a number for all columns, or by the name of what is "
            "measured a number or a column. Write `sd={'A': 'A_sd'}`."
        )
    return float(sd)


def _is_number(x: Any) -> bool:
    number = isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool)
    return number and bool(np.isfinite(x))


def _measured_names(columns: Sequence[str]) -> tuple[str, ...]:
    for i, name in enumerate(columns):
        if not name.isidentifier():
            raise ValueError(
                f"Column {name!r} has no name that can stand in a formula. Write `rename="
                f"{{{name!r}: {suggestion(name, i)!r}}}`, or another name of letters, digits and "
                "underscores."
            )
    return check_names("`columns`", columns)
