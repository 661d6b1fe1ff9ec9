"""Names of states and columns, which are symbols of equations."""

import keyword
import unicodedata
from collections.abc import Sequence


def check_names(argument: str, names: Sequence[str], count: int | None = None) -> tuple[str, ...]:
    """`names` as a tuple, if they are distinct identifiers and, where asked, `count` of them."""
    if isinstance(names, str):
        raise ValueError(
            f"{argument} is the string {names!r}, but a sequence of names is needed: write "
            f"[{names!r}] for one state."
        )
    names, read = tuple(names), set()
    if count is not None and len(names) != count:
        raise ValueError(
            f"{argument} has {len(names)} names, but there are {count} states: give one name each."
        )
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(
                f"{argument} holds {name!r}, which cannot be a symbol in an equation: use a Python "
                "identifier (letters, digits and underscores, no digit first, no keyword), such "
                f"as {suggestion(name, i)!r}."
            )
        name = unicodedata.normalize("NFKC", name)  # as Python reads it
        if name in read:
            raise ValueError(f"{argument} holds {name!r} twice: give every state its own name.")
        read.add(name)
    return names


def state_names(names: Sequence[str] | None, num_states: int) -> tuple[str, ...]:
    """The names of the states, by default `y1 ... yn`."""
    if names is None:
        return tuple(f"y{i + 1}" for i in range(num_states))
    return check_names("`names`", names, num_states)


def suggestion(name: object, index: int) -> str:
    """A name near the given one that can be a symbol."""
    letters = "".join(c if c.isalnum() or c == "_" else "_" for c in str(name)).strip("_")
    for candidate in (letters, f"y_{letters}"):
        if letters and candidate.isidentifier() and not keyword.iskeyword(candidate):
            return candidate
    return f"y{index + 1}"
