"""Measurements of several data sets as one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._known_input import KnownInput
from ._ragged import stacked


def joined(parts: Sequence[Any]) -> dict[str, Any]:
    """The fields of `Measurements` with the runs of all parts and the columns of each."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    labels = tuple(label for part in parts for label in part.run_names)
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Two of the data sets have a run {repeated[0]!r}. Give every run a name of its own, by "
            "`run_names=` or by the column of runs, or read the files together: "
            "`Measurements.from_csv(['a.csv', 'b.csv'])` names runs by their files."
        )
    numbers = tuple(number for part in parts for number in part.numbers)
    if len(set(numbers)) < len(numbers):
        numbers = tuple(parts[0].numbers)
        following = range(max(numbers) + 1, max(numbers) + 1 + len(labels) - len(numbers))
        numbers += tuple(following)
    units = common_units(parts, names)
    longest = max(part.ts.shape[1] for part in parts)
    cells = {x: [_cells(getattr(part, x), part, names, longest) for part in parts] for x in _CELLS}
    return {
        "ts": stacked(row for part in parts for row in part.ts),
        **{x: np.concatenate(rows) for x, rows in cells.items()},
        "starts": np.concatenate([part.starts for part in parts]),
        "constants": {
            name: np.concatenate(given) for name, given in _known_of_all("constants", parts).items()
        },
        "inputs": {name: _input(given) for name, given in _known_of_all("inputs", parts).items()},
        "doses": tuple(dose for part in parts for dose in part.doses),
        "names": names,
        "units": units,
        "run_names": labels,
        "numbers": numbers,
    }


_CELLS = ("values", "mask", "sd")


def _cells(cells: Any, part: Any, names: tuple[str, ...], longest: int) -> np.ndarray:
    whole = np.zeros((len(part.run_names), longest, len(names)), np.asarray(cells).dtype)
    places = [names.index(name) for name in part.names]
    whole[:, : part.ts.shape[1], places] = cells
    return whole


def common_units(parts: Sequence[Any], names: Sequence[str] = ()) -> tuple[str, ...]:
    """The units of columns by name, which must be those of all data sets."""
    units = {}
    for part in parts:
        for name, unit in zip(part.names, part.units, strict=True):
            if unit and units.setdefault(name, unit) != unit:
                raise ValueError(
                    f"Column {name!r} is in {units[name]} in one data set and in {unit} in another: "
                    "bring both to one unit."
                )
    return tuple(units.get(name, "") for name in names)


def _known_of_all(kind: str, parts: Sequence[Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for part in parts for name in getattr(part, kind))
    for name in names:
        for part in parts:
            if name not in getattr(part, kind):
                given = "{'T': 298.0}" if kind == "constants" else "{'T': ('step', 'feeds.csv')}"
                raise ValueError(
                    f"{name!r} is one of the {kind} of some runs, and the run {part.run_names[0]!r} "
                    f"has none. Give it where these data are read: "
                    f"`{kind}={given.replace('T', name, 1)}`."
                )
    return {name: [getattr(part, kind)[name] for part in parts] for name in names}


def _input(parts: Sequence[KnownInput]) -> KnownInput:
    """The input of all runs; rows and jumps that a run does not have are at infinite times."""
    return KnownInput(
        stacked((row for x in parts for row in x.ts), np.inf),
        stacked((row for x in parts for row in x.coefficients), 0.0),
        stacked((row for x in parts for row in x.jump_ts), np.inf),
    )
