"""Saved values as points of the steps that made them, their tangents where times move, that of an event
among them, and their cotangents as jumps of a continuous adjoint."""

from collections.abc import Callable
from typing import Any, cast, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._flat_state import flatten_state
from .._trees import along_rows
from ..diffrax_loop import (
    SavedValues,
    StepRecord,
    StepTimes,
    event_mask,
    event_value,
    stopped_by_event,
)
from ..linear_algebra import power_of_two
from ._solve_inputs import SolveInputs, has_tangent


@final
class SavedPlaces(eqx.Module):
    """Where the slots of one buffer lie: in which step, and at what fraction of it.

    Every saved state is a point of some step's polynomial: its time alone says which.

    - `filled`: which slots hold a value.
    - `interior`: whether states between the ends of steps may have been saved.
    - `by_step`: whether there may be as many slots as steps.
    """

    ts: Shaped[Array, " slots"]
    step: Int[Array, " slots"]
    fraction: Float[Array, " slots"]
    filled: Bool[Array, " slots"]
    interior: bool = eqx.field(static=True)
    by_step: bool = eqx.field(static=True)

    def read(
        self,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        base: Any,
    ) -> Float[Array, "slots n"]:
        """The states of the slots that lie in the steps from `base` on; zero in the others.

        `nodes` are the states at the starts of the steps and at the last end.
        """
        k = self.step - jnp.asarray(base).astype(self.step.dtype)
        within = self.filled & (k >= 0) & (k < len(nodes) - 1)
        k = jnp.clip(k, 0, len(nodes) - 2)
        at_end = self.fraction >= 1
        ys = nodes[k + at_end.astype(k.dtype)]
        if polynomials is not None and self.interior:
            _, *powers = powers_of(self.fraction, polynomials.shape[1])
            weights = jnp.where(at_end[:, None], 0, jnp.stack(powers, axis=1))
            ys = ys + jnp.sum(weights[..., None] * polynomials[k], axis=1)
        return jnp.where(within[:, None], ys, 0)


def powers_of(theta: Float[Array, " slots"], degree: int) -> list[Float[Array, " slots"]]:
    """The powers from zero to `degree`; by products, for `0 ** 0` has the derivative NaN."""
    powers = [jnp.ones_like(theta)]
    for _ in range(degree):
        powers.append(powers[-1] * theta)
    return powers


def saved_places(
    record: StepRecord,
    saved: SavedValues,
    sub: diffrax.SubSaveAt,
    dtype: Any,
    *,
    may_stop: bool = False,
) -> SavedPlaces:
    """Finds the step of every slot; a solve that `may_stop` at an event ends within a step."""
    k, theta = record.place(saved.ts)
    # A solve of no length has no step for a slot to be in.
    k = jnp.where(record.count > 0, k, -1)
    theta = jnp.where(saved.filled, theta, 0).astype(dtype)
    interior = may_stop or sub.ts is not None
    by_step = sub.steps != 0 or saved.ts.size >= record.t0.size
    return SavedPlaces(saved.ts, k, theta, saved.filled, interior=interior, by_step=by_step)


