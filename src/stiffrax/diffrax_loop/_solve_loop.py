"""diffrax's loop as a function of its initial state, and what is read off that state."""

import functools as ft
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import Array, Bool, PyTree, Shaped

from ._private_names import inner_loop, loop, outer_loop

solve_loop = ft.partial(
    loop,
    inner_while_loop=ft.partial(inner_loop, kind="lax"),
    outer_while_loop=ft.partial(outer_loop, kind="lax"),
)
"""diffrax's loop, by `while` loops that nothing differentiates."""


def start_of(init_state: Any) -> tuple[Shaped[Array, ""], PyTree[Array]]:
    """Time and state at which a loop starts."""
    return init_state.tprev, init_state.y


def starting_from(init_state: Any, y0: PyTree[Array]) -> Any:
    """The initial state of a loop with another initial value."""
    return eqx.tree_at(lambda s: s.y, init_state, y0)


def succeeded(final_state: Any) -> Bool[Array, ""]:
    """Whether a loop came to its end, or to an event."""
    result = final_state.result
    stopped = result == diffrax.RESULTS.event_occurred
    return (result == diffrax.RESULTS.successful) | stopped
