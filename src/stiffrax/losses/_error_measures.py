"""Residuals between predictions and samples, each state in units of its scale."""

import abc
from collections.abc import Callable
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import real_numbers
from .._trees import is_none, is_traced
from ..data import Trajectories, check_sizes, default_scale
from ._model_and_data import check_data

Measure = TypeVar("Measure", bound="AbstractErrorMeasure")


class AbstractErrorMeasure(eqx.Module):
    r"""The mean size of errors, each state in units of its scale.

    $$\frac{1}{N} \sum_{k, i} w_{ki} \, \rho\left(\frac{\hat y_{ki} - y_{ki}}{scale_i}\right)$$

    over all present samples `k` and states `i`. A subclass says what $\rho$ is. A sample that could
    not be predicted, in any of its states, has no error and takes part in no sum.

    Fields: `scale` and `weight`, as [`stiffrax.ScaledMAE`][] takes them. Weights are those of what is
    predicted: losses that start at samples start at one of weight zero too, so leave out a sample
    that is wrong.

    ```python
    >>> import equinox as eqx, jax.numpy as jnp, stiffrax as srx
    >>> class LogCosh(srx.AbstractErrorMeasure):
    ...     scale: jnp.ndarray | None = None
    ...     weight: jnp.ndarray | None = None
    ...     def size(self, x):
    ...         return jnp.log(jnp.cosh(x))
    >>> loss = srx.TrajectoryLoss(measure=LogCosh())

    ```
    """

    scale: eqx.AbstractVar[Any]
    weight: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def size(self, x: Array) -> Array:
        r"""$\rho$, elementwise."""

    def for_data(self: Measure, data: Trajectories) -> Measure:
        """This measure with a scale: its own, or the one measured on the data, or one with weights.

        **Raises:** `ValueError` if its own scale or weight has not one number for each state of the
        data, or a weight is negative or not finite.
        """
        check_data(data)
        numbers: dict[str, Any] = {"scale": self.scale, "weight": self.weight}
        for name, given in numbers.items():
            if given is None or callable(given):
                continue
            if np.shape(given) not in ((), (1,), (data.num_states,)):
                raise ValueError(
                    f"`{name}` has {np.size(given)} numbers, but the data have "
                    f"{data.num_states} states: give one number for each of them."
                )
        if callable(self.weight):
            found = sample_weights(self.weight, jnp.asarray(data.ts), jnp.asarray(data.ys))
            if not is_traced((data, found)):
                seen = np.asarray(found)[np.asarray(data.mask)]
                for bad in seen[~((seen >= 0) & np.isfinite(seen))]:
                    raise ValueError(
                        f"`weight(t, y)` returns {bad:g} for a sample; it needs finite numbers that "
                        "are not negative, of a sample that is zero too."
                    )
        if self.scale is not None:
            return self
        scale = default_scale(jnp.asarray(data.ys), jnp.asarray(data.mask))
        if self.weight is not None:
            scale = jnp.ones_like(scale)
        return eqx.tree_at(lambda m: m.scale, self, scale, is_leaf=is_none)

    def __call__(
        self,
        predicted: Float[Array, "runs times n"],
        ts: Float[Array, "runs times"],
        ys: Float[Array, "runs times n"],
        mask: Bool[Array, "runs times"],
    ) -> Float[Array, ""]:
        """The mean over the samples where `mask` is true and the prediction is finite.

        **Raises:** `ValueError` where `size` or a function `weight(t, y)` returns another shape.
        """
        mask = mask & finite_samples(predicted)
        usable = mask[..., None]
        scale = jnp.broadcast_to(jnp.asarray(self.scale, ys.dtype), ys.shape)
        error = (jnp.where(usable, predicted, ys) - ys) / scale
        sizes = self.size(error)
        if jnp.shape(sizes) != error.shape:
            raise ValueError(
                f"`size` of {type(self).__name__} returns shape {jnp.shape(sizes)} for errors of shape "
                f"{error.shape}; it needs one number for each error."
            )
        if callable(self.weight):
            sizes = sizes * sample_weights(self.weight, ts, ys)
        elif self.weight is not None:
            sizes = sizes * jnp.broadcast_to(jnp.asarray(self.weight, ys.dtype), ys.shape)
        count = jnp.sum(mask) * ys.shape[-1]
        total = jnp.sum(jnp.where(usable, sizes, 0))
        return total / jnp.maximum(count, 1).astype(total.dtype)