@final
class TimeTangents(eqx.Module):
    """Tangents of the times of a solve, and what states at moving times need of its steps.

    - `starts`, `ends`: tangents of both ends of all steps.
    - `t0`, `t1`: of start and end; `slope`: of the state, where there is no step.
    - `stopped`: whether an event ended the solve before `t1`.
    - `at_event`: of the time of the `event` that stopped the solve, if one can.
    """

    record: StepRecord
    starts: Shaped[Array, " max_steps"]
    ends: Shaped[Array, " max_steps"]
    t0: Shaped[Array, ""]
    t1: Shaped[Array, ""]
    slope: Float[Array, " n"]
    stopped: Bool[Array, ""]
    event: Any = None
    at_event: Shaped[Array, ""] | None = None

    def carried(self, place: SavedPlaces) -> Shaped[Array, " slots"]:
        """Those of the slots if each stays at its fraction of its step."""
        k = jnp.maximum(place.step, 0)
        theta = place.fraction.astype(self.starts.dtype)
        return (1 - theta) * self.starts[k] + theta * self.ends[k]

    def of_slots(
        self, place: SavedPlaces, sub: diffrax.SubSaveAt, ts: Shaped[Array, " ts"] | None
    ) -> Shaped[Array, " slots"]:
        """Those of the times of the slots, `ts` being the tangents of `SaveAt(ts=...)`."""
        tangents = self._of_slots(place, sub, ts)
        if sub.t1:
            # Where a solve stops, what was to be saved at `t1` is, in the slot of the next of `ts`.
            last = jnp.arange(place.ts.size) == jnp.sum(place.filled) - 1
            tangents = jnp.where(self.stopped & last, self.carried(place), tangents)
        if self.event is not None and self.at_event is not None:
            tangents = jnp.where(self.event.slots(place, sub), self.at_event, tangents)
        return jnp.where(place.filled, tangents, 0)

    def _of_slots(
        self, place: SavedPlaces, sub: diffrax.SubSaveAt, ts: Shaped[Array, " ts"] | None
    ) -> Shaped[Array, " slots"]:
        if not sub.steps:
            # What is saved at `t0` comes first, what is saved at `t1` last.
            parts = [self.t0[None]] if sub.t0 else []
            parts += [] if ts is None else [ts]
            parts += [self.t1[None]] if sub.t1 else []
            return jnp.concatenate(parts)
        tangents = self.carried(place)
        if ts is None:
            return tangents
        step, _ = self.record.place(cast(Array, sub.ts))
        before = step // sub.steps + int(sub.t0)
        slots = jnp.arange(ts.size, dtype=before.dtype) + before
        # Times behind the end of a solve that stopped have no slot.
        moving = jnp.where(place.ts[slots] == sub.ts, ts - tangents[slots], 0)
        return tangents.at[slots].add(moving, unique_indices=True)

    def slopes(self, place: SavedPlaces) -> Float[Array, "slots n"]:
        """Those of the polynomials at the slots; where no step has a length, of the solution."""
        record, k = self.record, jnp.maximum(place.step, 0)
        p = jax.vmap(jax.vmap(lambda tree: flatten_state(tree)[0]))(record.coefficients)[k]
        powers = enumerate(powers_of(place.fraction, p.shape[1] - 1), start=1)
        weights = jnp.stack([degree * power for degree, power in powers], axis=1)
        length = (record.t1 - record.t0)[k]
        there = (place.step >= 0) & (length > 0)
        length = jnp.where(there, length, 1).astype(p.dtype)
        slopes = jnp.sum(weights[..., None] * p, axis=1) / length[:, None]
        return jnp.where(there[:, None], slopes, self.slope[None])

    def moved(self, place: SavedPlaces, slots: Shaped[Array, " slots"]) -> Float[Array, "slots n"]:
        """What the slots' states change by, because they move within their steps."""
        slopes = self.slopes(place)
        along = (slots - self.carried(place)).astype(slopes.dtype)
        return jnp.where(place.filled[:, None], along[:, None] * slopes, 0)


def time_tangents(
    inputs: SolveInputs,
    moved: SolveInputs,
    record: StepRecord,
    times: StepTimes,
    stopped: Bool[Array, ""],
    ok: Bool[Array, ""],
) -> TimeTangents:
    """From the tangents `moved` of the inputs, `None` where there is none."""
    zero = jnp.zeros_like(inputs.t0)
    t0, t1 = (zero if x is None else x for x in (moved.t0, moved.t1))
    starts, ends = times.tangents(t0, t1, moved.step_to)
    slope = inputs.the_solver.func(inputs.terms, inputs.t0, inputs.y0, inputs.args)
    # The control has the direction of time, which the slope has not.
    _, unit = jax.jvp(lambda t: inputs.terms.contr(inputs.t0, t), (inputs.t0,), (zero + 1,))
    slope = flatten_state(slope)[0]
    # What has failed may have no slope where it starts, which times zero is NaN.
    slope = jnp.where(ok, slope * unit.astype(slope.dtype), 0)
    return TimeTangents(record, starts, ends, t0, t1, slope, stopped)


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


