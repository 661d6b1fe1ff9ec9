"""A solve with a gradient of its own: forward in the loop of diffrax, backward by a rule."""

import abc
import functools as ft
import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._options import Failed
from ..diffrax_loop import (
    SavedValues,
    StepRecord,
    and_state,
    close_terms,
    counted_loop,
    nondiff_solver_controller_state,
    only_transpose_ys,
    recorded_loop,
    saved_values,
    saved_ys,
    solve_loop,
    split_fns,
    split_states,
    start_of,
    starting_from,
    subs_of,
    succeeded,
    with_fns,
    with_room_for_states,
)
from ..solvers import LearnableRungeKutta
from ..stages import stop_gradient
from ._recorded_steps import AbstractRecordedSteps
from ._refusals import REVERSE_TWICE, refuse_checked_axes, refuse_gradient, refuse_solver
from ._saved_values import SavedCotangents, cotangents_through_fn, saved_cotangents
from ._step_equations import StepEquations
from ._step_maps import StepMaps


@final
class SolveInputs(eqx.Module):
    """What gradients may be asked of, and in `frozen` what they are refused of by name.

    `solver` is one whose tableau is trained; any other is in `frozen`.
    """

    y0: PyTree[Array]
    args: PyTree
    terms: PyTree
    fns: list[Callable | None]
    solver: LearnableRungeKutta | None
    frozen: dict[str, Any]

    def loop_arguments(self, init_state: Any, fns: list[Callable | None]) -> dict[str, Any]:
        saveat = with_fns(self.frozen["saveat"], fns)
        return self.frozen | {
            "saveat": saveat,
            "terms": self.terms,
            "args": self.args,
            "solver": self.frozen["solver"] if self.solver is None else self.solver,
            "init_state": starting_from(init_state, self.y0),
        }


class AbstractGradientRule(eqx.Module):
    """How an adjoint makes a gradient of the record of a solve."""

    failed: eqx.AbstractVar[Failed]

    @property
    def keep_stages(self) -> bool:
        """Whether the record needs the polynomials of the steps, or only their starts."""
        return True

    @abc.abstractmethod
    def gradient(
        self, steps: AbstractRecordedSteps, record: StepRecord, saved: list[SavedCotangents]
    ) -> tuple[Float[Array, " n"], PyTree]:
        """The cotangents of the initial state and of the parameters, from those of saved states."""


@eqx.filter_custom_vjp
def differentiable_solve(
    inputs: SolveInputs, *, rule: AbstractGradientRule, init_state: Any, **kwargs: Any
) -> Any:
    """Runs diffrax's loop; its gradient is that of the steps that were taken."""
    del rule
    return counted_loop(solve_loop)(**inputs.loop_arguments(init_state, inputs.fns), **kwargs)


@differentiable_solve.def_fwd
def _solve_forward(
    perturbed: SolveInputs,
    inputs: SolveInputs,
    *,
    rule: AbstractGradientRule,
    init_state: Any,
    max_steps: Any,
    **kwargs: Any,
) -> Any:
    name = type(rule).__name__
    refuse_gradient(name, inputs.frozen["saveat"], max_steps, kwargs["event"], perturbed.frozen)
    arguments = inputs.loop_arguments(init_state, [and_state(fn) for fn in inputs.fns])
    arguments["init_state"] = with_room_for_states(arguments["init_state"], inputs.fns)
    solve = ft.partial(recorded_loop, solve_loop, keep_stages=rule.keep_stages)
    final_state, aux_stats, record = counted_loop(solve)(  # pyright: ignore[reportAssignmentType]
        max_steps=max_steps,
        **arguments,
        **kwargs,
    )
    final_state, states = split_states(final_state, inputs.fns)
    ok = succeeded(final_state)
    # A failed solve has no steps to go back over.
    record = eqx.tree_at(lambda r: r.count, record, jnp.where(ok, record.count, 0))
    return (final_state, aux_stats), (record, saved_values(final_state), states, ok)


@differentiable_solve.def_bwd
def _solve_backward(
    residuals: Any,
    cotangents: Any,
    perturbed: SolveInputs,
    inputs: SolveInputs,
    *,
    rule: AbstractGradientRule,
    **kwargs: Any,
) -> SolveInputs:
    del kwargs
    record, values, states, ok = residuals
    final_bar, _ = cotangents
    saved, args_bar, fns_bar = _through_saving(
        values, states, saved_ys(final_bar), inputs, perturbed
    )
    steps = _recorded_steps(inputs, perturbed)
    y0_bar, (terms_bar, more_args_bar, *solver_bar) = rule.gradient(steps, record, saved)
    _, restore = ravel_pytree(inputs.y0)
    args_bar = jax.tree.map(jnp.add, args_bar, more_args_bar)
    in_failure = math.nan if rule.failed == "nan" else 0.0
    y0_bar, args_bar, terms_bar, fns_bar, solver_bar = jax.tree.map(
        lambda x: jnp.where(ok, x, in_failure),
        (restore(y0_bar), args_bar, terms_bar, fns_bar, solver_bar),
    )
    (solver_bar,) = solver_bar or (None,)
    frozen = jax.tree.map(lambda _: None, inputs.frozen)
    gradient = SolveInputs(y0_bar, args_bar, terms_bar, fns_bar, solver_bar, frozen)
    message = REVERSE_TWICE.format(adjoint=type(rule).__name__)
    return eqxi.nondifferentiable_backward(gradient, msg=message, symbolic=True)


