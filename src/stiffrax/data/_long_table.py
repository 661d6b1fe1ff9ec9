"""Tables with one row a measurement, as tables with one column a variable."""

from typing import Any

from ._column_names import Renaming
from ._column_roles import find_run
from ._table import Table


def widened(
    table: Table, long: Any, asked: Any, sd: Any, run: str | None, renaming: Renaming
) -> tuple[Table, Any, Any, list[str], list[str]]:
    """One column for each name in the first column of `long`, with the values of the second."""
    _check(long, sd)
    variable, value = long
    spread = sd if isinstance(sd, str) else None
    written = table.labels("long", variable, "species")
    table = _without_ignored(table, written, {value: "long", spread: "sd"}, renaming)
    values = table.numbers("long", value)
    variables, units = _named(table, variable, written, renaming)
    names = [name for name in dict.fromkeys(variables) if name is not None]
    if not names:
        raise ValueError(
            f"`ignore` leaves out all that column {variable!r} of {table.source} names, "
            f"{list(dict.fromkeys(written))}: leave one."
        )
    spreads = [float("nan")] * len(values) if spread is None else table.spreads(spread)
    others = [name for name in table.columns if name not in (variable, value, spread)]
    for name in names:
        if name in others:
            raise ValueError(
                f"{table.source} has {name!r} in column {variable!r} and as the name of a column: "
                "give one of them another name."
            )
    run = find_run(table, run)
    labels = {} if run is None else {run: table.labels("run", run)}
    cells = {name: table.columns[name] for name in others} | labels
    places: dict[Any, list[int]] = {}
    seen: dict[Any, int] = {}
    for row, name in enumerate(variables):
        place = tuple(str(cells[key][row]) for key in others)
        replicate = 0 if name is None else seen.get((place, name), 0)
        seen[place, name] = replicate + 1
        places.setdefault((place, replicate), []).append(row)
    rows = list(places.values())

    def column(name: str, numbers: Any) -> list[float]:
        found = [[numbers[k] for k in part if variables[k] == name] for part in rows]
        return [float(x[0]) if x else float("nan") for x in found]

    columns = {key: [table.columns[key][part[0]] for part in rows] for key in others}
    given = {key: [table.given[key][part[0]] for part in rows] for key in others}
    columns |= {name: column(name, values) for name in names}
    if spread is not None:
        sd = {name: f"{name} {spread}" for name in names}
        columns |= {sd[name]: column(name, spreads) for name in names}
        if spread in table.units:
            units |= dict.fromkeys(sd.values(), table.units[spread])

    def locate(row: int, name: str) -> str:
        return table.locate(rows[row][0], name if name in others else value)

    if value in table.units:
        units = dict.fromkeys(names, table.units[value]) | units
    wide = Table(table.source, table.header, {**table.units, **units}, columns, given, locate)
    asked = names if asked is None else asked
    if isinstance(sd, dict):
        sd = {k: x for k, x in sd.items() if k in asked or k not in names}
    return wide, asked, sd, others, list(dict.fromkeys(written))


def _without_ignored(
    table: Table, written: list[str], columns: dict[str | None, str], renaming: Renaming
) -> Table:
    """The table without the cells of variables that are left out, which need not be numbers."""
    left_out = [renaming.leaves_out(text) for text in written]
    cells = dict(table.columns)
    for name, argument in columns.items():
        if name is not None:
            pairs = zip(table.column(argument, name), left_out, strict=True)
            cells[name] = [float("nan") if out else x for x, out in pairs]
    return table.like(cells)


def _check(long: Any, sd: Any) -> None:
    if not isinstance(long, tuple | list) or [isinstance(x, str) for x in long] != [True, True]:
        raise ValueError(
            f"`long={long!r}` was given; it needs the columns of names and of values, as in "
            "`long=('species', 'value')`."
        )
    if isinstance(sd, dict) and any(isinstance(x, str) for x in sd.values()):
        raise ValueError(
            f"`sd={sd!r}` was given for a table with one row a measurement; it needs the name of "
            "the column of standard deviations, as in `sd='sd'`."
        )


def _named(
    table: Table, variable: str, written: list[str], renaming: Renaming
) -> tuple[list[str | None], dict[str, str]]:
    """The names of the variables without their units, renamed; and the units."""
    found, units = {}, {}
    for text in dict.fromkeys(written):
        if renaming.leaves_out(text):
            continue
        name, unit = renaming.name(text)
        if name in found.values():
            first = next(old for old, new in found.items() if new == name)
            raise ValueError(
                f"{table.source} has {first!r} and {text!r} in column {variable!r}, both of which "
                f"would be {name!r}. Write `rename={{{text!r}: 'another_name'}}`."
            )
        found[text] = name
        units |= {name: unit} if unit else {}
    return [found.get(text) for text in written], units