def tangents_through_fn(
    fn: Callable,
    saved: SavedValues,
    ys: PyTree[Array],
    inputs: SolveInputs,
    tangents: tuple[Array | None, PyTree[Array], PyTree, PyTree],
    ok: Bool[Array, ""],
) -> PyTree:
    """Pushes tangents of times, states, `args` and of what `fn` closes over to saved values.

    The tangents of values that are not floating are `None`.
    """
    ts_dot, ys_dot, args_dot, fn_dot = tangents
    args, filled = inputs.args, saved.filled

    # Slots never filled repeat the first one, where zero times what `fn` does is zero. The start is
    # in all of them where there is none that is known to be.
    rows, known = jnp.where(filled, jnp.arange(filled.size), 0), ok & filled[:1]

    def or_start(value: Array, start: Array) -> Array:
        start = lax.stop_gradient(jnp.asarray(start, value.dtype))[None]
        return jnp.where(along_rows(known, value), value[rows], start)

    ts, ys = or_start(saved.ts, inputs.t0), jax.tree.map(or_start, ys, inputs.y0)
    ys_dot = jax.tree.map(lambda y: y[rows], ys_dot)
    ts_dot = jnp.zeros_like(ts) if ts_dot is None else ts_dot[rows]
    # Where nothing is filled, `fn` may have no derivative at the start.
    some = jnp.any(filled)
    args_dot, fn_dot = jax.tree.map(lambda x: jnp.where(some, x, 0), (args_dot, fn_dot))
    moving = has_tangent((args_dot, fn_dot))
    outer, inner = eqx.partition((args, fn), moving)

    def values_of(ts: Array, ys: PyTree[Array], outer: PyTree) -> PyTree:
        args, fn = eqx.combine(outer, inner)
        out = jax.vmap(lambda t, y: fn(t, y, args))(ts, ys)
        return eqx.filter(out, eqx.is_inexact_array)

    def masked(value: Array) -> Array:
        return jnp.where(along_rows(filled, value), value, 0)

    _, values = jax.jvp(values_of, (ts, ys, outer), (ts_dot, ys_dot, (args_dot, fn_dot)))
    return jax.tree.map(masked, values)


@final
class CotangentJumps(eqx.Module):
    """Jumps at the ends of recorded steps, and between them.

    `nodes[k]` belongs to the start of step `k`, which is the end of step `k - 1`. The others are
    in rows, the latest first: in which step and at what fraction of it, and by what; `count` rows
    are filled.
    """

    nodes: Float[Array, "steps_plus_1 n"]
    step: Int[Array, " slots"]
    fraction: Shaped[Array, " slots"]
    values: Float[Array, "slots n"]
    count: Int[Array, ""]

    def unit(self) -> Float[Array, ""]:
        """A power of two of the size of the largest, one where all are zero."""
        sizes = [jnp.abs(lax.stop_gradient(x)) for x in (self.nodes, self.values)]
        sizes = [jnp.max(jnp.where(jnp.isfinite(x), x, 0)) for x in sizes]
        largest, about = jnp.maximum(*sizes), jnp.finfo(self.values.dtype)
        _, exponent = jnp.frexp(jnp.where(largest > 0, largest, 0.5))
        # Its reciprocal is a number too.
        exponent = jnp.clip(exponent, int(about.minexp) + 2, int(about.maxexp) - 2)
        return power_of_two(exponent, self.values.dtype)

    def within(self, step: Int[Array, ""], index: Int[Array, ""]) -> tuple[Array, Array]:
        """Fraction and value of jump `index` if it is in `step`; else the start of it and zero."""
        row = jnp.minimum(index, self.step.size - 1)
        exists = (index < self.count) & (self.step[row] == step)
        return jnp.where(exists, self.fraction[row], 0), jnp.where(exists, self.values[row], 0)


def cotangent_jumps(
    record: StepRecord, places: list[SavedPlaces], cotangents: list[Float[Array, "_ n"]]
) -> CotangentJumps:
    """Sorts the cotangents of all saved states by time, and adds up those of equal times."""
    y, _ = flatten_state(record.y_end)
    nodes = jnp.zeros((record.t1.size + 1, y.size), y.dtype)
    # One row that nothing fills: there may be no other.
    all_ts, all_values = [jnp.full(1, -jnp.inf, record.t0.dtype)], [jnp.zeros((1, y.size), y.dtype)]
    for place, ys_bar in zip(places, cotangents, strict=True):
        k, fraction = jnp.maximum(place.step, 0), place.fraction
        between = place.filled & (fraction > 0) & (fraction < 1)
        at_node = jnp.where((place.filled & ~between)[:, None], ys_bar, 0)
        nodes = nodes.at[k + (fraction >= 1).astype(k.dtype)].add(at_node)
        if place.interior:
            all_ts.append(jnp.where(between, place.ts, -jnp.inf))
            all_values.append(jnp.where(between[:, None], ys_bar, 0))
    ts, values = jnp.concatenate(all_ts), jnp.concatenate(all_values)
    order = jnp.argsort(-ts)
    ts, values = ts[order], values[order]
    is_new = jnp.concatenate([jnp.ones(1, bool), ts[1:] < ts[:-1]])
    row = jnp.cumsum(is_new) - 1
    values = jax.ops.segment_sum(values, row, ts.size)
    merged = jnp.full(ts.size, -jnp.inf, ts.dtype).at[row].set(ts)
    step, fraction = record.place(merged)
    return CotangentJumps(nodes, step, fraction, values, jnp.sum(jnp.isfinite(merged)))
