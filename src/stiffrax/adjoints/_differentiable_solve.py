"""A solve with a derivative of its own: the loop of diffrax, and a linear map over its steps."""

import abc
import functools as ft
import math
from dataclasses import replace
from typing import Any, ClassVar, cast, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._flat_state import flatten_state
from .._options import Failed
from ..diffrax_loop import (
    StepRecord,
    and_state,
    close_event,
    close_terms,
    counted_loop,
    has_root,
    nondiff_solver_controller_state,
    only_transpose_saved,
    recorded_loop,
    saved_values,
    solve_loop,
    split_fns,
    split_states,
    split_step_to,
    start_of,
    step_times,
    stopped_by_event,
    subs_of,
    succeeded,
    with_room_for_states,
    with_tangents,
)
from ..solvers import AbstractRosenbrock, LearnableRungeKutta, RadauIIA, may_be_singular
from ..stages import stop_gradient
from ._linear_map import linear_map, untold
from ._recorded_steps import AbstractRecordedSteps, StepMaps
from ._refusals import TWICE, refuse_checked_axes, refuse_derivative, refuse_solver, refuse_terms
from ._rosenbrock_equations import RosenbrockEquations
from ._saved_values import (
    EventPlace,
    SavedPlaces,
    TimeTangents,
    event_place,
    saved_places,
    tangents_through_fn,
    time_tangents,
)
from ._solve_inputs import SolveInputs, has_tangent, is_moved
from ._step_equations import StepEquations
from ._sweeps import SavedTangents, SolveTangents
from ._variable_order_steps import VariableOrderSteps


@final
class Recorded(eqx.Module):
    """The steps of a solve, where its saved values lie in them, and whether it came to its end."""

    steps: AbstractRecordedSteps
    record: StepRecord
    places: list[SavedPlaces]
    dense: bool = eqx.field(static=True)
    ok: Bool[Array, ""]


class AbstractDerivativeRule(eqx.Module):
    """How an adjoint differentiates the record of a solve."""

    failed: eqx.AbstractVar[Failed]

    @property
    def keep_stages(self) -> bool:
        """Whether the record needs the polynomials of the steps, or only their starts."""
        return True

    @property
    def moves_times(self) -> bool:
        """Whether derivatives reach times, and states of which the time is not known before."""
        return False

    @abc.abstractmethod
    def push(self, solved: Recorded, tangents: SolveTangents) -> SavedTangents:
        """The tangents of saved states."""

    @abc.abstractmethod
    def pull(self, solved: Recorded, cotangents: SavedTangents, *, times: bool) -> SolveTangents:
        """The cotangents of the initial state, of parameters and of `times`."""


def differentiable_solve(
    inputs: SolveInputs, *, rule: AbstractDerivativeRule, init_state: Any, **kwargs: Any
) -> Any:
    """Runs diffrax's loop; its derivative is that of the steps that were taken."""
    # What is not an array has no tangent, and JAX no place for it.
    static: list[Any] = []
    out = _solve(inputs, rule=rule, init_state=init_state, static=static.append, **kwargs)
    return eqx.combine(out, static[-1])


def _arrays(out: Any, static: Any) -> Any:
    arrays, others = eqx.partition(out, eqx.is_array)
    static(others)
    return arrays


@eqx.filter_custom_jvp
def _solve(inputs: SolveInputs, *, rule: Any, init_state: Any, static: Any, **kwargs: Any) -> Any:
    del rule
    out = counted_loop(solve_loop)(**inputs.loop_arguments(init_state, inputs.fns), **kwargs)
    return _arrays(out, static)


