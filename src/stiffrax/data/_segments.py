"""Runs in arrays, cut into segments and windows of them."""

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


@final
class Segments(NamedTuple):
    """All pairs of consecutive samples, one row a pair: from `y0` at `t0` to `y1` at `t1`.

    A row with `mask` False is no measurement: it repeats the first pair of its run, so that it
    costs a healthy step like any other, and must be given no weight in a loss.

    ```python
    >>> import numpy as np
    >>> import stiffrax as srx
    >>> data = srx.Trajectories.from_arrays(np.array([0.0, 0.5, 2.0]), np.ones((3, 1)))
    >>> data.segments().t1
    array([0.5, 2. ])

    ```
    """

    t0: Float[Array | np.ndarray, " segments"]
    t1: Float[Array | np.ndarray, " segments"]
    y0: Float[Array | np.ndarray, "segments n"]
    y1: Float[Array | np.ndarray, "segments n"]
    mask: Bool[Array | np.ndarray, " segments"]


def cut_segments(
    ts: Float[Array | np.ndarray, "runs times"],
    ys: Float[Array | np.ndarray, "runs times n"],
    mask: Bool[Array | np.ndarray, "runs times"],
) -> Segments:
    """Pairs of neighbors in arrays whose missing samples all lie at the ends of the runs."""
    real = mask[:, 1:]

    def pairs(values):
        # NumPy in, NumPy out: jnp would round times in double precision where JAX has single.
        xp = jnp if isinstance(values, jax.Array) else np
        keep = real.reshape(real.shape + (1,) * (values.ndim - 2))
        # The padded end of a run has t0 = t1: such a step of length zero would divide by zero.
        start = xp.where(keep, values[:, :-1], values[:, :1])
        end = xp.where(keep, values[:, 1:], values[:, 1:2])
        return start.reshape(-1, *values.shape[2:]), end.reshape(-1, *values.shape[2:])

    t0, t1 = pairs(ts)
    y0, y1 = pairs(ys)
    return Segments(t0=t0, t1=t1, y0=y0, y1=y1, mask=real.reshape(-1))


def cut_arrays(
    mask: Bool[Array | np.ndarray, "runs times"], length: int, *arrays: Any
) -> tuple[Any, tuple[Any, ...]]:
    """Windows of `length` segments of arrays `(runs, times, ...)`, and which of their samples are.

    Neighbors share a sample. A window that holds no segment repeats the first of its run.
    """
    runs, times = mask.shape
    count = -(-(times - 1) // length)
    index = np.arange(count)[:, None] * length + np.arange(length + 1)
    inside = index < times
    index = np.minimum(index, times - 1)
    present = mask[:, index] & inside[None]
    used = present[:, :, 1]

    def pick(values: Any) -> Any:
        # NumPy in, NumPy out: jnp would round times in double precision where JAX has single.
        xp = jnp if isinstance(values, jax.Array) else np
        cut = values[:, index]
        keep = used.reshape(used.shape + (1,) * (cut.ndim - 2))
        return xp.where(keep, cut, cut[:, :1]).reshape(runs * count, *cut.shape[2:])

    present = (present & used[..., None]).reshape(runs * count, length + 1)
    return present, tuple(pick(values) for values in arrays)
