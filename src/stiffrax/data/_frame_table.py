"""Data frames and mappings of columns as tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._column_names import Renaming, name_columns
from ._table import NOT_MEASURED, Table, is_given, read_cell


def read_table(table: Any, renaming: Renaming, what: str = "A table") -> Table:
    """A mapping of columns, or a data frame, as a table. One number stands for a column of it."""
    if isinstance(table, Mapping):
        header = list(table)
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        header = list(table.columns)
    else:
        raise ValueError(
            f"{what} of type {type(table).__name__} was given; it needs a data frame (pandas, "
            "Polars), or a dictionary of columns, as in `{'t': ts, 'A': values}`."
        )
    cells = [_column(table[key]) for key in header]
    lengths = {len(x) for x in cells if isinstance(x, list)}
    count = min(lengths, default=1)
    whole = [x if isinstance(x, list) else [x] * count for x in cells]
    written = [str(name) for name in header]
    if len(lengths) > 1:
        raise ValueError(
            "The columns of the table have lengths "
            f"{dict(zip(written, map(len, whole), strict=True))}; they must be equal."
        )
    if not count:
        raise ValueError("The table has no rows: give one for each time.")
    values = [[_value(x) for x in column] for column in whole]
    filled = [any(map(is_given, column)) for column in values]
    places, names, units = name_columns("the table", written, renaming, filled)
    given = {name: whole[j] for j, name in zip(places, names, strict=True)}
    columns = {name: values[j] for j, name in zip(places, names, strict=True)}

    def locate(row: int, name: str) -> str:
        return f"row {row} of the table, column {name!r},"

    return Table("the table", written, units, columns, given, locate)


def _column(values: Any) -> Any:
    """The cells; dates and spans of time as text, for those in nanoseconds would be integers."""
    array = np.asarray(values)
    if array.dtype.kind == "U" and isinstance(values, list | tuple):
        array = np.asarray(values, object)  # NaN among text is no text
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array, unit="auto")
    if array.dtype.kind == "m":
        array = np.vectorize(str, otypes=[object])(array.astype("timedelta64[us]").tolist())
    # What is masked is `None`.
    return np.ma.array(array, mask=np.ma.getmask(values)).tolist()


def _value(x: Any) -> Any:
    if x is None:
        return float("nan")
    if isinstance(x, str):
        return read_cell(x, ".")
    if isinstance(x, np.timedelta64):
        return str(x)  # a number only without its unit
    try:
        return float(x)
    except (TypeError, ValueError):
        # pandas has a value of its own, `<NA>`, for what is not measured.
        return float("nan") if str(x).lower() in NOT_MEASURED else str(x)