def _recorded_steps(inputs: SolveInputs, perturbed: SolveInputs) -> AbstractRecordedSteps:
    """The recorded steps as a function of what gradients are wanted of."""
    wanted, flags = (inputs.terms, inputs.args), (perturbed.terms, perturbed.args)
    if inputs.solver is not None:
        wanted, flags = (*wanted, inputs.solver), (*flags, perturbed.solver)
        return StepMaps(*eqx.partition(wanted, flags), inputs.y0)
    return StepEquations(inputs.frozen["solver"], *eqx.partition(wanted, flags), inputs.y0)


def _through_saving(
    values: list[SavedValues],
    states: list[PyTree],
    values_bar: list[PyTree],
    inputs: SolveInputs,
    perturbed: SolveInputs,
) -> tuple[list[SavedCotangents], PyTree, list[PyTree]]:
    """From the cotangents of all saved values to those of states, `args` and saving functions."""
    args_bar = jax.tree.map(jnp.zeros_like, eqx.filter(inputs.args, perturbed.args))
    saved, fns_bar = [], []
    buffers = zip(values, values_bar, strict=True)
    functions = zip(inputs.fns, perturbed.fns, states, strict=True)
    subs = subs_of(inputs.frozen["saveat"])
    for (value, ys_bar), (fn, fn_wanted, ys), sub in zip(buffers, functions, subs, strict=True):
        fn_bar = None
        if fn is not None:
            wanted = (perturbed.args, fn_wanted)
            ys_bar, new_args_bar, fn_bar = cotangents_through_fn(
                fn, value, ys, inputs.args, wanted, ys_bar
            )
            args_bar = jax.tree.map(jnp.add, args_bar, new_args_bar)
        fns_bar.append(fn_bar)
        if jax.tree.leaves(ys_bar):
            ys_bar = jax.tree.map(_materialized, value.ys if fn is None else ys, ys_bar)
            saved.append(saved_cotangents(value, sub, ys_bar))
    return saved, args_bar, fns_bar


def _materialized(value: Array, cotangent: Array | None) -> Array:
    return jnp.zeros_like(value) if cotangent is None else cotangent


def _traced(tree: PyTree) -> PyTree:
    # A copy would keep the type; an operation with a value made here has the type of this trace.
    here = jnp.ones((), bool)
    return jax.tree.map(lambda x: jnp.where(here, x, x) if eqx.is_array(x) else x, tree)


class AbstractSolveAdjoint(diffrax.AbstractAdjoint):
    """An adjoint for the solvers of stiffrax that gives the saved values a gradient of its own.

    `trains_tableaus`: whether gradients reach the tableau of a `LearnableRungeKutta`.
    """

    trains_tableaus: ClassVar[bool] = True

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
        refuse_solver(type(self).__name__, solver, learnable=self.trains_tableaus)
        trained = isinstance(solver, LearnableRungeKutta)
        # Under `pmap` and `shard_map` a value from outside has another type than a traced one: fields
        # converted with it would not take the states of the loop.
        t, y0, args = _traced((*start_of(init_state), args))
        init_state = nondiff_solver_controller_state(
            self, init_state, passed_solver_state, passed_controller_state
        )
        saveat, fns = split_fns(saveat, lambda fn: eqx.filter_closure_convert(fn, t, y0, args))
        inputs = SolveInputs(
            y0=y0,
            args=args,
            terms=close_terms(terms, t, y0, args),
            fns=fns,
            solver=solver if trained else None,
            frozen={
                "t0": t0,
                "t1": t1,
                "dt0": dt0,
                "saveat": saveat,
                "stepsize_controller": stepsize_controller,
                "solver": None if trained else solver,
            },
        )
        refuse_checked_axes(type(self).__name__, (inputs, init_state))
        final_state, aux_stats = self.differentiable_solve(
            inputs,
            init_state=stop_gradient(init_state),
            event=event,
            max_steps=max_steps,
            progress_meter=progress_meter,
        )
        return only_transpose_ys(final_state), aux_stats


class AbstractRecordedAdjoint(AbstractSolveAdjoint, AbstractGradientRule):
    """An adjoint that records the steps of a stiffrax solver and makes the gradient of them."""

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """Forward with a record of the steps, backward over it."""
        return differentiable_solve(inputs, rule=self, **kwargs)
