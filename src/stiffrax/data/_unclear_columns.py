"""Columns of which nothing was said: refused where they look like anything but a measurement."""

from collections.abc import Collection, Sequence

import numpy as np

from ._table import Table, is_given, rows_by_label

_SPREADS = ("_sd", "_std", "_stdev", "_std_dev", "_se", "_sem", "_err", "_error", "_sigma")
# Names of columns, in small letters, that tell runs apart, replicates, what was measured.
_LABELS = ("id", "run_id", "subject", "patient", "animal", "experiment", "condition", "batch")
_REPLICATES = ("replicate", "replicates", "rep")
_VARIABLES = ("species", "variable", "observable", "observableid", "analyte", "compound", "name")
_VALUES = ("value", "measurement", "conc", "concentration", "dv")
_COUNTS = ("index", "id", "row", "no", "sample")


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
