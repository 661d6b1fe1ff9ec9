"""Runs in arrays, cut into windows of segments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from .._trees import along_rows


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
        return xp.where(along_rows(used, cut), cut, cut[:, :1]).reshape(
            runs * count, *cut.shape[2:]
        )

    present = (present & used[..., None]).reshape(runs * count, length + 1)
    return present, tuple(pick(values) for values in arrays)
