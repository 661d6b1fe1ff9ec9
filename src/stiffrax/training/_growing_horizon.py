"""Short times first."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..data import Trajectories


@final
class GrowingHorizon(eqx.Module):
    r"""Shows the first samples of each run first, as a transform of [`stiffrax.fit`][].

    Step `k` sees samples up to the time `h_k` after the start of their run,

    $$h_k = \mathrm{first} \left(\frac{T}{\mathrm{first}}\right)^{\min(k / \mathrm{steps}, 1)}$$

    with `T` the length of the longest run: as many steps for each decade of time. Two samples are
    always seen.

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
    >>> fit = srx.fit(model, loss, data, steps=3, transforms=[grow])

    ```
    """

    first: float
    steps: int

    def __check_init__(self):
        if not self.first > 0 or not self.steps > 0:
            raise ValueError(
                f"`GrowingHorizon(first={self.first}, steps={self.steps})` was given; both must be "
                "positive. Write for example `GrowingHorizon(first=1e-2, steps=1000)`."
            )

    def __call__(self, data: Trajectories, step: Any, key: Array) -> Trajectories:
        """The same samples, late ones missing."""
        del key
        elapsed = data.ts - data.ts[:, :1]
        ratio = jnp.maximum(jnp.max(elapsed) / self.first, 1)
        fraction = jnp.minimum(step / self.steps, 1)
        horizon = jnp.where(fraction < 1, self.first * ratio**fraction, jnp.inf)
        seen = (elapsed <= horizon) | (jnp.arange(elapsed.shape[1]) < 2)
        return eqx.tree_at(lambda d: d.mask, data, data.mask & seen)
