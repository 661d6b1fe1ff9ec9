"""Runs of any length: one array each, or all in one with padding."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .._arguments import real_numbers

_SHAPES = {
    1: "(times,) for all runs alike, (runs, times)",
    2: "(times, n) for one run, (runs, times, n), with n = 1 for a single column,",
}


def runs_of(
    name: str, values: Any, ndim: int, read: Callable[..., np.ndarray] = real_numbers
) -> tuple[list[np.ndarray], bool]:
    """`values` run by run, and whether it was a single run; `ndim` is that of one run."""
    if is_ragged(values):
        runs = [read(f"{name}[{i}]", x) for i, x in enumerate(values)]
        single, shape = False, [x.shape for x in runs]
    else:
        array = read(name, values)
        single, shape = array.ndim == ndim, array.shape
        runs = [array] if single else list(np.atleast_1d(array))
    same = len({x.shape[1:] for x in runs}) == 1 and {x.ndim for x in runs} == {ndim}
    if not same or any(0 in x.shape for x in runs):
        raise ValueError(
            f"`{name}` has shape {shape}; it needs {_SHAPES[ndim]} or a list of one array a run, none "
            "of them empty."
        )
    return runs, single


def along_runs(
    name: str,
    values: Any,
    of: str,
    runs: Sequence[np.ndarray],
    read: Callable[..., np.ndarray] = real_numbers,
) -> tuple[list[np.ndarray], bool]:
    """One entry for each row of each run, and whether one array was given for all of them."""
    parts, shared = runs_of(name, values, 1, read)
    parts = parts * len(runs) if shared else parts
    given, needed = list(map(len, parts)), list(map(len, runs))
    if given != needed:
        raise ValueError(
            f"`{name}` has {given} entries, run by run, and `{of}` {needed} rows: give each row one."
        )
    return parts, shared


def is_ragged(values: Any) -> bool:
    """Whether values are no array, but a list of them of different lengths."""
    try:
        np.asarray(values)
    except ValueError:
        return True
    return False


def stacked(runs: Iterable[Any], fill: float | bool | None = None) -> np.ndarray:
    """All in one array. Shorter ones end with a number, or with repeats of their last entry.

    NaN padding of samples was rejected: it would enter the vector field, and a NaN that is masked
    afterwards still makes the gradient NaN.
    """
    arrays = list(map(np.asarray, runs))
    longest = max(map(len, arrays))

    def whole(x: np.ndarray) -> np.ndarray:
        end = x[-1:] if fill is None else np.asarray(fill, x.dtype)
        return np.concatenate([x, np.broadcast_to(end, (longest - len(x), *x.shape[1:]))])

    return np.stack(list(map(whole, arrays)))
