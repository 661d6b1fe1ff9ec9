"""Names of columns: as a table writes them, without their units, renamed or left out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, final

from ._table import few


@final
class Renaming(NamedTuple):
    """New names by the old ones, and columns that are left out; with their units or without."""

    rename: Mapping[str, str] = {}
    ignore: Sequence[str] = ()
    as_written: bool = False

    def name(self, written: str) -> tuple[str, str]:
        """The name and the unit of what is written; the unit is empty where there is none."""
        name, unit = (written, "") if self.as_written else name_and_unit(written)
        return self.rename.get(written, self.rename.get(name, name)), unit

    def leaves_out(self, written: str) -> bool:
        """Whether a column is left out."""
        # Not by its new name: a renamed column may take the place of one that is left out.
        return not {written, name_and_unit(written)[0]}.isdisjoint(self.ignore)


def renaming(rename: Any, ignore: Any) -> Renaming:
    """What a user gave as `rename` and `ignore`."""
    ignore = check_sequence("ignore", ignore, "['notes']")
    if not isinstance(rename, Mapping | None) or not all(
        isinstance(x, str) for x in (rename or {}).values()
    ):
        raise ValueError(
            f"`rename={rename!r}` was given; it needs new names by the old ones, as in "
            "`rename={'c_A [mmol/L]': 'A'}`."
        )
    return Renaming({} if rename is None else rename, ignore or ())


def check_sequence(argument: str, names: Any, example: str) -> list[str] | None:
    """`names` as a list, if they are texts; `None` where none were given."""
    if names is None:
        return None
    if isinstance(names, Iterable) and not isinstance(names, str):
        listed = list(names)
        if all(isinstance(x, str) for x in listed):
            return listed
    example = repr([names]) if isinstance(names, str) else example
    raise ValueError(
        f"`{argument}={names!r}` was given; it needs a sequence of names. Write "
        f"`{argument}={example}`."
    )


def name_and_unit(header: str) -> tuple[str, str]:
    """`c_A [mmol/L]` and `Temp (K)` as a name and a unit; the unit is empty where there is none."""
    match = re.fullmatch(r"\s*(.*?)\s*(?:\[([^\]]*)\]|\(([^)]*)\))\s*", header)
    if match is None:
        return header.strip(), ""
    return match[1], (match[2] or match[3] or "").strip()


def name_columns(
    source: str, header: Sequence[str], renaming: Renaming, filled: Sequence[bool]
) -> tuple[list[int], list[str], dict[str, str]]:
    """Which columns are kept, their names, and the units of those that have one."""
    places, names, units = [], [], {}
    for j, written in enumerate(header):
        name, unit = renaming.name(written)
        if renaming.leaves_out(written) or not (name or filled[j]):
            continue
        if not name and not renaming.as_written:
            raise ValueError(
                f"Column {j + 1} of {source} has no name. Give it one in the file, or leave it out: "
                "write `ignore=['']`."
            )
        if name in names:
            raise ValueError(
                f"{source} names two columns {name!r}, the second by {written!r}: give every column "
                "its own name."
            )
        places.append(j)
        names.append(name)
        if unit:
            units[name] = unit
    return places, names, units


def check_found(renaming: Renaming, headers: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Refuses to rename or to leave out what no table has; `headers` are by their sources."""
    headers = list(headers)
    sources = few(source for source, _ in headers)
    written = list(dict.fromkeys(name for _, header in headers for name in header))
    bare = [name_and_unit(name)[0] for name in written]
    for argument, names in (("rename", renaming.rename), ("ignore", renaming.ignore)):
        for old in names:
            if old not in {*written, *bare}:
                raise ValueError(
                    f"`{argument}` has {old!r}, which is no column of {sources}: {written}."
                )


def one_unit(tables: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """The units of columns by name, which must be those of all; each table comes with its source."""
    found = {}
    for source, units in tables:
        for name, unit in units.items():
            known, first = found.setdefault(name, (unit, source)) if unit else (unit, source)
            if known != unit:
                raise ValueError(
                    f"Column {name!r} is in {known} in {first} and in {unit} in {source}: bring both "
                    "to one unit."
                )
    return {name: unit for name, (unit, _) in found.items()}
