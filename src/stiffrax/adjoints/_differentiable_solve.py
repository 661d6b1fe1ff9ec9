"""A solve with a gradient of its own: forward with a record of the steps, backward over it."""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .._diffrax import inner_loop, loop, outer_loop
from ._backward_sweep import StepEquations, backward_sweep
from ._refusals import refuse_gradient
from ._saved_values import (
    StepCotangents,
    add_saved,
    and_state,
    flat_rows,
    join_states,
    no_cotangents,
    pull_through_fn,
    save_states,
    split_states,
    with_fns,
)
from ._step_record import StepRecord, recorded_loop

# Up to this size a batch of inverses needs no library factorization (`stiffrax.stages`).
_LARGEST_PROPAGATOR = 64

_REVERSE_TWICE = (
    "`adjoint=DiscreteAdjoint()` was asked for the reverse-mode gradient of its gradient; it can be "
    "differentiated once more in forward mode only. Write `jax.jvp` or `jax.jacfwd` outside and "
    "`jax.grad` inside (as `jax.hessian` does), or `adjoint=diffrax.RecursiveCheckpointAdjoint()`."
)


@final
class SolveInputs(eqx.Module):
    """What gradients may be asked of, and in `frozen` what they are refused of by name."""

    y0: PyTree[Array]
    args: PyTree
    terms: PyTree
    fns: list[Callable | None]
    frozen: dict[str, Any]

    def loop_arguments(self, init_state: Any, fns: list[Callable | None]) -> dict[str, Any]:
        saveat = with_fns(self.frozen["saveat"], fns)
        return self.frozen | {
            "saveat": saveat,
            "terms": self.terms,
            "args": self.args,
            "init_state": eqx.tree_at(lambda s: s.y, init_state, self.y0),
            "inner_while_loop": ft.partial(inner_loop, kind="lax"),
            "outer_while_loop": ft.partial(outer_loop, kind="lax"),
        }


@final
class GradientRule(eqx.Module):
    """How to compute the gradient: the options of `DiscreteAdjoint`."""

    keep_stages: bool = eqx.field(static=True)
    recurrence: str | None = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    in_failure: float = eqx.field(static=True)


@eqx.filter_custom_vjp
def differentiable_solve(
    inputs: SolveInputs, *, rule: GradientRule, init_state: Any, **kwargs: Any
) -> Any:
    """Runs diffrax's loop; its gradient is that of the steps that were taken."""
    del rule
    return loop(**inputs.loop_arguments(init_state, inputs.fns), **kwargs)


@differentiable_solve.def_fwd
def _solve_forward(
    perturbed: SolveInputs,
    inputs: SolveInputs,
    *,
    rule: GradientRule,
    init_state: Any,
    max_steps: Any,
    **kwargs: Any,
) -> Any:
    refuse_gradient(inputs.frozen["saveat"], max_steps, kwargs["event"], perturbed.frozen)
    arguments = inputs.loop_arguments(init_state, [and_state(fn) for fn in inputs.fns])
    save_state = join_states(init_state.save_state, inputs.fns, inputs.y0)
    arguments["init_state"] = eqx.tree_at(
        lambda s: s.save_state, arguments["init_state"], save_state
    )
    final_state, aux_stats, record = recorded_loop(
        loop,
        keep_stages=rule.keep_stages,
        max_steps=max_steps,
        **arguments,
        **kwargs,
    )
    save_state, states = split_states(final_state.save_state, inputs.fns)
    final_state = eqx.tree_at(lambda s: s.save_state, final_state, save_state)
    succeeded = final_state.result == diffrax.RESULTS.successful
    # A failed solve has no steps to go back over.
    record = eqx.tree_at(lambda r: r.count, record, jnp.where(succeeded, record.count, 0))
    return (final_state, aux_stats), (record, save_state, states, succeeded)


@differentiable_solve.def_bwd
def _solve_backward(
    residuals: Any,
    cotangents: Any,
    perturbed: SolveInputs,
    inputs: SolveInputs,
    *,
    rule: GradientRule,
    **kwargs: Any,
) -> SolveInputs:
    del kwargs
    record, save_state, states, succeeded = residuals
    final_bar, _ = cotangents
    steps_bar, args_bar, fns_bar = _pull_through_saving(
        record, save_state, states, final_bar.save_state, inputs, perturbed
    )
    parameters, others = eqx.partition(
        (inputs.terms, inputs.args), (perturbed.terms, perturbed.args)
    )
    y0_bar, (terms_bar, more_args_bar) = backward_sweep(
        StepEquations(inputs.frozen["solver"], parameters, others, inputs.y0),
        record,
        steps_bar,
        chunk_size=rule.chunk,
        recurrence=rule.recurrence or _recurrence(steps_bar),
    )
    _, restore = ravel_pytree(inputs.y0)
    args_bar = jax.tree.map(jnp.add, args_bar, more_args_bar)
    y0_bar, args_bar, terms_bar, fns_bar = jax.tree.map(
        lambda x: jnp.where(succeeded, x, rule.in_failure),
        (restore(y0_bar), args_bar, terms_bar, fns_bar),
    )
    frozen = jax.tree.map(lambda _: None, inputs.frozen)
    gradient = SolveInputs(y0_bar, args_bar, terms_bar, fns_bar, frozen)
    return eqxi.nondifferentiable_backward(gradient, msg=_REVERSE_TWICE, symbolic=True)


def _recurrence(steps: StepCotangents) -> str:
    return "scan" if steps.nodes.shape[1] <= _LARGEST_PROPAGATOR else "solve"


def _pull_through_saving(
    record: StepRecord,
    save_state: PyTree,
    states: list[PyTree],
    save_state_bar: PyTree,
    inputs: SolveInputs,
    perturbed: SolveInputs,
) -> tuple[StepCotangents, PyTree, list[PyTree]]:
    """From the cotangents of all saved values to those of steps, `args` and saving functions."""
    num_powers = inputs.frozen["solver"].tableau.polynomial.shape[1]
    steps_bar = no_cotangents(record, inputs.frozen["saveat"], num_powers)
    args_bar = jax.tree.map(jnp.zeros_like, eqx.filter(inputs.args, perturbed.args))
    fns_bar = []
    buffers = zip(save_states(save_state), save_states(save_state_bar), strict=True)
    functions = zip(inputs.fns, perturbed.fns, states, strict=True)
    for (state, bar), (fn, fn_wanted, ys) in zip(buffers, functions, strict=True):
        ys_bar, fn_bar = bar.ys, None
        if fn is not None:
            wanted = (perturbed.args, fn_wanted)
            ys_bar, new_args_bar, fn_bar = pull_through_fn(
                fn, state, ys, inputs.args, wanted, ys_bar
            )
            args_bar = jax.tree.map(jnp.add, args_bar, new_args_bar)
        elif not jax.tree.leaves(ys_bar):
            fns_bar.append(None)
            continue
        else:
            ys_bar = jax.tree.map(_materialized, state.ys, ys_bar)
        fns_bar.append(fn_bar)
        steps_bar = add_saved(steps_bar, record, state, flat_rows(ys_bar))
    return steps_bar, args_bar, fns_bar


def _materialized(value: Array, cotangent: Array | None) -> Array:
    return jnp.zeros_like(value) if cotangent is None else cotangent
