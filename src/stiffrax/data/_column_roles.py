"""Which column of a table is the run, the time, a measurement, or what is known of a run.

One of which nothing was said is refused where it looks like anything but a measurement.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ._known_input import KINDS
from ._names import check_names, suggestion
from ._table import Table, is_given, rows_by_label

_TIMES = ("t", "time", "Time", "TIME")
_RUNS = ("run", "Run", "RUN")
_SPREADS = ("_sd", "_std", "_stdev", "_std_dev", "_se", "_sem", "_err", "_error", "_sigma")
# Names of columns, in small letters, that tell runs apart, replicates, what was measured.
_LABELS = ("id", "run_id", "subject", "patient", "animal", "experiment", "condition", "batch")
_REPLICATES = ("replicate", "replicates", "rep")
_VARIABLES = ("species", "variable", "observable", "observableid", "analyte", "compound", "name")
_VALUES = ("value", "measurement", "conc", "concentration", "dv")
_COUNTS = ("index", "id", "row", "no", "sample")


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


def check_texts(table: Table, columns: list[str], run: str | None) -> None:
    """Refuses columns of text: names of runs, or of what was measured, one row a measurement."""
    names = [name for name in columns if table.holds_names(name)]
    if not names:
        return
    others = [name for name in columns if name not in names]
    pair = _as_long_table(names, others)
    if pair is not None:
        named, value = pair
        options = [f"long=({named!r}, {value!r})"]
        options += [f"run={x!r}" for x in names if x != named and run is None][:1]
        options += [f"sd={x!r}" for x in others if f"_{x.lower()}" in _SPREADS][:1]
        raise ValueError(
            f"Column {named!r} of {table.source} holds names and column {value!r} their "
            f"values, one row a measurement. Write `{', '.join(options)}`."
        )
    apart = "" if run is not None else f"`run={names[0]!r}` if it tells the runs apart, "
    variables = ""
    if others and (_is_one_value(others) or names[0].lower() in _VARIABLES):
        variables = f"`long=({names[0]!r}, {others[0]!r})` if it names what was measured, "
    example = next(x for x in table.columns[names[0]] if isinstance(x, str))
    raise ValueError(
        f"Column {names[0]!r} of {table.source} holds names, such as {example!r}, and no "
        f"measurement. Write {apart}{variables}{'or ' if apart or variables else ''}"
        f"`ignore=[{names[0]!r}]` to leave it out."
    )


def _as_long_table(names: list[str], others: list[str]) -> tuple[str, str] | None:
    """The column that names what was measured and that of its values, where there seem to be such."""
    values = [name for name in others if name.lower() in _VALUES]
    variables = [name for name in names if name.lower() in _VARIABLES]
    name = (variables or names)[0]
    if values and (variables or name.lower() not in _LABELS):
        return name, values[0]
    return (name, others[0]) if variables and _is_one_value(others) else None


def _is_one_value(others: list[str]) -> bool:
    """Whether one of the columns of numbers is no standard deviation."""
    names = [name.lower() for name in others]
    return sum(not (x.endswith(_SPREADS) or f"_{x}" in _SPREADS) for x in names) == 1


def check_left_over(table: Table, columns: list[str], run: str | None, time: str) -> None:
    """Refuses a column that would be taken for a measurement and looks like something else."""
    for name in columns:
        if name.lower() in _REPLICATES:
            raise ValueError(
                f"Column {name!r} of {table.source} looks like a number of replicates, which are "
                f"rows of equal times. Write `ignore=[{name!r}]`, `run={name!r}` if it tells runs "
                "apart, or name what is measured in `columns=`."
            )
        for base in _spread_of(name, table, columns):
            raise ValueError(
                f"Column {name!r} of {table.source} looks like the standard deviation of {base!r}. "
                f"Write `sd={{{base!r}: {name!r}}}`, or name what is measured in `columns=`."
            )
    rows = rows_by_label(["0"] * len(table) if run is None else table.labels("run", run)).values()
    ts = table.numbers("time", time)
    for name in columns:
        values = table.numbers("columns", name)
        if name.lower() in _COUNTS and len(values) > 1 and np.all(np.diff(values) == 1):
            raise ValueError(
                f"Column {name!r} of {table.source} counts the rows. Write `ignore=[{name!r}]`, or "
                "name what is measured in `columns=`."
            )
        if _is_constant(values, rows):
            raise ValueError(
                f"Column {name!r} of {table.source} does not change within a run. Write "
                f"`constants=[{name!r}]` if it is a condition, such as a temperature or a dose, or "
                "name it in `columns=` if it is measured."
            )
        repeats = [_repeats(values, ts, own) for own in rows]
        if sum(len(part) for part in repeats) > 3 and np.mean(np.concatenate(repeats)) > 0.5:
            raise ValueError(
                f"Column {name!r} of {table.source} stays the same over most of its rows, as what "
                f"is set and not measured does. Write `inputs={{{name!r}: 'step'}}` if it is a "
                "known function of time, or name it in `columns=` if it is measured."
            )


def _spread_of(name: str, table: Table, columns: list[str]) -> list[str]:
    """The columns that a name says it is the standard deviation of, which one named `sd` does not."""
    low = name.lower()
    if f"_{low}" in _SPREADS:
        return [x for x in columns if x != name] if len(columns) == 2 else []
    bases = {low.removesuffix(x) for x in _SPREADS}
    bases |= {low.removeprefix(f"{x[1:]}_") for x in _SPREADS}
    return [x for x in table.columns if x.lower() in bases - {low}]


def check_beside(table: Table, left: Sequence[str], run: str | None, sd: object) -> None:
    """Refuses columns beside one row a measurement that no argument names; `left` are these."""
    for name in left:
        if name.lower() in _REPLICATES:
            continue
        if f"_{name.lower()}".endswith(_SPREADS):
            write = f"ignore=[{name!r}]" if sd else f"sd={name!r}"
            raise ValueError(
                f"Column {name!r} of {table.source} looks like standard deviations, and no argument "
                f"names it. Write `{write}`."
            )
        apart = "" if run is not None else f"`run={name!r}` if it tells the runs apart, "
        known = f"`constants=[{name!r}]` or `inputs=[{name!r}]` if it is a condition, "
        raise ValueError(
            f"No argument names the column {name!r} of {table.source}, and rows that differ in it "
            f"would be taken for replicates. Write {apart}"
            f"{'' if table.holds_names(name) else known}`ignore=[{name!r}]` to leave it out."
        )


def check_unnamed_runs(table: Table, time: str, left: Sequence[str]) -> None:
    """Refuses a table without a run of which a column of no other use seems to tell runs apart."""
    ts = table.numbers("time", time)
    for name in left:
        given = np.array(list(map(is_given, table.columns[name])))
        if name.lower() in _REPLICATES or not given[0]:
            continue
        # Merged cells of a spreadsheet name a run in its first row only.
        above = np.maximum.accumulate(np.where(given, np.arange(len(ts)), 0))
        written = np.array([str(x) for x in table.given[name]])[above]
        _, labels = np.unique(written, return_inverse=True)
        count = 1 + labels.max()
        named = name.lower() in _LABELS and 1 < count < len(ts)
        in_turn = given.all() and _in_turn(ts, labels)
        if named or (1 < count <= len(ts) / 2 and (_in_blocks(ts, labels) or in_turn)):
            raise ValueError(
                f"Column {name!r} of {table.source} seems to tell runs apart, all of which would be "
                f"one. Write `run={name!r}`, `ignore=[{name!r}]` if it does not, or name it in "
                "`columns=` if it is measured."
            )


def _in_blocks(ts: np.ndarray, labels: np.ndarray) -> bool:
    """Whether times go back only where labels change, and at half of the changes at least."""
    back, changes = np.diff(ts) < 0, labels[1:] != labels[:-1]
    only_there = back.any() and not np.any(back & ~changes)
    return bool(only_there and 2 * back.sum() >= changes.sum())


def _in_turn(ts: np.ndarray, labels: np.ndarray) -> bool:
    """Whether rows of each label are two or more at times that rise, and those of all do not."""
    if np.bincount(labels).min() < 2 or np.all(np.diff(ts) > 0):
        return False
    orders = [np.argsort(labels, kind="stable")]
    if len(np.unique(ts)) < len(ts):
        orders.append(np.lexsort((ts, labels)))
    return any(np.all(np.diff(ts[order])[np.diff(labels[order]) == 0] > 0) for order in orders)


def _is_constant(values: np.ndarray, rows: Collection[np.ndarray]) -> bool:
    """Whether known values change in no run, and there is more than one in some."""
    known = [part[np.isfinite(part)] for part in (values[own] for own in rows)]
    return sum(map(len, known)) > len(known) and all(len(set(part)) <= 1 for part in known)


def _repeats(values: np.ndarray, ts: np.ndarray, own: np.ndarray) -> np.ndarray:
    part = values[own][np.argsort(ts[own], kind="stable")]
    return np.diff(part[np.isfinite(part)]) == 0
