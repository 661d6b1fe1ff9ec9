"""Runs cut into windows, in blocks of equal size, and how much every sample counts."""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..data import Trajectories, cut_windows

# Segments of a block: many, for each block waits for its slowest step, but where these would be
# filled up by more than the part named, few.
_MANY, _FEW, _MOST_FILLING = 384, 128, 0.25


@final
class Windows(NamedTuple):
    """Blocks of windows of `m` segments, `m + 1` samples; neighbors of a run share a sample.

    `weight` multiplies a residual: the square root of the weight of the sample over the size of the
    state. `mask` is false where no sample is, which the end of a run and the last block have.
    """

    ts: Float[Array, "blocks windows times"]
    ys: Float[Array, "blocks windows times n"]
    weight: Float[Array, "blocks windows times n"]
    mask: Bool[Array, "blocks windows times"]


def padded_windows(
    data: Trajectories,
    scale: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, "runs times n"],
    length: int,
    share: bool,
) -> Windows:
    """Windows of `length` segments; with `share`, what two windows share counts half in each.

    Blocks are of one of two sizes, and the last is filled up: fits share programs.
    """
    weight = np.sqrt(weight) / scale
    if share:
        k = np.arange(data.ts.shape[1])
        last = np.sum(data.mask, axis=1)[:, None] - 1
        shared = (k % length == 0) & (k > 0) & (k < last)
        weight = np.where(shared[..., None], np.sqrt(0.5) * weight, weight)
    cut = cut_windows(data, length)
    weights = cut_windows(eqx.tree_at(lambda data: data.ys, data, weight), length)
    count = len(cut.ts)
    size = max(1, _segments_of_a_block(count * length) // length)
    extra = -count % size

    def block(x: Any) -> Array:
        x = np.asarray(x)
        x = np.concatenate([x, np.repeat(x[:1], extra, axis=0)])
        return jnp.asarray(x.reshape(-1, size, *x.shape[1:]))

    windows = Windows(*(block(x) for x in (cut.ts, cut.ys, weights.ys, cut.mask)))
    present = np.arange(count + extra).reshape(-1, size) < count
    return windows._replace(mask=windows.mask & jnp.asarray(present)[..., None])


def _segments_of_a_block(count: int) -> int:
    filled = _MANY * -(-count // _MANY)
    return _MANY if filled <= (1 + _MOST_FILLING) * count else _FEW


def checked_scale(scale: Any, weight: Any, data: Trajectories) -> Float[np.ndarray, " n"]:
    """The unit of each state's residual: the scale given; or one, where there are weights, which are
    in the units of the states; or the state's largest absolute value in the data."""
    if scale is None:
        scale = state_sizes(data) if weight is None else 1.0
    try:
        scale = np.asarray(scale, float)
    except (TypeError, ValueError):
        scale = np.full(1, np.nan)
    fits = scale.shape in ((), (data.num_states,))
    if not fits or not np.all((scale > 0) & np.isfinite(scale)):
        raise ValueError(
            f"`scale={scale}` was given; it needs one positive size for each of the "
            f"{data.num_states} states, or one for all. Leave it out to take it from the data."
        )
    return np.broadcast_to(scale, (data.num_states,))


def checked_weight(weight: Any, data: Trajectories) -> Float[np.ndarray, "runs times n"]:
    """The weight of each sample and state: as given, from a function, or one."""
    if weight is None:
        weight = 1.0
    elif callable(weight):
        weight = jax.vmap(jax.vmap(weight))(jnp.asarray(data.ts), jnp.asarray(data.ys))
    try:
        values = np.asarray(weight, float)
        values = np.broadcast_to(values, data.ys.shape)
    except (TypeError, ValueError):
        raise ValueError(_message(np.shape(weight), data)) from None
    present = values[np.asarray(data.mask)]
    if not np.all((present >= 0) & np.isfinite(present)) or not np.any(present > 0):
        raise ValueError(_message(np.shape(weight), data))
    return np.where(np.asarray(data.mask)[..., None], values, 0.0)


def state_sizes(data: Trajectories) -> Float[np.ndarray, " n"]:
    """The largest absolute value of each state, or one where it is always zero."""
    size = np.max(np.abs(np.where(data.mask[..., None], data.ys, 0)), axis=(0, 1))
    return np.where(size > 0, size, 1.0)


def residual_of_state_size(
    weight: Float[np.ndarray, "runs times n"], scale: Float[np.ndarray, " n"], data: Trajectories
) -> float:
    """The residual of predictions that are off by the sizes of the states, root mean square."""
    squares = weight * (state_sizes(data) / scale) ** 2
    return float(np.sqrt(np.mean(squares[weight > 0])))


def _message(shape: tuple[int, ...], data: Trajectories) -> str:
    return (
        f"`weight` of shape {shape} was given; it needs finite numbers that are not negative and "
        f"not all zero: one for each of the {data.num_states} states, one for each sample and "
        f"state, {data.ys.shape}, or a function `weight(t, y)`. For noise of standard deviation "
        "`s` write `weight=1 / s**2` and no `scale`."
    )
