"""Short runs cut out of long ones, and runs picked into a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._trajectories import Trajectories


def cut_windows(data: Trajectories, length: int) -> Trajectories:
    """Runs of `length` segments, one after the other; neighbors share a sample.

    The last window of a run may be shorter; it is padded as runs are. One that holds no segment at
    all repeats the first of its run with `mask` False throughout, so that it costs a healthy solve
    like any other. Traceable: shapes depend on those of the data alone.
    """
    runs, times = data.ts.shape
    count = -(-(times - 1) // length)
    index = np.arange(count)[:, None] * length + np.arange(length + 1)
    inside = index < times
    index = np.minimum(index, times - 1)
    # NumPy in, NumPy out: jnp would round times in double precision where JAX has single.
    xp = jnp if isinstance(data.ts, jax.Array) else np
    mask = data.mask[:, index] & inside
    used = mask[:, :, 1]

    def pick(values: Any) -> Any:
        cut = values[:, index]
        keep = used.reshape(used.shape + (1,) * (cut.ndim - 2))
        return xp.where(keep, cut, cut[:, :1]).reshape(runs * count, *cut.shape[2:])

    mask = (mask & used[..., None]).reshape(runs * count, length + 1)
    return rename(data, pick(data.ts), pick(data.ys), mask)


def pick_runs(data: Trajectories, index: Any) -> Trajectories:
    """The runs at `index`, which may be traced and may repeat runs."""
    return rename(data, *(x[index] for x in (data.ts, data.ys, data.mask)))


def rename(data: Trajectories, ts: Any, ys: Any, mask: Any) -> Trajectories:
    """Other runs of the same states, numbered."""
    return Trajectories(ts, ys, mask, data.names, tuple(map(str, range(len(ts)))))
