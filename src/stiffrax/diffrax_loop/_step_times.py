"""How the ends of the steps of a solve follow its start and its end."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Shaped

from .._trees import is_none
from ._recorded_loop import StepRecord

# Spacings of floating-point numbers by which a step ends before a jump, or starts after it.
_SPACINGS = 4


@final
class StepTimes(eqx.Module):
    """By how much ends of steps follow start and end of the solve.

    Sizes of steps are held fixed: all ends move with the start, up to the first one that the
    controller was told to step to; those of constant steps divide what is between both. One at the
    end of the solve moves with that. Under `diffrax.StepTo` every end is a time of its own.

    `by_t0`, `by_t1`: of the starts of all steps, and of the end of the last.
    """

    by_t0: Shaped[Array, " max_steps_plus_1"]
    by_t1: Shaped[Array, " max_steps_plus_1"]
    is_last: Bool[Array, " max_steps"]
    ends_at_t1: Bool[Array, ""]

    def tangents(
        self, t0: Shaped[Array, ""], t1: Shaped[Array, ""], step_to: Shaped[Array, " ts"] | None
    ) -> tuple[Shaped[Array, " max_steps"], Shaped[Array, " max_steps"]]:
        """Those of the starts and of the ends of all steps; linear in the given ones."""
        nodes = self.by_t0 * t0 + self.by_t1 * t1
        if step_to is not None:
            rest = step_to[1 : nodes.size]
            padding = jnp.zeros(nodes.size - 1 - rest.size, nodes.dtype)
            nodes = jnp.concatenate([t0[None], rest, padding])
        return nodes[:-1], jnp.where(self.is_last & self.ends_at_t1, t1, nodes[1:])


def step_times(record: StepRecord, controller: Any, t0: Any, t1: Any) -> StepTimes:
    """Reads it off the controller."""
    index = jnp.arange(record.t0.size + 1)
    # Rows after the last step are zeros.
    last_end = record.t1[jnp.maximum(record.count - 1, 0)]
    nodes = jnp.where(index == record.count, last_end, jnp.append(record.t0, last_end))
    fixed, by_t1 = _is_told(nodes, controller) & (index > 0), jnp.zeros_like(nodes)
    if isinstance(controller, diffrax.ConstantStepSize):
        # But the end of the first one, which is `dt0` away from the start.
        known = (index > 1) & (index <= record.count) & (t1 > t0) & jnp.isfinite(t1)
        by_t1 = jnp.where(known, (nodes - t0) / jnp.where(known, t1 - t0, 1), 0)
    is_last = jnp.arange(record.t0.size) == record.count - 1
    by_t0 = jnp.where(jnp.cumsum(fixed) == 0, 1 - by_t1, 0)
    return StepTimes(by_t0, by_t1, is_last, last_end >= t1)


def moving_with(init_state: Any, controller: Any, t0: Any, t1: Any) -> Any:
    """The initial state of a loop as a function of the times of its solve."""
    by_t0, by_t1 = _moved(t0), _moved(t1)
    first = init_state.tnext
    if isinstance(controller, diffrax.StepTo):
        first = controller.ts[1]
    else:
        # The size of the first step is held fixed, if it does not end at a time that stays.
        by_size = jnp.where(_is_told(first, controller), 0, by_t0)
        first = first + jnp.where(first >= t1, by_t1, by_size).astype(first.dtype)
    if isinstance(controller, diffrax.ConstantStepSize):
        *counts, start, end = init_state.controller_state
        state = (*counts, start + by_t0, end + by_t1)
        init_state = eqx.tree_at(lambda s: s.controller_state, init_state, state)
    return eqx.tree_at(lambda s: (s.tprev, s.tnext), init_state, (t0, first))


def _moved(t: Any) -> Array:
    # Zero, with the tangent of the time.
    return jnp.where(jnp.isfinite(t), t - lax.stop_gradient(t), 0)


def _is_told(times: Shaped[Array, "*k"], controller: Any) -> Bool[Array, "*k"]:
    """Whether each is one that the controller steps to, or some spacings from it."""
    found = jnp.zeros(times.shape, bool)
    # A step to zero ends at the smallest number before it.
    spacing, least = _SPACINGS * jnp.finfo(times.dtype).eps, 2 * jnp.finfo(times.dtype).tiny
    while controller is not None:
        if isinstance(controller, diffrax.ClipStepSizeController):
            for told in (controller.step_ts, controller.jump_ts):
                # They are sorted; those of infinity are none.
                told = jnp.append(jnp.asarray([] if told is None else told, times.dtype), jnp.inf)
                k = jnp.searchsorted(told, times)
                for near in (told[k - 1], told[k]):
                    found |= jnp.abs(times - near) < spacing * jnp.abs(near) + least
        controller = getattr(controller, "controller", None)
    return found


def split_step_to(controller: Any) -> tuple[Any, Any]:
    """Takes the times out of a `diffrax.StepTo`; `None` stands for any other controller."""
    if isinstance(controller, diffrax.StepTo):
        return eqx.tree_at(lambda c: c.ts, controller, None), controller.ts
    return controller, None


def with_step_to(controller: Any, ts: Any) -> Any:
    """Puts them back."""
    if ts is None:
        return controller
    return eqx.tree_at(lambda c: c.ts, controller, ts, is_leaf=is_none)
