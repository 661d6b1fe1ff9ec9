"""Weighted samples cut into windows, in blocks of equal size."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..data import cut_arrays
from ._weighted_samples import WeightedSamples

# Segments of a block: many, for each block waits for its slowest step, but where these would be
# filled up by more than the part named, few. Chosen, not measured.
_MANY, _FEW, _MOST_FILLING = 384, 128, 0.25


@final
class Windows(NamedTuple):
    """Blocks of windows of `m` segments, `m + 1` samples; neighbors of a run share a sample.

    `weight` multiplies a residual: the square root of the weight of the sample over the size of the
    state. `mask` is false where no sample is, which the end of a run and the last block have.
    `continues`: whether the window before ends with the first sample of this one.
    """

    ts: Float[Array, "blocks windows times"]
    ys: Float[Array, "blocks windows times n"]
    weight: Float[Array, "blocks windows times n"]
    mask: Bool[Array, "blocks windows times"]
    continues: Bool[Array, "blocks windows"]


def padded_windows(samples: WeightedSamples, length: int, share: bool) -> Windows:
    """Windows of `length` segments; with `share`, what two windows share counts half in each.

    Blocks are of one of two sizes, and the last is filled up: fits share programs.
    """
    if not share:
        samples.check_starts(length)
    data, weight = samples.data, np.sqrt(samples.weight) / samples.scale
    if share:
        k = np.arange(data.ts.shape[1])
        last = np.sum(data.mask, axis=1)[:, None] - 1
        shared = (k % length == 0) & (k > 0) & (k < last)
        weight = np.where(shared[..., None], np.sqrt(0.5) * weight, weight)
    mask, cut = cut_arrays(data.mask, length, data.ts, data.ys, weight)
    count = len(mask)
    continues = (np.arange(count) % (count // len(data.ts)) > 0) & mask[:, 1]
    size = max(1, _segments_of_a_block(count * length) // length)
    extra = -count % size

    def block(x: Any) -> Array:
        x = np.asarray(x)
        x = np.concatenate([x, np.repeat(x[:1], extra, axis=0)])
        return jnp.asarray(x.reshape(-1, size, *x.shape[1:]))

    windows = Windows(*(block(x) for x in (*cut, mask, continues)))
    present = np.arange(count + extra).reshape(-1, size) < count
    present = jnp.asarray(present)
    return windows._replace(
        mask=windows.mask & present[..., None], continues=windows.continues & present
    )


def _segments_of_a_block(count: int) -> int:
    filled = _MANY * -(-count // _MANY)
    return _MANY if filled <= (1 + _MOST_FILLING) * count else _FEW
