"""Events and their conditions."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from .._trees import passing_on


@final
class ClosedCondition(eqx.Module):
    """A condition of an event whose closed-over values are leaves, so that derivatives reach them."""

    function: Callable

    def __call__(self, t: Any, y: PyTree, args: PyTree, **kwargs: Any) -> Any:
        """Its value; what else diffrax hands on is closed over."""
        del kwargs
        return self.function(t, y, args)


def close_event(event: Any, t: Array, y: PyTree[Array], args: PyTree, **given: Any) -> Any:
    """Traces the conditions of an event, which `given` is handed on to."""
    if event is None:
        return None

    def closed(condition: Callable) -> ClosedCondition:
        function = lambda t, y, args: condition(t, y, args, **given)  # noqa: E731
        return ClosedCondition(eqx.filter_closure_convert(function, t, y, args))

    conditions = jax.tree.map(closed, event.cond_fn, is_leaf=callable)
    return eqx.tree_at(lambda e: e.cond_fn, event, conditions, is_leaf=callable)


def has_root(event: Any) -> bool:
    """Whether the time of an event is a root, and not the end of a step."""
    return event is not None and event.root_finder is not None


def stopped_by_event(final_state: Any) -> Bool[Array, ""]:
    """Whether a solve ended at an event."""
    return final_state.result == diffrax.RESULTS.event_occurred


def event_value(event: Any, mask: PyTree, t: Array, y: PyTree, args: PyTree) -> Array:
    """The value of the condition that stopped a solve; zero if that was none, or a Boolean one."""
    total = jnp.zeros((), t.dtype)
    conditions = jax.tree.leaves(event.cond_fn, is_leaf=callable)
    for condition, is_it in zip(conditions, jax.tree.leaves(mask), strict=True):
        # The derivative of another condition may be infinite here, and is multiplied by zero.
        value = passing_on(condition, is_it)(*passing_on((t, y, args), is_it))
        if jnp.issubdtype(jnp.result_type(value), jnp.floating):
            total = total + jnp.where(is_it, jnp.asarray(value, t.dtype), 0)
    return total


def event_mask(final_state: Any) -> PyTree:
    """Which condition stopped a solve."""
    return final_state.event_mask
