"""How much the residual of every sample and state counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..data import Trajectories


def checked_scale(scale: Any, data: Trajectories) -> Float[np.ndarray, " n"]:
    """The size of each state: the one given, or its largest absolute value in the data."""
    if scale is None:
        scale = np.max(np.abs(np.where(data.mask[..., None], data.ys, 0)), axis=(0, 1))
        scale = np.where(scale > 0, scale, 1.0)
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


def _message(shape: tuple[int, ...], data: Trajectories) -> str:
    return (
        f"`weight` of shape {shape} was given; it needs finite numbers that are not negative and "
        f"not all zero: one for each of the {data.num_states} states, one for each sample and "
        f"state, {data.ys.shape}, or a function `weight(t, y)`. For noise of standard deviation "
        "`s` write `weight=1 / s**2`."
    )
