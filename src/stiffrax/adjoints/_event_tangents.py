"""The time of an event, differentiated by the implicit function theorem."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._flat_state import flatten_state
from ..diffrax_loop import (
    SavedValues,
    StepRecord,
    event_mask,
    event_value,
    stopped_by_event,
)
from ._saved_values import SavedPlaces, TimeTangents, saved_places
from ._solve_inputs import SolveInputs, has_tangent


@final
class EventPlace(eqx.Module):
    r"""Where the event that stopped a solve lies.

    At the time $t^*$ the condition is a root, $g(t^*, y(t^*)) = 0$. Along tangents of the state at a
    fixed time, and of what `g` depends on,

    $$\dot t^* = - \frac{g_y \dot y + \dot g}{g_t + g_y y'} .$$
    """

    place: SavedPlaces
    time: Shaped[Array, ""]
    found: Bool[Array, ""]
    count: Int[Array, ""]
    mask: PyTree
    y: Float[Array, " n"]

    def tangent(
        self,
        inputs: SolveInputs,
        moved: SolveInputs,
        times: TimeTangents,
        y_dot: Float[Array, " n"],
    ) -> Shaped[Array, ""]:
        """That of the time, for the tangent of the state at a fixed fraction of its step."""
        _, restore = flatten_state(inputs.y0)
        slope = times.slopes(self.place)[0]
        carried = times.carried(self.place)[0]
        flags = has_tangent((moved.args, moved.event))
        outer, inner = eqx.partition((inputs.args, inputs.event), flags)

        def value(t: Array, y: Array, outer: PyTree) -> Array:
            args, event = eqx.combine(outer, inner)
            return event_value(event, self.mask, t, restore(y), args)

        at = self.time, self.y, outer
        still = jax.tree.map(jnp.zeros_like, outer)
        y_dot = y_dot - slope * carried.astype(slope.dtype)
        zero = jnp.zeros_like(self.time)
        _, by_all = jax.jvp(value, at, (zero, y_dot, (moved.args, moved.event)))
        _, by_time = jax.jvp(value, at, (zero + 1, slope, still))
        # A Boolean condition stops at the end of a step, and has no slope.
        is_root = self.found & (by_time != 0)
        root = -by_all / jnp.where(is_root, by_time, 1)
        return jnp.where(is_root, root, carried)

    def slots(self, place: SavedPlaces, sub: diffrax.SubSaveAt) -> Bool[Array, " slots"]:
        """Which slot holds the state at the event."""
        last = jnp.arange(place.ts.size) == jnp.sum(place.filled) - 1
        return self.found & _saves_end(sub, self.count) & last & (place.ts == self.time)


def _saves_end(sub: diffrax.SubSaveAt, count: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether the state at which a solve of `count` steps ends is saved: of `steps=n` each n-th is."""
    if sub.t1 or not sub.steps:
        return jnp.asarray(sub.t1)
    return count % sub.steps == 0


def event_place(
    inputs: SolveInputs,
    final_state: Any,
    record: StepRecord,
    values: list[SavedValues],
    subs: list[diffrax.SubSaveAt],
) -> EventPlace:
    """Finds the event among what is saved: it is the latest time, and in the last step."""
    time = record.t0[0]
    for saved, sub in zip(values, subs, strict=True):
        latest = jnp.max(jnp.where(saved.filled, saved.ts, -jnp.inf), initial=-jnp.inf)
        ends = _saves_end(sub, record.count)
        time = jnp.where(ends, jnp.maximum(time, latest.astype(time.dtype)), time)
    start = record.t0[jnp.maximum(record.count - 1, 0)]
    found = stopped_by_event(final_state) & (record.count > 0) & (time > start)
    y0, _ = flatten_state(inputs.y0)
    at = SavedValues(time[None], y0[None])
    place = saved_places(record, at, diffrax.SubSaveAt(ts=time[None]), y0.dtype)
    nodes = jax.vmap(lambda tree: flatten_state(tree)[0])(record.y0)
    p = jax.vmap(jax.vmap(lambda tree: flatten_state(tree)[0]))(record.coefficients)
    # The state there by the polynomial, whatever function of it is saved.
    base = jnp.maximum(place.step[0], 0)
    ends = jnp.stack([nodes[base], flatten_state(record.y_end)[0]])
    y = eqx.tree_at(lambda s: s.step, place, jnp.zeros_like(place.step)).read(
        ends, p[base][None], 0
    )
    # The derivative of a condition whose root is not saved may be infinite at the start.
    mask = jax.tree.map(lambda x: x & found, event_mask(final_state))
    return EventPlace(place, time, found, record.count, mask, y[0])
