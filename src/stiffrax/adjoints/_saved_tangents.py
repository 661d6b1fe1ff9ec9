"""From tangents of states at fixed points of the steps to those of all that a solve returns."""

from collections.abc import Callable
from typing import Any, cast, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from .._flat_state import flatten_state
from .._trees import along_rows
from ..diffrax_loop import SavedValues, StepRecord, StepTimes
from ._saved_values import SavedPlaces, powers_of
from ._solve_inputs import SolveInputs, has_tangent


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
    unit = inputs.terms.contr(zero, zero + 1)
    slope = flatten_state(slope)[0]
    # What has failed may have no slope where it starts, which times zero is NaN.
    slope = jnp.where(ok, slope * unit.astype(slope.dtype), 0)
    return TimeTangents(record, starts, ends, t0, t1, slope, stopped)


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