@_solve.def_jvp
def _(
    primals: tuple[SolveInputs],
    tangents: tuple[SolveInputs],
    *,
    rule: AbstractDerivativeRule,
    init_state: Any,
    max_steps: Any,
    static: Any,
    **kwargs: Any,
) -> tuple[Any, Any]:
    (inputs,), (moved,) = primals, tangents
    name, moves_times = type(rule).__name__, rule.moves_times
    refused = moved.frozen if moves_times else moved.times | moved.frozen
    refuse_derivative(
        name, inputs.saveat, max_steps, inputs.event, refused, moves_times=moves_times
    )
    refusal = TWICE.format(adjoint=name)
    root, moving = has_root(inputs.event), is_moved(moved.times)
    # Rosenbrock and trained steps are made again from their starts.
    by_start = isinstance(inputs.frozen["solver"], AbstractRosenbrock | None)
    arguments = inputs.loop_arguments(init_state, [and_state(fn) for fn in inputs.fns])
    arguments["init_state"] = with_room_for_states(arguments["init_state"], inputs.fns)
    final_state, aux_stats, record = counted_loop(recorded_loop)(  # pyright: ignore[reportAssignmentType]
        keep_stages=(rule.keep_stages and not by_start) or moving or root or inputs.saveat.dense,
        max_steps=max_steps,
        **arguments,
        **kwargs,
    )
    final_state, states = split_states(final_state, inputs.fns)
    solved, event = _recorded(inputs, moved, final_state, record)
    times = None
    if moving or root:
        controller, stopped = arguments["stepsize_controller"], stopped_by_event(final_state)
        followed = step_times(solved.record, controller, inputs.t0, inputs.t1)
        times = time_tangents(inputs, moved, solved.record, followed, stopped, solved.ok)
    change = _tangents_of_slots(rule, inputs, moved, solved, times if moving else None, refusal)
    if event is not None and times is not None:
        at_event = event.tangent(inputs, moved, times, change.rows[-1][0])
        times = replace(times, event=event, at_event=at_event)
    final_dot = _tangents_of_loop_state(
        rule, inputs, moved, final_state, states, solved, change, times
    )
    out = _arrays((final_state, aux_stats), static)
    stats_dot = jax.tree.map(lambda _: None, out[1])
    # The loop itself has a derivative in forward mode only.
    out = eqxi.nondifferentiable_backward(out, msg=refusal, symbolic=True)
    return out, (final_dot, stats_dot)


def _recorded(
    inputs: SolveInputs, moved: SolveInputs, final_state: Any, record: StepRecord
) -> tuple[Recorded, EventPlace | None]:
    """The record, with the place of an event that can stop the solve behind those of saved values."""
    ok = succeeded(final_state)
    # A failed solve has no steps to go over.
    record = replace(record, count=jnp.where(ok, record.count, 0))
    flat, _ = flatten_state(inputs.y0)
    values, subs, stops = saved_values(final_state), subs_of(inputs.saveat), has_root(inputs.event)
    places = [
        saved_places(record, saved, sub, flat.dtype, may_stop=stops)
        for saved, sub in zip(values, subs, strict=True)
    ]
    event = event_place(inputs, final_state, record, values, subs) if stops else None
    if event is not None:
        places.append(event.place)
    solved = Recorded(recorded_steps(inputs, moved), record, places, inputs.saveat.dense, ok)
    return solved, event


def recorded_steps(inputs: SolveInputs, moved: SolveInputs) -> AbstractRecordedSteps:
    """The recorded steps as a function of what derivatives are wanted of."""
    moving = has_tangent(moved)
    wanted, flags = (inputs.terms, inputs.args), (moving.terms, moving.args)
    if inputs.solver is not None:
        wanted, flags = (*wanted, inputs.solver), (*flags, moving.solver)
        return StepMaps(*eqx.partition(wanted, flags), inputs.y0)
    solver = inputs.frozen["solver"]
    if isinstance(solver, AbstractRosenbrock):
        return RosenbrockEquations(solver, *eqx.partition(wanted, flags), inputs.y0)
    kind = VariableOrderSteps if isinstance(solver, RadauIIA) else StepEquations
    return kind(solver, *eqx.partition(wanted, flags), inputs.y0)


def _or_zero(tangents: PyTree, values: PyTree[Array]) -> PyTree[Array]:
    def one(value: Array, dot: Array | None) -> Array:
        return jnp.zeros_like(value) if dot is None else dot

    return jax.tree.map(one, values, tangents)


