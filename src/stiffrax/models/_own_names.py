"""The names that a vector field itself gives its states."""

import functools
from collections.abc import Sequence
from typing import Any

import paramax

from ..data._state_names import state_names


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


def chosen_names(model: Any) -> tuple[str, ...]:
    """The names that a model gives all its states itself, none where nobody chose them."""
    names = own_names(model) or ()
    return names if _are_chosen(names) else ()


def check_own_names(model: Any, names: Sequence[str], whose: str) -> None:
    """Refuses a model that takes one state for another: states go by their place.

    Names that nobody chose, `y1 ... yn`, may stand for any others, and within a part for what it sees.
    """
    for seen, own in named_parts(model):
        places = range(len(names)) if seen is None else seen
        if len(places) != len(own) or max(places) >= len(names):
            continue  # another number of states is said where the model is called
        given = tuple(names[i] for i in places)
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


def _are_chosen(names: tuple[str, ...]) -> bool:
    return names != state_names(None, len(names))
