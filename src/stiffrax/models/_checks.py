"""Checks of what a user hands to a model; each raises before anything is compiled."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Bool, Float

from .._arguments import real_array
from .._flat_state import inexact


def check_state(y: Any, num_states: int) -> Array:
    """`y` as an array of inexact numbers, if it is one state vector."""
    if jnp.shape(y) != (num_states,):
        raise ValueError(
            f"The model takes one state of shape ({num_states},), got shape {jnp.shape(y)}: map "
            "over batches with `jax.vmap(model, in_axes=(None, 0))`."
        )
    return inexact(y)


def check_output(name: str, value: Array, size: int) -> None:
    """Refuses what a part of a model returns if it is not one vector of so many numbers."""
    if value.shape != (size,):
        raise ValueError(f"`{name}` must return shape ({size},), got {value.shape}.")


def check_indices(name: str, indices: Sequence[int] | None, num_states: int) -> tuple[int, ...]:
    """`indices` as a tuple of different states, by default all of them."""
    if indices is None:
        return tuple(range(num_states))
    result = tuple(indices) if np.iterable(indices) else ()
    if not result or len(set(result)) != len(result) or not set(result) <= set(range(num_states)):
        raise ValueError(
            f"`{name}` must be different indices of states, counted from 0 to {num_states - 1}, "
            f"got {indices}: write for example `{name}=(0,)` for the first state."
        )
    return tuple(map(int, result))


def check_coefficients(
    coefficients: Any, active: Any, shape: tuple[int, ...]
) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
    """Coefficients, zero where not active, and mask; by default all zero and all true."""
    coefficients = (
        jnp.zeros(shape) if coefficients is None else _array("coefficients", coefficients)
    )
    active = jnp.ones(shape, bool) if active is None else _array("active", active)
    for name, value in (("coefficients", coefficients), ("active", active)):
        if value.shape != shape:
            raise ValueError(
                f"`{name}` must have shape {shape}, got {value.shape}: one number for each term. "
                "`feature_names()` or `reactions()` of the model lists them in their order."
            )
    if active.dtype != bool:
        raise ValueError(
            f"`active` must hold booleans, got {active.dtype}: write for example `active=c != 0`."
        )
    return jnp.where(active, real_array("coefficients", coefficients), 0), active


def is_wrapped(node: Any) -> bool:
    """Whether a node of a tree becomes another one by `paramax.unwrap`."""
    return isinstance(node, paramax.AbstractUnwrappable)


def holds_parameters(value: Any) -> bool:
    """Whether a value, or a part of it, is a parameter with a scale or bounds of its own."""
    return any(map(is_wrapped, jax.tree.leaves(value, is_leaf=is_wrapped)))


def _array(name: str, value: Any) -> Array:
    if holds_parameters(value):
        raise ValueError(
            f"`{name}` is a parameter with a scale or bounds of its own; it needs plain numbers, which "
            "are trained as they are. Give the array alone."
        )
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be an array of numbers with one row for each output: {error}"
        ) from None
