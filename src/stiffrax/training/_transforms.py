"""What training sees of the data in each step."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._arguments import check_instance, check_positive
from ..data import Trajectories


@final
class GrowingHorizon(eqx.Module):
    r"""Trains on the early samples of each run first, as a transform of [`stiffrax.fit`][].

    Step `k` sees samples up to the time `h_k` after the start of their run,

    $$h_k = \mathrm{first} \left(\frac{T}{\mathrm{first}}\right)^{\min(k / \mathrm{steps}, 1)}$$

    with `T` the length of the longest run, with `batch_size` and losses of whole runs that of those
    drawn for the step: as many steps for each decade of time. Two samples are always seen.

    **Arguments:**

    - `first`: the first horizon, in the unit of time.
    - `steps`: the step from which on everything is seen.

    **Raises:** `ValueError` unless both are positive.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss, model = srx.TrajectoryLoss(), srx.Polynomial(1, degree=1)
    >>> grow = srx.GrowingHorizon(first=0.2, steps=2)
    >>> fit = srx.fit(model, data, loss, steps=3, transforms=[grow])

    ```
    """

    first: float
    steps: int

    def __check_init__(self):
        for name, value in (("first", self.first), ("steps", self.steps)):
            check_positive(name, value, write="GrowingHorizon(first=1e-2, steps=1000)")

    def __call__(self, data: Trajectories, step: Any, key: Array) -> Trajectories:
        """The same samples, late ones missing."""
        del key
        _check_samples(self, data)
        elapsed = data.ts - data.ts[:, :1]
        ratio = jnp.maximum(jnp.max(elapsed) / self.first, 1)
        fraction = jnp.minimum(step / self.steps, 1).astype(ratio.dtype)
        horizon = jnp.where(fraction < 1, self.first * ratio**fraction, jnp.inf)
        seen = (elapsed <= horizon) | (jnp.arange(elapsed.shape[1]) < 2)[None]
        return eqx.tree_at(lambda d: d.mask, data, data.mask & seen)


@final
class Steer(eqx.Module):
    r"""Moves the times of samples at random, anew in each step, as a transform of [`stiffrax.fit`][].

    $$t_k \leftarrow t_k + \mathrm{width} \, u_k \min(t_k - t_{k-1}, t_{k+1} - t_k),
    \qquad u_k \sim U(-1, 1)$$

    for all samples but the first of each run. The model sees every sample a little early or late,
    which keeps it from becoming stiffer between samples than the data ask for.

    **Arguments:**

    - `width`: below one half, so that times stay in order.

    **Raises:** `ValueError` for another width.

    ??? cite "Reference"
        Ghosh, Behl, Dupont, Torr and Namboodiri, *STEER: simple temporal regularization for neural
        ODEs* (2020), with one random end time a run.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss, model = srx.SegmentLoss(), srx.Polynomial(1, degree=1)
    >>> fit = srx.fit(model, data, loss, steps=3, transforms=[srx.Steer(0.1)])

    ```
    """

    width: float

    def __check_init__(self):
        # So that times stay in order.
        check_positive("width", self.width, below=0.5, write="Steer(0.1)")

    def __call__(self, data: Trajectories, step: Any, key: Array) -> Trajectories:
        """The same samples at other times."""
        del step
        _check_samples(self, data)
        gaps = jnp.diff(data.ts, axis=1)
        # Missing samples repeat the last time: no gap, which is none to the sample before.
        after = jnp.append(gaps[:, 1:], jnp.zeros_like(gaps[:, :1]), axis=1)
        room = jnp.where(after > 0, jnp.minimum(gaps, after), gaps)
        shifts = self.width * room * jax.random.uniform(key, gaps.shape, gaps.dtype, -1, 1)
        moved = jnp.asarray(data.ts).at[:, 1:].add(shifts)
        last = jnp.max(jnp.where(data.mask, moved, -jnp.inf), axis=1, keepdims=True)
        # A run that is missing altogether keeps its times: they are only there to be solved for.
        ts = jnp.where(data.mask | ~data.mask[:, :1], moved, last)
        return eqx.tree_at(lambda d: d.ts, data, ts)


def _check_samples(transform: Any, data: Any) -> None:
    write = f"fit(model, data.to_trajectories(), loss, transforms=[{transform}])"
    needed = f"`stiffrax.Trajectories` for {type(transform).__name__}"
    check_instance("data", data, Trajectories, needed, write)
