"""Names of runs, and runs by name, index, slice or fraction."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def check_run_names(run_names: Sequence[str], count: int) -> None:
    """Refuses names that are not one for each run."""
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
