"""A table as an instrument or a colleague wrote it: names, units and cells, as text or numbers."""

import csv
import re
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple, final

import numpy as np

Path = str | PathLike[str]

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}
# Formats that hold a table and are no text, by their first bytes.
_BINARY = {b"PK\x03\x04": "an Excel file", b"\xd0\xcf\x11\xe0": "an Excel file", b"PAR1": "Parquet"}
_NOT_MEASURED = {"", "nan", "na", "n/a", "null", "none", "-", "<na>"}
# A name and its unit are one cell, though there is a space between them.
_WORD = r"[^\s\[(]+(?:\s*[\[(][^\])]*[\])])?"
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d{2}(:\d{2})?")


@final
class Table(NamedTuple):
    """Columns of equal length. `locate(row, column)` says in the words of the source where it is.

    A cell is a number, or text that is none; one that was not measured is NaN. `given` has the cells
    as they were before, by which labels are told apart.
    """

    source: str
    units: dict[str, str]
    columns: dict[str, list[Any]]
    given: dict[str, list[Any]]
    locate: Callable[[int, str], str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def column(self, argument: str, name: str) -> list[Any]:
        """The cells of a column that an argument names."""
        if name not in self.columns:
            raise ValueError(
                f"`{argument}` names {name!r}, which is no column of {self.source}; it has "
                f"{list(self.columns)}."
            )
        return self.columns[name]

    def numbers(self, argument: str, name: str) -> np.ndarray:
        """The column as numbers, NaN where nothing was measured."""
        cells = self.column(argument, name)
        for row, cell in enumerate(cells):
            if isinstance(cell, str):
                raise ValueError(f"{self.locate(row, name)} {_no_number(cell, row)}")
        return np.array(cells, float)

    def labels(self, argument: str, name: str) -> list[str]:
        """The column as names, each as it was written."""
        cells = self.column(argument, name)
        for row, cell in enumerate(cells):
            if isinstance(cell, float) and np.isnan(cell):
                raise ValueError(f"{self.locate(row, name)} is empty; name the {argument}.")
        return [_label(x) for x in self.given[name]]


def _label(given: Any) -> str:
    """Text as it was written: `007` is not `7`. Integers that a data frame made floats are integers."""
    if isinstance(given, float) and given.is_integer():
        return str(int(given))
    return str(given).strip()


def _no_number(cell: str, row: int) -> str:
    if _DATE.search(cell):
        return (
            f"holds {cell!r}, which looks like a date or a time of day; give the time that has "
            "passed since the start, as a number."
        )
    if cell[:1] in "<>":
        return (
            f"holds {cell!r}, a bound and no number. Leave the cell empty where the value was not "
            "measured, or write the number that stands for it."
        )
    if re.fullmatch(r"[-+]?\d+([.,]\d+)+", cell):
        return (
            f"holds {cell!r}, with a sign that is not the decimal one. Leave out what separates "
            "thousands, or say which the decimal sign is, as in `decimal=','`."
        )
    if row == 0 and re.fullmatch(r"[^\d]*[a-zA-Zµ%°/*^-][\w/*^%°·. -]*", cell):
        return (
            f"holds {cell!r}, which looks like a row of units; delete that row, or write the units "
            "into the names, as in `A [mmol/L]`."
        )
    return (
        f"holds {cell!r}, which is no number; correct it, or leave it empty if it was not measured."
    )


def name_and_unit(header: str) -> tuple[str, str]:
    """`c_A [mmol/L]` and `Temp (K)` as a name and a unit; the unit is empty where there is none."""
    match = re.fullmatch(r"\s*(.*?)\s*(?:\[([^\]]*)\]|\(([^)]*)\))\s*", header)
    if match is None:
        return header.strip(), ""
    return match[1], (match[2] or match[3] or "").strip()


def read_csv(
    path: Path,
    rename: Mapping[str, str],
    *,
    separator: str | None = None,
    decimal: str | None = None,
    likely: str | None = None,
) -> Table:
    """Reads a text file of any separator, decimal sign and encoding, comment lines left out.

    The decimal sign is `decimal`, or the one that is found, or `likely` where that is not clear.
    """
    lines, comments = _lines(path)
    if not lines:
        raise ValueError(f"{path} is empty: its first row must name the columns.")
    separator = _separator(path, lines) if separator is None else separator
    rows = [(number, _cells(line, separator)) for number, line in lines]
    header, body = rows[0][1], [row for row in rows[1:] if any(row[1])]
    _check_comments(path, [(k, _cells(x, separator)) for k, x in comments], rows[0], body)
    if not body:
        raise ValueError(f"{path} has a header but no samples: add one row for each sample.")
    for number, cells in body:
        if len(cells) != len(header):
            raise ValueError(
                f"row {number} of {path} has {len(cells)} cells, but its header has {len(header)} "
                f"(separated by {_SEPARATORS.get(separator, repr(separator))}): give every row one "
                "cell a column, or name the separator, as in `separator=';'`."
            )
    if decimal is None:
        decimal = _decimal(separator, [cell for _, cells in body for cell in cells], likely)
    names, units = _names(str(path), header, rename)
    given = {name: [cells[j] for _, cells in body] for j, name in enumerate(names)}
    columns = {name: [_cell(x, decimal) for x in cells] for name, cells in given.items()}
    numbers = [number for number, _ in body]

    def locate(row: int, name: str) -> str:
        return f"row {numbers[row]} of {path}, column {name!r},"

    return Table(str(path), units, columns, given, locate)


def read_table(table: Any, rename: Mapping[str, str]) -> Table:
    """A mapping of columns, or a data frame, as a table."""
    if isinstance(table, Mapping):
        header = list(table)
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        header = list(table.columns)
    else:
        raise ValueError(
            f"A table of type {type(table).__name__} was given; it needs a data frame (pandas, "
            "Polars), or a dictionary of columns, as in `{'t': ts, 'A': values}`."
        )
    names, units = _names("the table", [str(name) for name in header], rename)
    given = {name: _column(table[key]) for key, name in zip(header, names, strict=True)}
    columns = {name: [_value(x) for x in cells] for name, cells in given.items()}
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns of the table have lengths {lengths}; they must be equal.")

    def locate(row: int, name: str) -> str:
        return f"row {row} of the table, column {name!r},"

    return Table("the table", units, columns, given, locate)


def _lines(path: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """The lines that hold something, and those that are comments, numbered as an editor does."""
    with open(path, "rb") as file:
        content = file.read()
    for start, what in _BINARY.items():
        if content.startswith(start):
            raise ValueError(
                f"{path} is {what}, no text. Read it with pandas or Polars and write "
                "`Measurements.from_table(frame)`."
            )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        warnings.warn(f"{path} is not UTF-8 and was read as Latin-1.", stacklevel=4)
        text = content.decode("latin-1")
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    comments = [(n, line) for n, line in numbered if line.startswith("#")]
    return [(n, line) for n, line in numbered if not line.startswith("#")], comments


def _check_comments(
    path: Path,
    comments: list[tuple[int, list[str]]],
    header: tuple[int, list[str]],
    body: list[tuple[int, list[str]]],
) -> None:
    """Refuses comments that look like rows, of which the first cell is a name as in `#2`.

    Where other rows begin with numbers, or with that name, such a line is a row that was commented
    out.
    """
    if body and all(_is_number(cells[0]) for _, cells in body):
        return
    names = {cells[0] for _, cells in body}
    for number, cells in comments:
        name = cells[0][1:]
        if name in names or not name[:1].strip():
            continue
        whole = any(cells[1:]) and all(map(_is_number, cells[1:]))
        if number > header[0] and len(cells) == len(header[1]) and whole:
            raise ValueError(
                f"row {number} of {path} begins with {cells[0]!r} and has a number in every other "
                "column: a sample, or a comment? Write the name without `#`, or delete the row."
            )


def _is_number(cell: str) -> bool:
    return not cell or isinstance(_cell(cell.replace(",", "."), "."), float)


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return re.findall(_WORD, line)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _separator(path: Path, lines: list[tuple[int, str]]) -> str:
    """The separator by which every row has as many cells as the header, and most of them."""

    def num_columns(separator: str) -> int:
        counts = {len(_cells(line, separator)) for _, line in lines[:20]}
        return counts.pop() if len(counts) == 1 else 1

    # A header with units, `c_A [mmol/L]`, holds spaces: they come last.
    best = max((",", ";", "\t"), key=num_columns)
    if num_columns(best) > 1:
        return best
    # Without its units, whose spaces separate nothing.
    if num_columns(" ") > 1:
        return " "
    for separator in (",", ";", "\t"):
        if separator in lines[0][1]:
            return separator
    raise ValueError(
        f"The header of {path} is {lines[0][1]!r}, a single column; a time and a measurement are "
        "needed. If another sign separates the columns, write `separator=`."
    )


def _decimal(separator: str, cells: list[str], likely: str | None) -> str:
    """A comma, if numbers are written with commas and none with a point."""
    if separator == ",":
        return "."
    points = [x for x in cells if re.fullmatch(r"[-+]?\d*(\.\d+)+", x)]
    if likely == "," and points and all(map(_thousands(r"\."), points)):
        return likely
    commas = [x for x in cells if re.fullmatch(r"[-+]?\d*(,\d+)+([eE][-+]?\d+)?", x)]
    with_comma = any(x.count(",") == 1 for x in commas)
    with_point = any(re.fullmatch(r"[-+]?\d*\.\d+([eE][-+]?\d+)?", cell) for cell in cells)
    if likely is not None and with_comma and with_point:
        return likely
    if with_comma and with_point:
        raise ValueError(
            "The file has numbers with a decimal comma and numbers with a decimal point. Say which "
            "sign it is, as in `decimal=','`."
        )
    if commas and all(map(_thousands(","), commas)):
        if likely is not None:
            return likely
        raise ValueError(
            f"The file has {commas[0]!r}, and a comma in every such number that could separate "
            "thousands. Say which sign it is: `decimal=','`, or leave the commas out."
        )
    return "," if with_comma else "."


def _thousands(sign: str) -> Callable[[str], Any]:
    return re.compile(rf"[-+]?[1-9]\d{{0,2}}({sign}\d{{3}})+").fullmatch


def _cell(cell: str, decimal: str) -> Any:
    if cell.lower() in _NOT_MEASURED:
        return float("nan")
    written = cell.replace(decimal, ".") if decimal != "." else cell
    # Python would read `1_2` as 12. A point beside a decimal comma separates thousands.
    if "_" in cell or decimal != "." and "." in cell:
        return cell
    try:
        return float(written)
    except ValueError:
        return cell


def _column(values: Any) -> list[Any]:
    """The cells; dates and spans of time as text, for those in nanoseconds would be integers."""
    array = np.asarray(values)
    if array.dtype.kind == "M":
        return np.datetime_as_string(array, unit="auto").tolist()
    if array.dtype.kind == "m":
        return [str(x) for x in array.astype("timedelta64[us]").tolist()]
    return array.tolist()


def _value(x: Any) -> Any:
    if x is None:
        return float("nan")
    if isinstance(x, str):
        return _cell(x, ".")
    if isinstance(x, np.timedelta64):
        return str(x)  # a number only without its unit
    try:
        return float(x)
    except (TypeError, ValueError):
        return str(x)


def _names(
    source: str, header: list[str], rename: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The names of the columns and the units of those that have one."""
    for old in rename:
        if old not in header and old not in [name_and_unit(written)[0] for written in header]:
            raise ValueError(f"`rename` has {old!r}, which is no column of {source}: {header}.")
    names, units = [], {}
    for written in header:
        name, unit = name_and_unit(written)
        name = rename.get(written, rename.get(name, name))
        if name in names:
            raise ValueError(
                f"{source} names two columns {name!r}: give every column its own name."
            )
        names.append(name)
        if unit:
            units[name] = unit
    return names, units
