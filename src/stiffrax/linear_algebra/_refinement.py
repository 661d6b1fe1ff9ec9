"""Iterative refinement."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

State = TypeVar("State")

# Units of rounding of its terms that an equation may be left with for good, and where the iteration
# comes no further. Chosen, not measured.
_ROUNDING, LARGEST_LEFT = 8, 256
# Of two corrections each of which takes half of what is left, single rounding needs 24 and double 53.
_MOST_CORRECTIONS = 64


def least_resolved(dtype: Any) -> float:
    """Of what has this size, numbers that are flushed to zero are units of rounding."""
    return float(jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps)


def units_left(rest: Float[Array, "..."], terms: Float[Array, "..."]) -> Float[Array, ""]:
    """What is left of equations, in units of rounding of the sum of each one's absolute terms.

    Of each equation: a component that hardly depends on the others may be far smaller than they are.
    """
    terms = jnp.maximum(terms, least_resolved(terms.dtype))
    return jnp.max(jnp.abs(rest) / terms) / jnp.finfo(rest.dtype).eps


def refine(
    again: Callable[[State], State],
    left: Callable[[State], Float[Array, ""]],
    state: State,
    most: int = _MOST_CORRECTIONS,
    slowest: float | None = None,
) -> tuple[State, Float[Array, ""]]:
    """Corrects until what is left is rounding; with what is left then.

    **Arguments:**

    - `again`: the next state; `left`: what one leaves, as `units_left` says.
    - `most`: corrections; `slowest`: what a correction may leave of what was left before, where more
      are not worth their time.
    """

    def go_on(carry: tuple) -> Array:
        k, _, size, before = carry
        wanted = (k < most) & (size > _ROUNDING)
        return wanted if slowest is None else wanted & ~(size > slowest * before)

    def once(carry: tuple) -> tuple:
        k, state, size, _ = carry
        state = again(state)
        return k + 1, state, left(state), size

    size = left(state)
    _, state, size, _ = lax.while_loop(go_on, once, (0, state, size, jnp.full_like(size, jnp.inf)))
    return state, size
