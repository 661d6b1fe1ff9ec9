"""A table as an instrument or a colleague wrote it: names, units and cells, as text or numbers."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, final

import numpy as np

NOT_MEASURED = {"", "nan", "na", "n/a", "null", "none", "-", "<na>"}
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d{2}(:\d{2})?")


@final
class Table(NamedTuple):
    """Columns of equal length. `locate(row, column)` says in the words of the source where it is.

    A cell is a number, or text that is none; one that was not measured is NaN. `given` has the cells
    as they were before, by which labels are told apart; `header` the names as they are written.
    """

    source: str
    header: Sequence[str]
    units: dict[str, str]
    columns: dict[str, list[Any]]
    given: dict[str, list[Any]]
    locate: Callable[[int, str], str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def like(self, columns: dict[str, Any], given: Any = None, units: Any = None) -> "Table":
        """The table with other columns; `_replace` of named tuples counts on `__len__`."""
        given, units = given or self.given, units or self.units
        return Table(self.source, self.header, units, columns, given, self.locate)

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
                raise ValueError(f"{self.locate(row, name)} {self._no_number(argument, name, row)}")
        return np.array(cells, float)

    def spreads(self, name: str) -> np.ndarray:
        """A column of standard deviations; without any they would be estimated, unasked."""
        numbers = self.numbers("sd", name)
        if np.isnan(numbers).all():
            raise ValueError(
                f"`sd` names {name!r}, which is empty in {self.source}. Leave `sd` out to have "
                "standard deviations estimated."
            )
        return numbers

    def known(self, argument: str, name: str, fault: str) -> np.ndarray:
        """The column as numbers, all of which must be finite; `fault` says of another what it is."""
        numbers = self.numbers(argument, name)
        for row in np.flatnonzero(~np.isfinite(numbers)):
            raise ValueError(f"{self.locate(int(row), name)} {fault}.")
        return numbers

    def labels(self, argument: str, name: str, what: str = "run") -> list[str]:
        """The column as names of `what`, each as it was written: `none`, `-` and `Na` are names."""
        self.column(argument, name)
        for row, given in enumerate(self.given[name]):
            text = str(given).strip().lower()
            if not text or not isinstance(given, str) and text in NOT_MEASURED:
                raise ValueError(f"{self.locate(row, name)} is empty; name the {what}.")
        return [_label(x) for x in self.given[name]]

    def holds_names(self, name: str) -> bool:
        """Whether a column has text in it, and neither a number nor what is meant as one."""
        given = [cell for cell in self.columns[name] if is_given(cell)]
        return bool(given) and all(
            isinstance(cell, str) and not _what_is_no_number(cell) for cell in given
        )

    def _no_number(self, argument: str, name: str, row: int) -> str:
        cell, seen = self.columns[name][row], _what_is_no_number(self.columns[name][row])
        firsts = [cells[0] for cells in self.columns.values() if is_given(cells[0])]
        if row == 0 and not seen and any(isinstance(x, float) for x in self.columns[name][1:]):
            if all(isinstance(x, str) for x in firsts):
                return (
                    f"holds {cell!r}, which looks like a row of units; delete that row. Names "
                    "of `Measurements` may have units, as in `A [mmol/L]`."
                )
        if argument == "constants" and self.holds_names(name):
            return (
                f"holds {cell!r}, a name, and a constant is a number. Write numbers in place of the "
                f"names, such as 0 and 1, or leave the column out: `ignore=[{name!r}]`."
            )
        return seen or (
            f"holds {cell!r}, which is no number; correct it, or leave it empty if it was not "
            "measured (of `Trajectories` leave its row out)."
        )


def _label(given: Any) -> str:
    """Text as it was written: `007` is not `7`. Integers that a data frame made floats are integers."""
    if isinstance(given, float) and given.is_integer():
        return str(int(given))
    return str(given).strip()


def _what_is_no_number(cell: str) -> str:
    """What text that is no number looks like, and what to do about it; empty where nothing."""
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
            "thousands, or say which the decimal sign is where the file is read, as in `decimal=','`."
        )
    return ""


def rows_by_label(labels: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each label, in order of appearance."""
    places: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        places.setdefault(label, []).append(row)
    return {label: np.array(rows) for label, rows in places.items()}


def few(sources: Iterable[str]) -> str:
    """The first names of several tables, and how many more there are."""
    names = list(dict.fromkeys(sources))
    return ", ".join(names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"])


def is_given(cell: Any) -> bool:
    """Whether a cell has text or a number."""
    return isinstance(cell, str) or not np.isnan(cell)


def read_cell(cell: str, decimal: str) -> Any:
    """The number that is written, NaN for a cell that was not measured, or the text that it is."""
    if cell.lower() in NOT_MEASURED:
        return float("nan")
    written = cell.replace(decimal, ".") if decimal != "." else cell
    # Python would read `1_2` as 12. A point beside a decimal comma separates thousands.
    if "_" in cell or decimal != "." and "." in cell:
        return cell
    try:
        return float(written)
    except ValueError:
        return cell