def _start_tangent(
    inputs: SolveInputs, moved: SolveInputs, solved: Recorded, refusal: str
) -> Float[Array, " n"]:
    y0_dot, _ = flatten_state(_or_zero(moved.y0, inputs.y0))
    if may_be_singular(inputs.terms):
        # A start just before a jump moves along a slope that a singular mass does not tell, and so do
        # all times of a solve of no length.
        record, still = solved.record, solved.ok & (solved.record.count == 0)
        empty = (record.count > 0) & (record.t1[0] == record.t0[0])
        ts = [] if moved.saveat is None else [sub.ts for sub in subs_of(moved.saveat)]
        for where, x in [(still | empty, moved.t0), (still, moved.t1), *((still, x) for x in ts)]:
            if x is not None:
                y0_dot = y0_dot + jnp.sum(untold(where, x.astype(y0_dot.dtype), refusal=refusal))
    return y0_dot


def _tangents_of_slots(
    rule: AbstractDerivativeRule,
    inputs: SolveInputs,
    moved: SolveInputs,
    solved: Recorded,
    times: TimeTangents | None,
    refusal: str,
) -> SavedTangents:
    """The tangents of the states in all slots, at fixed fractions of their steps."""
    y0_dot = _start_tangent(inputs, moved, solved, refusal)
    parameters = (moved.terms, moved.args)
    if inputs.solver is not None:
        parameters = (*parameters, moved.solver)
    along = SolveTangents(y0_dot, parameters, None if times is None else (times.starts, times.ends))
    in_failure = math.nan if rule.failed == "nan" else 0.0

    def gated(solved: Recorded, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.where(solved.ok, x, in_failure).astype(x.dtype), tree)

    def push(solved: Recorded, tangents: SolveTangents) -> SavedTangents:
        return gated(solved, rule.push(solved, tangents))

    def pull(solved: Recorded, cotangents: SavedTangents) -> SolveTangents:
        return gated(solved, rule.pull(solved, cotangents, times=times is not None))

    def like() -> SavedTangents:
        rows = [jnp.zeros((place.ts.size, y0_dot.size), y0_dot.dtype) for place in solved.places]
        if not solved.dense:
            return SavedTangents(rows)
        nodes = jnp.zeros((solved.record.t0.size, y0_dot.size), y0_dot.dtype)
        polynomials = jnp.zeros((len(nodes), solved.steps.num_powers, y0_dot.size), y0_dot.dtype)
        return SavedTangents(rows, nodes, polynomials)

    return linear_map(push, pull, solved, along, jax.eval_shape(like), refusal=refusal)


def _unless_failed(rule: AbstractDerivativeRule, solved: Recorded, tangents: PyTree) -> PyTree:
    """Tangents that reach saved values past the steps; of a failed solve zero, or NaN times them."""

    def one(x: Array) -> Array:
        if rule.failed == "nan":
            # Not a choice between two: the other one's cotangent, zero, would be multiplied too.
            return x * jnp.where(solved.ok, 1, math.nan).astype(x.dtype)
        return jnp.where(solved.ok, x, 0)

    return jax.tree.map(one, tangents)


def _tangents_of_loop_state(
    rule: AbstractDerivativeRule,
    inputs: SolveInputs,
    moved: SolveInputs,
    final_state: Any,
    states: list[PyTree],
    solved: Recorded,
    change: SavedTangents,
    times: TimeTangents | None,
) -> Any:
    """From those of slots, which hold functions of `states`, to those of all that the loop returns."""
    _, restore = flatten_state(inputs.y0)
    unless_failed = ft.partial(_unless_failed, rule, solved)
    moved_args, moved_fns = unless_failed(moved.args), unless_failed(moved.fns)
    values, ts_dots, ys_dots = saved_values(final_state), [], []
    for i, sub in enumerate(subs_of(inputs.saveat)):
        place, rows, fn, ts_dot = solved.places[i], change.rows[i], inputs.fns[i], None
        if times is not None:
            moved_ts = None if moved.saveat is None else subs_of(moved.saveat)[i].ts
            ts_dot = times.of_slots(place, sub, _or_zero(moved_ts, sub.ts))
            rows = rows + unless_failed(times.moved(place, ts_dot))
            ts_dot = unless_failed(ts_dot)
        ys_dot = jax.vmap(restore)(rows)
        if fn is not None:
            dots = ts_dot, ys_dot, moved_args, moved_fns[i]
            ys_dot = tangents_through_fn(fn, values[i], states[i], inputs, dots, solved.ok)
            ys_dot = unless_failed(ys_dot)
        ts_dots.append(ts_dot)
        ys_dots.append(ys_dot)
    dense = None
    if solved.dense:
        nodes, polynomials = cast(tuple[Array, Array], (change.nodes, change.polynomials))
        ends = None if times is None else unless_failed((times.starts, times.ends))
        dense = (jax.vmap(restore)(nodes), jax.vmap(jax.vmap(restore))(polynomials), ends)
    return with_tangents(final_state, ts_dots, ys_dots, dense)


