"""Runs of samples: out of arrays, checked, padded to one array."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np


@final
class Run(NamedTuple):
    """The present samples of one run.

    `locate(sample, state)` says in the words of the input where a value came from (`ys[2][5, 3]`,
    or a row and column of a file); `state` is `None` for the time.
    """

    title: str
    ts: np.ndarray
    ys: np.ndarray
    locate: Callable[[int, int | None], str]


def as_float64(name: str, values: Any, *, integers: bool = False) -> np.ndarray:
    """`values` as a NumPy float64 array, refusing what would change meaning on the way."""
    array = np.asarray(values)
    # jnp.issubdtype, for it also knows bfloat16.
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(
            f"`{name}` has dtype {array.dtype}, but complex numbers are not supported: pass real "
            "and imaginary part as separate states."
        )
    if jnp.issubdtype(array.dtype, jnp.integer) and not integers:
        raise ValueError(
            f"`{name}` has dtype {array.dtype}, but states must be floating point numbers: write "
            f"`np.asarray({name}, dtype=float)`."
        )
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(
            f"`{name}` has dtype {array.dtype}, but numbers are needed: write "
            f"`np.asarray({name}, dtype=float)` if its entries are numbers."
        )
    return array.astype(np.float64)


def check_run(run: Run) -> None:
    """Raises `ValueError` unless the run has two or more finite samples at increasing times."""
    if len(run.ts) == 0:
        raise ValueError(f"{run.title} is empty: leave it out, or give it two samples or more.")
    if len(run.ts) == 1:
        raise ValueError(
            f"{run.title} has one sample, but a run needs two or more (a segment joins two "
            "samples): leave it out."
        )
    bad_time = np.flatnonzero(~np.isfinite(run.ts))
    if len(bad_time):
        k = int(bad_time[0])
        raise ValueError(f"{run.locate(k, None)} is {run.ts[k]}, but times must be finite.")
    bad_state = np.argwhere(~np.isfinite(run.ys))
    if len(bad_state):
        k, j = (int(i) for i in bad_state[0])
        raise ValueError(
            f"{run.locate(k, j)} is {run.ys[k, j]}, but samples must be finite: delete the sample "
            "(in a file, the row), or declare it missing with `mask=`."
        )
    late = np.flatnonzero(np.diff(run.ts) <= 0)
    if len(late):
        k = int(late[0]) + 1
        fault = "repeats" if run.ts[k] == run.ts[k - 1] else "comes after"
        remedy = "keep one of the two" if fault == "repeats" else "sort the samples by time"
        raise ValueError(
            f"{run.locate(k, None)} is {run.ts[k]} and {fault} {run.ts[k - 1]}, but the times "
            f"of a run must increase strictly: {remedy}."
        )


def pad_runs(
    ts: Sequence[np.ndarray], ys: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stacks runs of any length; each is padded by repeats of its last sample.

    NaN padding was rejected: it would enter the vector field, and a NaN that is masked afterwards
    still makes the gradient NaN.
    """
    times = max(len(t) for t in ts)
    last = [np.minimum(np.arange(times), len(t) - 1) for t in ts]
    mask = np.stack([np.arange(times) < len(t) for t in ts])
    return (
        np.stack([t[i] for t, i in zip(ts, last, strict=True)]),
        np.stack([y[i] for y, i in zip(ys, last, strict=True)]),
        mask,
    )


def runs_from_arrays(ts: Any, ys: Any, mask: Any) -> list[Run]:
    """The runs in `ts`, `ys`, `mask`, without the samples that `mask` declares missing."""
    states, single = _split("ys", ys, 2, "(times, n), (runs, times, n)")
    if not states:
        raise ValueError("`ys` holds no run: give at least one.")
    states = [as_float64("ys", y) for y in states]
    _check_widths(states)
    times, shared = _per_run("ts", ts, states, single)
    times = [as_float64("ts", t, integers=True) for t in times]
    if mask is None:
        present = [np.ones(len(y), dtype=bool) for y in states]
    else:
        present, _ = _per_run("mask", mask, states, single)
        for run in present:
            if run.dtype != bool:
                raise ValueError(
                    f"`mask` has dtype {run.dtype}, but booleans are needed (True: present): "
                    "write `np.asarray(mask, dtype=bool)`."
                )
    return [
        _run_of_arrays(i, times[i], states[i], present[i], single=single, shared=shared)
        for i in range(len(states))
    ]


def _run_of_arrays(
    index: int, ts: np.ndarray, ys: np.ndarray, mask: np.ndarray, *, single: bool, shared: bool
) -> Run:
    kept = np.flatnonzero(mask)

    def locate(sample: int, state: int | None) -> str:
        if state is None:
            return f"`ts{'' if shared else f'[{index}]'}[{kept[sample]}]`"
        return f"`ys{'' if single else f'[{index}]'}[{kept[sample]}, {state}]`"

    title = "the run in `ys`" if single else f"run {index} of `ys`"
    if mask.size and not mask.any():
        title += " (its `mask` is False throughout)"
    return Run(title, ts[kept], ys[kept], locate)


def _split(name: str, values: Any, ndim: int, shapes: str) -> tuple[list[np.ndarray], bool]:
    """`values` run by run, and whether it was a single run; `ndim` is that of one run."""
    try:
        dense = np.asarray(values)
    except ValueError:  # runs of different lengths
        runs = [np.asarray(run) for run in values]
        for i, run in enumerate(runs):
            if run.ndim != ndim:
                raise ValueError(
                    f"`{name}[{i}]` has shape {run.shape}, but `{name}` needs the shape {shapes}, "
                    "or a list with one array a run."
                ) from None
        return runs, False
    if dense.ndim == ndim:
        return [dense], True
    if dense.ndim == ndim + 1:
        return list(dense), False
    hint = f": for one state write `{name}[..., None]`" if 0 < dense.ndim < ndim else ""
    raise ValueError(
        f"`{name}` has shape {dense.shape}, but the shape {shapes}, or a list with one array a "
        f"run, is needed{hint}."
    )


def _per_run(
    name: str, values: Any, states: list[np.ndarray], single: bool
) -> tuple[list[np.ndarray], bool]:
    """`values` (`ts` or `mask`) as one array a run; and whether all runs share one."""
    runs, shared = _split(name, values, 1, "(times,), (runs, times)")
    if shared:
        runs = runs * len(states)
    elif single:
        raise ValueError(
            f"`{name}` has shape ({len(runs)}, {len(runs[0]) if runs else 0}), but `ys` is one run "
            f"of {len(states[0])} samples: pass `{name}` with shape ({len(states[0])},)."
        )
    if len(runs) != len(states):
        raise ValueError(
            f"`{name}` holds {len(runs)} runs, but `ys` holds {len(states)}: give each run its own "
            f"`{name}`, or one of shape (times,) for all."
        )
    for i, (run, ys) in enumerate(zip(runs, states, strict=True)):
        if len(run) != len(ys):
            raise ValueError(
                f"`{name}` has {len(run)} entries for run {i}, but `ys` has {len(ys)} samples: "
                "the two must be equal."
            )
    return runs, shared


def _check_widths(states: list[np.ndarray]) -> None:
    widths = [ys.shape[1] for ys in states]
    if min(widths) == 0:
        raise ValueError("`ys` has no states (its last axis is empty): give at least one.")
    for i, width in enumerate(widths):
        if width != widths[0]:
            raise ValueError(
                f"`ys[{i}]` has {width} states, but `ys[0]` has {widths[0]}: all runs must have "
                "the same states."
            )