def sample_weights(
    weight: Callable[..., Any], ts: Float[Array, "runs times"], ys: Float[Array, "runs times n"]
) -> Float[Array, "runs times n"]:
    """`weight(t, y)` of every sample: one number for each state, or one for all."""
    found = jax.vmap(jax.vmap(lambda t, y: jnp.asarray(weight(t, y))))(ts, ys)
    shape, n = found.shape[2:], ys.shape[-1]
    if shape not in ((), (1,), (n,)):
        raise ValueError(
            f"`weight(t, y)` returns shape {shape} for a sample of {n} states; it needs one number for "
            "each of them, or one for all."
        )
    return jnp.broadcast_to(found.reshape(*ys.shape[:2], *(shape or (1,))), ys.shape)


def finite_samples(predicted: Float[Array, "*samples n"]) -> Bool[Array, "*samples"]:
    """Which samples were predicted, in all their states."""
    return jnp.all(jnp.isfinite(predicted), axis=-1)


def _checked_scale(scale: Any) -> Any:
    return None if scale is None else check_sizes("scale", scale)


def _checked_weight(weight: Any) -> Any:
    if weight is None or callable(weight):
        return weight
    values = real_numbers("weight", weight)
    if values.ndim > 1 or not np.all((values >= 0) & np.isfinite(values)):
        raise ValueError(
            f"`weight={weight}` was given; it needs one number that is not negative for each "
            "state, or a function `weight(t, y)` that returns them."
        )
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    with np.errstate(over="ignore"):
        kept = values.astype(dtype)
    # Below the least normal number compiled programs have zero.
    lost = (values > 0) & (kept < np.finfo(dtype).tiny)
    if np.any(lost | ~np.isfinite(kept)):
        raise ValueError(
            f"`weight={weight}` was given, which is zero or infinite in {np.dtype(dtype).name}. "
            "Write what measures the states as `scale=`, which is not squared."
        )
    return values


@final
class ScaledMAE(AbstractErrorMeasure):
    r"""The mean absolute error, each state in units of its own size.

    $$\frac{1}{N} \sum_{k, i} w_{ki} \left| \frac{\hat y_{ki} - y_{ki}}{scale_i} \right|$$

    **Arguments:**

    - `scale`: the size of each state, in its unit. By default the range in the data, and one where
        weights are given: these are then in the units of the states. See [`stiffrax.Scaling`][].
    - `weight`: `w`, one number a state, or a function `weight(t, y)` of one sample that returns
        them, or one number for all states. For noise of standard deviation `s` write
        `weight=1 / s` and no `scale`.

    **Raises:** `ValueError` for sizes that are not positive and weights that are negative.

    ??? cite "Reference"
        Kim and others, *Stiff neural ordinary differential equations* (2021).

    ```python
    >>> import stiffrax as srx
    >>> measure = srx.ScaledMAE(scale=[1.0, 3.6e-5, 1.0])
    >>> loss = srx.TrajectoryLoss(srx.RadauIIA5(), measure)

    ```
    """

    scale: Any = eqx.field(converter=_checked_scale, default=None)
    weight: Float[np.ndarray, "*n"] | Callable[..., Any] | None = eqx.field(
        converter=_checked_weight, default=None
    )

    def size(self, x: Array) -> Array:
        """`|x|`."""
        return jnp.abs(x)


@final
class ScaledMSE(AbstractErrorMeasure):
    r"""The mean square error, each state in units of its own size.

    $$\frac{1}{N} \sum_{k, i} w_{ki} \left( \frac{\hat y_{ki} - y_{ki}}{scale_i} \right)^2$$

    **Arguments:** those of [`stiffrax.ScaledMAE`][]; for noise of standard deviation `s` write
    `weight=1 / s**2` and no `scale`.

    ```python
    >>> import stiffrax as srx
    >>> weight = lambda t, y: 1 / (0.01 * y + 1e-3) ** 2
    >>> loss = srx.SegmentLoss(srx.RadauIIA5(), srx.ScaledMSE(weight=weight))

    ```
    """

    scale: Any = eqx.field(converter=_checked_scale, default=None)
    weight: Float[np.ndarray, "*n"] | Callable[..., Any] | None = eqx.field(
        converter=_checked_weight, default=None
    )

    def size(self, x: Array) -> Array:
        """`x^2`."""
        return x**2
