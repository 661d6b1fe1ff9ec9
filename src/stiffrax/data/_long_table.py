"""Tables with one row a measurement, as tables with one column a variable."""

from typing import Any

from ._table import Table


def widened(
    table: Table, long: tuple[str, str], sd: Any, run: str | None
) -> tuple[Table, list[str], dict[str, str]]:
    """One column for each name in the first column of `long`, with the values of the second.

    Rows that agree in all other columns become one; a variable that comes twice among these is a
    replicate and gets a row of its own. With it the names, and by name the columns of standard
    deviations.
    """
    if sd is not None and not isinstance(sd, str):
        raise ValueError(
            f"`sd={sd!r}` was given for a table with one row a measurement; it needs the name of "
            "the column of standard deviations, as in `sd='sd'`."
        )
    variable, value = long
    variables, values = table.labels("long", variable), table.numbers("long", value)
    spreads = [float("nan")] * len(values) if sd is None else table.numbers("sd", sd)
    names = list(dict.fromkeys(variables))
    others = [name for name in table.columns if name not in (variable, value, sd)]
    for name in names:
        if name in others:
            raise ValueError(
                f"{table.source} has {name!r} in column {variable!r} and as the name of a column: "
                "give one of them another name."
            )
    run = "run" if run is None else run
    labels = {run: table.labels("run", run)} if run in others else {}
    cells = {name: table.columns[name] for name in others} | labels
    places: dict[Any, list[int]] = {}
    seen: dict[Any, int] = {}
    for row, name in enumerate(variables):
        place = tuple(str(cells[key][row]) for key in others)
        replicate = seen.get((place, name), 0)
        seen[place, name] = replicate + 1
        places.setdefault((place, replicate), []).append(row)
    rows = list(places.values())

    def column(name: str, numbers: Any) -> list[float]:
        found = [[numbers[k] for k in part if variables[k] == name] for part in rows]
        return [float(x[0]) if x else float("nan") for x in found]

    columns = {key: [table.columns[key][part[0]] for part in rows] for key in others}
    given = {key: [table.given[key][part[0]] for part in rows] for key in others}
    columns |= {name: column(name, values) for name in names}
    if sd is not None:
        columns |= {f"{name} {sd}": column(name, spreads) for name in names}

    def locate(row: int, name: str) -> str:
        return table.locate(rows[row][0], name if name in others else value)

    spread_of = {} if sd is None else {name: f"{name} {sd}" for name in names}
    return Table(table.source, table.units, columns, given, locate), names, spread_of
