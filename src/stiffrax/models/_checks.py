"""Checks of what a user hands to a model; each raises before anything is compiled."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Bool, Float

from .._arguments import real_array
from .._flat_state import inexact
from ..data._names import state_names


@functools.singledispatch
def named_parts(model: Any) -> list[tuple[tuple[int, ...] | None, tuple[str, ...]]]:
    """The parts of a model that name states: the places of these, `None` for all, and the names.

    Models that name states, or contain such models, register what they have.
    """
    del model
    return []


@named_parts.register(paramax.AbstractUnwrappable)
def _(model: Any) -> Any:
    return named_parts(model.unwrap())


def own_names(model: Any) -> tuple[str, ...] | None:
    """The names that a model gives its states itself; `None` if it does not name all."""
    return next((names for places, names in named_parts(model) if places is None), None)


def names_for(model: Any, names: Sequence[str] | None) -> Sequence[str] | None:
    """The names given for the states of a model, by default its own.

    **Raises:** `ValueError` for its own ones in another order, which would exchange states.
    """
    if names is None:
        return own_names(model)
    for places, own in named_parts(model):
        given = [tuple(names)[i] for i in places or range(len(own)) if i < len(names)]
        exchanged = any(a != b and b in names for a, b in zip(given, own, strict=False))
        if _are_chosen(own) and exchanged:
            order = own if places is None else f"{own}, as those of number {places}"
            raise ValueError(
                f"`names` are {tuple(names)}, and the model has its states in the order {order}: "
                "leave `names` out, or make the model in that order, as in `srx.ReactionNetwork("
                "reactions, names)`."
            )
    return names


def chosen_names(model: Any) -> tuple[str, ...]:
    """The names that a model gives all its states itself, none where nobody chose them."""
    names = own_names(model) or ()
    return names if _are_chosen(names) else ()


def check_own_names(model: Any, names: Sequence[str | None], whose: str) -> None:
    """Refuses a model that takes one state for another: states go by their place.

    Names that nobody chose, `y1 ... yn`, may stand for any others, and within a part for what it sees;
    no name for none.
    """
    for seen, own in named_parts(model):
        places = range(len(names)) if seen is None else seen
        if len(places) != len(own) or max(places) >= len(names):
            continue  # another number of states is said where the model is called
        given = tuple(names[i] or name for i, name in zip(places, own, strict=True))
        chosen = _are_chosen(own) and _are_chosen(tuple(names))
        same = seen is None and sorted(given) == sorted(own)
        if given != own and (chosen or same):
            raise ValueError(
                f"The model names its states {own}, and {whose} {given}; they are taken by their "
                "place. Give both the same names in the same order: write "
                f"`srx.ReactionNetwork(reactions, {given})` or `srx.from_sympy(equations, {given})`."
            )


def are_in_order(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether states of these names may be the same, by their place."""
    chosen = _are_chosen(names) and _are_chosen(others)
    may_differ = len(names) == len(others) and not chosen and sorted(names) != sorted(others)
    return names == others or may_differ


def _are_chosen(names: tuple[str | None, ...]) -> bool:
    return names != state_names(None, len(names))


def check_state(y: Any, num_states: int) -> Array:
    """`y` as an array of inexact numbers, if it is one state vector."""
    if jnp.shape(y) != (num_states,):
        raise ValueError(
            f"The model takes one state of shape ({num_states},), got shape {jnp.shape(y)}: map "
            "over batches with `jax.vmap(model, in_axes=(None, 0))`."
        )
    return inexact(y)


def check_single(array: Array, ndim: int) -> Array:
    """The array, if it is that of one model and not of an ensemble under `filter_vmap`."""
    if array.ndim != ndim:
        raise ValueError(
            f"The model is a stack of {array.shape[0]}. Take one, "
            "`jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, model)`, or map over all with "
            "`eqx.filter_vmap`."
        )
    return array


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
