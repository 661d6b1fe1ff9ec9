"""Names of states and columns, which are symbols of equations, and of runs."""

import keyword
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np


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


def check_run_names(run_names: Sequence[str], count: int) -> None:
    """Refuses names that are not one for each run, or that a file would not keep."""
    for name in run_names:
        text = str(name).strip()
        if text != name or not text:
            raise ValueError(
                f"`run_names` has {name!r}; it needs text, without blanks at its ends, which files "
                f"do not keep. Write {text or 'a'!r}."
            )
    if len(set(run_names)) != len(run_names):
        raise ValueError(f"`run_names` repeats a name: {list(run_names)}. Make them distinct.")
    if len(run_names) != count:
        raise ValueError(
            f"`run_names` has {len(run_names)} names, but there are {count} runs: give one name each."
        )


def select_runs(runs: Any, run_names: Sequence[str]) -> list[int]:
    """Indices of the runs that `runs` (an index, a slice, a name, or a sequence of them) means."""
    count = len(run_names)
    if isinstance(runs, slice):
        chosen = list(range(count))[runs]
    elif np.ndim(runs) == 0:
        chosen = [_index(runs, run_names)]
    else:
        chosen = [_index(run, run_names) for run in list(runs)]
    if not chosen:
        raise ValueError(f"`runs` selects none of the {count} runs: select at least one.")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"`runs` gives a run twice: {chosen}. Give every run once.")
    return chosen


def held_out_runs(held_out: Any, run_names: Sequence[str]) -> list[int]:
    """Indices of the runs to hold out; a fraction means the last ones, and at least one."""
    count = len(run_names)
    if isinstance(held_out, float):
        if not 0 < held_out < 1:
            raise ValueError(
                f"`held_out` is {held_out}, but a fraction must lie between 0 and 1: pass, say, "
                "0.2, or the runs to hold out as a sequence of indices or names."
            )
        number = max(1, round(held_out * count))
        chosen = list(range(count - number, count))
    else:
        chosen = select_runs(held_out, run_names)
    if len(chosen) >= count:
        raise ValueError(
            f"`held_out` takes {len(chosen)} of {count} runs, which leaves none to train on: hold "
            "out fewer, or cut runs in two."
        )
    return chosen


def _index(run: Any, run_names: Sequence[str]) -> int:
    if isinstance(run, str):
        if run not in run_names:
            raise ValueError(f"there is no run named {run!r}: the runs are {list(run_names)}.")
        return list(run_names).index(run)
    if isinstance(run, bool) or not isinstance(run, (int, np.integer)):
        raise ValueError(f"a run is given as {run!r}: pass its index (an integer) or its name.")
    if not -len(run_names) <= run < len(run_names):
        raise ValueError(
            f"there is no run {run}: indices of {len(run_names)} runs go from 0 to "
            f"{len(run_names) - 1}."
        )
    return int(run) % len(run_names)
