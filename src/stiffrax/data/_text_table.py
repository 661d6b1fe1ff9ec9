"""Text files as tables: encoding, comments, separator and decimal sign are found."""

import codecs
import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any

from .._arguments import check_choice
from ._column_names import Renaming, name_columns
from ._table import Table, read_cell

Path = str | PathLike[str]
Line = tuple[int, str]
Row = tuple[int, list[str]]

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}
# Formats that hold a table and are no text, by their first bytes.
_BINARY = {b"PK\x03\x04": "an Excel file", b"\xd0\xcf\x11\xe0": "an Excel file", b"PAR1": "Parquet"}
# What Excel writes for an error is a cell.
_COMMENT = re.compile(r"#(?!N/A|DIV/0!|VALUE!|REF!|NAME\?|NUM!|NULL!)", re.IGNORECASE)
# By the mark at their beginning.
_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Cells of which the last begins with a quote, and has none that ends it.
_OPEN = re.compile(r'(?!#)(?:(?:("(?:[^"]|"")*"(?!")|[^",;\t])[^,;\t]*)?[,;\t])*"(?:[^"]|"")*')
# A name and its unit are one cell, though there is a space between them.
_WORD = r"[^\s\[(]+(?:\s*[\[(][^\])]*[\])])?"


def read_csv(
    path: Path,
    renaming: Renaming,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    likely: str | None = None,
) -> Table:
    """Reads a text file of any separator, decimal sign and encoding, comment lines left out."""
    check_choice("from_csv", "decimal", decimal, None, ".", ",")
    if separator is not None and (not isinstance(separator, str) or len(separator) != 1):
        raise ValueError(
            f"`separator={separator!r}` was given; it needs one sign. Write `separator=';'`, or "
            "`separator=' '` for any number of blanks."
        )
    lines, comments = _lines(path)
    if lines and (named := re.fullmatch(r'(?i)"?sep=(.)"?', lines[0][1])):
        # Excel writes it above the header.
        separator, lines = named[1] if separator is None else separator, lines[1:]
    if not lines:
        raise ValueError(f"{path} is empty: its first row must name the columns.")
    separator = _separator(path, lines) if separator is None else separator
    remarks = [(number, _cells(line, separator)) for number, line in comments]
    rows = [(number, _cells(line, separator)) for number, line in lines]
    if not any(name in renaming.rename for name in rows[0][1]):
        rows = _with_header(path, rows, comments, separator)
    rows = _cut(rows)
    header, body = rows[0][1], [row for row in rows[1:] if any(row[1])]
    _check_comments(path, remarks, rows[0], body)
    _check_rows(path, header, body, separator)
    if decimal is None:
        decimal = _decimal(separator, [cell for _, cells in body for cell in cells], likely)
    filled = [any(cells[j] for _, cells in body) for j in range(len(header))]
    places, names, units = name_columns(str(path), header, renaming, filled)
    given = {name: [cells[j] for _, cells in body] for j, name in zip(places, names, strict=True)}
    columns = {name: [read_cell(x, decimal) for x in cells] for name, cells in given.items()}
    numbers = [number for number, _ in body]

    def locate(row: int, name: str) -> str:
        return f"row {numbers[row]} of {path}, column {name!r},"

    return Table(str(path), header, units, columns, given, locate)


def _lines(path: Path) -> tuple[list[Line], list[Line]]:
    """The lines that hold something, and those that are comments, numbered as an editor does."""
    with open(path, "rb") as file:
        content = file.read()
    for start, what in _BINARY.items():
        if content.startswith(start):
            raise ValueError(
                f"{path} is {what}, no text. Read it with pandas or Polars and write "
                "`Measurements.from_table(frame)`."
            )
    numbered = [(n, line) for n, line in _whole_lines(_text(path, content)) if line.strip()]
    comments = [(n, line) for n, line in numbered if _COMMENT.match(line)]
    return [(n, line) for n, line in numbered if not _COMMENT.match(line)], comments


def _text(path: Path, content: bytes) -> str:
    for mark, encoding in _ENCODINGS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content:
        raise ValueError(
            f"{path} has zero bytes, as text in UTF-8 and Windows-1252 has not. Save it as UTF-8."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        warnings.warn(f"{path} is not UTF-8 and was read as Windows-1252.", stacklevel=5)
        return content.decode("cp1252", errors="replace")


def _whole_lines(text: str) -> Iterator[Line]:
    """Each line with those on which a cell in quotes goes on, and the number of the first."""
    lines, first, is_open = _lines_of(text), 1, False
    for number, line in enumerate(lines, 1):
        first = first if is_open else number
        if '"' in line:
            is_open = _OPEN.fullmatch('"' * is_open + line) is not None
        if not is_open:
            yield first, "".join(lines[first - 1 : number]).rstrip("\r\n")
    if is_open:  # no quote closes it
        yield from enumerate(lines[first - 1 :], first)


def _lines_of(text: str) -> list[str]:
    # `splitlines` breaks at other characters too, at which an editor shows one line.
    return list(io.StringIO(text, newline=""))


def _with_header(
    path: Path, rows: list[Row], comments: Sequence[Line], separator: str
) -> list[Row]:
    """The rows below their header, which `numpy.savetxt` writes as the comment above them."""
    number, first = rows[0]
    if not any(first) or not all(map(_is_number, first)):
        return rows
    above = [(n, line) for n, line in comments if n < number]
    if above:
        n, line = above[-1]
        header = _cells(line.lstrip("#").strip(), separator)
        # `Na` is sodium here, and not a cell that was not measured.
        names = all(header) and not any(map(_has_digits_only, header))
        if len(header) == len(first) and names:
            return [(n, header), *rows]
    raise ValueError(
        f"row {number} of {path} has numbers only: the first row must name the columns, and none "
        "above it does."
    )


def _cut(rows: list[Row]) -> list[Row]:
    """The rows without empty cells at the end, which a separator after the last column makes."""
    filled = [max((j for j, cell in enumerate(cells, 1) if cell), default=0) for _, cells in rows]
    width = max(filled[0], min(len(rows[0][1]), max(filled)))
    return [
        (number, cells[: max(width, used)])
        for (number, cells), used in zip(rows, filled, strict=True)
    ]


def _check_rows(path: Path, header: list[str], body: list[Row], separator: str) -> None:
    if not body:
        raise ValueError(f"{path} has a header but no samples: add one row for each sample.")
    for number, cells in body:
        if len(cells) != len(header):
            raise ValueError(
                f"row {number} of {path} has {len(cells)} cells, but its header has {len(header)} "
                f"(separated by {_SEPARATORS.get(separator, repr(separator))}): give every row one "
                "cell a column, or name the separator, as in `separator=';'`."
            )


def _check_comments(
    path: Path,
    comments: list[Row],
    header: Row,
    body: list[Row],
) -> None:
    """Refuses comments that look like rows, of which the first cell is a name as in `#2`."""
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


def _has_digits_only(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _is_number(cell: str) -> bool:
    return not cell or isinstance(read_cell(cell.replace(",", "."), "."), float)


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return re.findall(_WORD, line)
    # By another separator a cell that goes over several lines is several rows.
    rows = csv.reader(_lines_of(line), delimiter=separator)
    return [cell.strip() for row in rows for cell in row]


def _separator(path: Path, lines: list[Line]) -> str:
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
