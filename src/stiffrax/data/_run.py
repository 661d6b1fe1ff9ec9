"""One run of samples: its checks, and the padding of several runs to one array."""

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
