"""Samples, how much each of them counts in a least-squares fit, and windows of them."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import real_numbers, shapes_fit
from ..data import Trajectories, cut_arrays, default_scale
from ..losses import sample_weights

# Segments of a block: many, for each block waits for its slowest step, but where these would be
# filled up by more than the part named, few. Chosen, not measured.
_MANY, _FEW, _MOST_FILLING = 384, 128, 0.25


@final
class WeightedSamples(NamedTuple):
    """Samples with the unit of each state's residual, and the weight of its square.

    `weight` is zero where no sample is.
    """

    data: Trajectories
    scale: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, "runs times n"]

    @classmethod
    def of(cls, data: Trajectories, scale: Any = None, weight: Any = None) -> "WeightedSamples":
        """Those of data with scale and weight as the user gives them, without those of weight zero.

        A value of weight zero in one of several states, which may stand for none, gives way to what
        lies between those of its state in its run that count.
        """
        scale, weight = _checked_scale(scale, weight, data), _checked_weight(weight, data)
        data, weight = _that_count(data, weight)
        return cls(_interpolated(data, weight), scale, weight)

    def check_starts(self, window: int) -> None:
        """Refuses windows that would start at a state that does not count."""
        last = np.sum(self.data.mask, axis=1)[:, None] - 1
        k = np.arange(self.weight.shape[1])
        starts = (k % window == 0) & (k < last)
        somewhere = np.any(self.weight > 0, axis=(0, 1))
        for i, j, state in np.argwhere(starts[..., None] & (self.weight == 0) & somewhere):
            raise ValueError(
                f"The weight of {self.data.names[state]!r} at time {self.data.ts[i, j]:g} of run "
                f"{self.data.run_names[i]!r} is zero, and a prediction would start there. Give the "
                "sample the weight zero in all states, which leaves it out, or write "
                "`initial_states='free', window=8`."
            )

    def split(self, held_out: Any) -> tuple["WeightedSamples", "WeightedSamples"]:
        """The runs to fit and the runs held out, as [`stiffrax.Trajectories.split`][] has them."""
        train, test = self.data.split(held_out)
        return self._select(train), self._select(test)

    def _select(self, part: Trajectories) -> "WeightedSamples":
        runs = [self.data.run_names.index(name) for name in part.run_names]
        return self._replace(data=part, weight=self.weight[runs, : part.ts.shape[1]])

    def count(self, free_starts: bool) -> int:
        """How many numbers are fitted: all samples but the first of a run, or all of them."""
        count = int(np.sum((self.weight if free_starts else self.weight[:, 1:]) > 0))
        if count == 0:
            raise ValueError(
                f"All samples of the runs {list(self.data.run_names)} that are predicted have the "
                "weight zero, so that there is nothing to fit or to judge by. Give some of them a "
                "weight above zero, or hold other runs out."
            )
        return count

    @property
    def size_of_states(self) -> float:
        """The residual of predictions that are off by the sizes of the states, root mean square."""
        size = default_scale(np.asarray(self.data.ys), np.asarray(self.data.mask))
        squares = self.weight * (size / self.scale) ** 2
        return float(np.sqrt(np.mean(squares[self.weight > 0])))


def _checked_scale(scale: Any, weight: Any, data: Trajectories) -> Float[np.ndarray, " n"]:
    """The scale given; or one, where there are weights, which are in the units of the states; or
    that of the data."""
    if scale is None:
        ys, mask = np.asarray(data.ys), np.asarray(data.mask)
        scale = default_scale(ys, mask) if weight is None else 1.0
    scale = real_numbers("scale", scale)
    fits = scale.shape in ((), (data.num_states,))
    if not fits or not np.all((scale > 0) & np.isfinite(scale)):
        raise ValueError(
            f"`scale={scale}` was given; it needs one positive size for each of the "
            f"{data.num_states} states, or one for all. Leave it out to take it from the data."
        )
    return np.broadcast_to(scale, (data.num_states,))


def _checked_weight(weight: Any, data: Trajectories) -> Float[np.ndarray, "runs times n"]:
    if weight is None:
        weight = 1.0
    elif callable(weight):
        weight = sample_weights(weight, jnp.asarray(data.ts), jnp.asarray(data.ys))
    given, shape = real_numbers("weight", weight), data.ys.shape
    # Of (runs, times) the times would be taken for states, where there are as many.
    fits = given.ndim != 2 and shapes_fit(given.shape, shape)
    present = np.asarray(data.mask)[..., None]
    values = np.where(present, np.broadcast_to(given, shape), 0.0) if fits else given
    if not fits or not np.all((values >= 0) & np.isfinite(values)) or not np.any(values > 0):
        raise ValueError(
            f"`weight` of shape {given.shape} was given; it needs finite numbers that are not "
            f"negative and not all zero: one for each of the {data.num_states} states, one for each "
            f"sample and state, {shape}, or a function `weight(t, y)`. For noise of standard "
            "deviation `s` write `weight=1 / s**2` and no `scale`."
        )
    return values


def _that_count(
    data: Trajectories, weight: Float[np.ndarray, "runs times n"]
) -> tuple[Trajectories, Float[np.ndarray, "runs times n"]]:
    """Without samples of weight zero: predictions would start there as at any other."""
    kept = np.any(weight > 0, axis=2)
    kept[:, 0] |= ~np.any(kept, axis=1)  # a run of one sample, which predicts nothing
    if np.array_equal(kept, data.mask):
        return data, weight
    k, count = np.arange(kept.shape[1]), np.sum(kept, axis=1, keepdims=True)
    order = np.argsort(~kept, axis=1, kind="stable")
    order = np.take_along_axis(order, np.minimum(k, count - 1), axis=1)
    ts = np.take_along_axis(np.asarray(data.ts), order, axis=1)
    ys, weight = (
        np.take_along_axis(np.asarray(x), order[..., None], axis=1) for x in (data.ys, weight)
    )
    data = Trajectories(ts, ys, k < count, data.names, data.run_names, data.numbers)
    return data, np.where(data.mask[..., None], weight, 0.0)


def _interpolated(data: Trajectories, weight: Float[np.ndarray, "runs times n"]) -> Trajectories:
    counts = weight > 0
    if np.array_equal(counts, np.broadcast_to(np.asarray(data.mask)[..., None], counts.shape)):
        return data
    ts, ys = np.asarray(data.ts), np.array(data.ys)
    for run, state in np.argwhere(np.any(counts, axis=1)):
        known = counts[run, :, state]
        between = np.interp(ts[run], ts[run, known], ys[run, known, state])
        ys[run, :, state] = np.where(known, ys[run, :, state], between)
    return Trajectories(ts, ys, data.mask, data.names, data.run_names, data.numbers)


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
    count, length = len(mask), mask.shape[1] - 1
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
