"""How much a model's Jacobians change other than linearly."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from jax import lax
from jaxtyping import Array, Float

from .._arguments import check_positive
from .._trees import euclidean_norm
from ..data import Trajectories, ranges_and_sizes
from ..solvers import predict_lanes
from ._loss import AbstractSummand
from ._model_and_data import check_data, check_model


@final
class RoughnessPenalty(AbstractSummand):
    r"""A penalty on Jacobians that change about the samples other than linearly.

    $$w \, \frac{\sum_k |\hat J(y_k + d_k) - 2 \hat J(y_k) + \hat J(y_k - d_k)|_F^2}
    {\mathrm{sg} \sum_k |\hat J(y_k)|_F^2}$$

    with $\hat J$ the model's Jacobian in standard deviations of the states, and random
    displacements `d_k`. The gradient takes the denominator (`sg`) as it is, or a model would gain by
    Jacobians that are large: optimizers that compare values, as `optax.lbfgs`, may see no gain. A
    sample at which one of the three is not finite is left out; the penalty is NaN if all are. Samples
    on an attractor leave open how differences across it decay; of the fields that fit them this
    prefers the smooth ones. It is zero for quadratic fields. Add it to a loss of the samples:
    `SegmentLoss(window=5) + RoughnessPenalty()`.

    **Arguments:**

    - `weight`: `w`. Too large a weight bends fields that are not quadratic: take the largest that
        raises the error of held-out samples by little.
    - `size`: of the displacements, in standard deviations of the samples that it is called with.
    - `seed`: of the displacements.

    **Raises:** `ValueError` for a weight or size that is not positive.

    Cost: 3 Jacobians of the model a sample, once without derivatives to see which are finite, and no
    solve.

    ??? cite "Reference"
        Green and Silverman, *Nonparametric regression and generalized linear models: a roughness
        penalty approach*, Chapman and Hall (1994), of such penalties on curves.

    ```python
    >>> import jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 11)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> penalty = srx.RoughnessPenalty(weight=1.0)
    >>> print(f"{penalty(lambda t, y, args: -y**2, data):.3f}")
    0.000
    >>> bool(penalty(lambda t, y, args: -jnp.sin(20 * y), data) > 1)
    True

    ```
    """

    weight: float
    size: float
    seed: int = eqx.field(static=True)

    def __init__(self, weight: float = 1e-2, *, size: float = 0.5, seed: int = 0):
        for name, value in (("weight", weight), ("size", size)):
            check_positive(name, value, write=f"{name}=0.1")
        self.weight, self.size, self.seed = weight, size, seed

    def __call__(self, model: Any, data: Trajectories) -> Float[Array, ""]:
        """The penalty on the model's Jacobians about the samples of the data."""
        check_model(model, check_data(data))
        ys, mask = jnp.asarray(data.ys), jnp.asarray(data.mask)[..., None]
        count = jnp.maximum(jnp.sum(mask), 1).astype(ys.dtype)
        mean = jnp.sum(jnp.where(mask, ys, 0), axis=(0, 1), keepdims=True) / count
        # Where there is no sample, the model sees a state that it knows.
        ys = jnp.where(mask, ys, mean)
        deviation = euclidean_norm(ys - mean, (0, 1)) / jnp.sqrt(count)
        deviation = jnp.where(ranges_and_sizes(ys, mask[..., 0])[0] > 0, deviation, 0)
        scale = jnp.where(deviation > 0, deviation, 1)
        displacements = jax.random.normal(jax.random.key(self.seed), ys.shape, ys.dtype)

        model = paramax.unwrap(model)

        def changes(t: Array, y: Array, d: Array) -> tuple[Array, Array]:
            def jacobian(y: Array) -> Array:
                return jax.jacfwd(lambda y: model(t, y, None))(y) * scale[None] / scale[:, None]

            here = jacobian(y)
            change = jacobian(y + d) - 2 * here + jacobian(y - d)
            return euclidean_norm(change), euclidean_norm(here)

        moved = self.size * deviation[None, None] * displacements
        samples = (x.reshape(-1, *x.shape[2:]) for x in (jnp.asarray(data.ts), ys, moved))
        rough, size = predict_lanes(changes, *samples)
        present = mask.reshape(-1)
        good = present & jnp.isfinite(rough) & jnp.isfinite(size)
        total = lax.stop_gradient(euclidean_norm(jnp.where(good, size, 0)))
        share = euclidean_norm(jnp.where(good, rough, 0)) / jnp.where(total > 0, total, 1)
        value = self.weight * share**2
        return jnp.where(jnp.any(good) | ~jnp.any(present), value, jnp.nan)