def _traced(tree: PyTree) -> PyTree:
    # A copy would keep the type; an operation with a value made here has the type of this trace.
    here = jnp.ones((), bool)
    return jax.tree.map(lambda x: jnp.where(here, x, x) if eqx.is_array(x) else x, tree)


class AbstractSolveAdjoint(diffrax.AbstractAdjoint):
    """An adjoint for the solvers of stiffrax that gives the saved values a gradient of its own.

    `any_solver`: whether it takes every solver of stiffrax, those too whose tableau is trained, whose
    steps are no collocation, or change their order; and terms with a control of their own.
    """

    any_solver: ClassVar[bool] = True

    @abc.abstractmethod
    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """The loop of diffrax as a function of `inputs` that has a gradient."""

    def loop(
        self,
        *,
        args: PyTree,
        terms: PyTree,
        solver: Any,
        stepsize_controller: Any,
        event: Any,
        saveat: diffrax.SaveAt,
        t0: Any,
        t1: Any,
        dt0: Any,
        max_steps: int | None,
        throw: bool,
        init_state: Any,
        passed_solver_state: bool,
        passed_controller_state: bool,
        progress_meter: Any,
    ) -> Any:
        """Runs diffrax's loop as it is, and attaches the gradient to what it saves."""
        del throw
        refuse_solver(type(self).__name__, solver, any_solver=self.any_solver)
        refuse_terms(type(self).__name__, terms, any_control=self.any_solver)
        trained = isinstance(solver, LearnableRungeKutta)
        # Under `pmap` and `shard_map` a value from outside has another type than a traced one: fields
        # converted with it would not take the states of the loop.
        t, y0, args = _traced((*start_of(init_state), args))
        init_state = nondiff_solver_controller_state(
            self, init_state, passed_solver_state, passed_controller_state
        )
        given = {"terms": terms, "solver": solver, "saveat": saveat, "max_steps": max_steps}
        given |= {"t0": t0, "t1": t1, "dt0": dt0, "stepsize_controller": stepsize_controller}
        event = close_event(event, t, y0, args, **given)
        saveat, fns = split_fns(saveat, lambda fn: eqx.filter_closure_convert(fn, t, y0, args))
        stepsize_controller, step_to = split_step_to(stepsize_controller)
        inputs = SolveInputs(
            y0=y0,
            args=args,
            terms=close_terms(terms, t, y0, args),
            fns=fns,
            t0=t0,
            t1=t1,
            saveat=saveat,
            step_to=step_to,
            event=event,
            solver=solver if trained else None,
            frozen={
                "dt0": dt0,
                "stepsize_controller": stepsize_controller,
                "solver": None if trained else solver,
            },
        )
        refuse_checked_axes(type(self).__name__, (inputs, init_state))
        final_state, aux_stats = self.differentiable_solve(
            inputs,
            init_state=stop_gradient(init_state),
            max_steps=max_steps,
            progress_meter=progress_meter,
        )
        return only_transpose_saved(final_state), aux_stats


class AbstractRecordedAdjoint(AbstractSolveAdjoint, AbstractDerivativeRule):
    """An adjoint that records the steps of a stiffrax solver and differentiates them."""

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """With a record of the steps, and a linear map over it."""
        return differentiable_solve(inputs, rule=self, **kwargs)
