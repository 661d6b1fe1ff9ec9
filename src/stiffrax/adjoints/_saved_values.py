"""From the cotangents of saved values to cotangents of the steps that made them."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from .._diffrax import SaveState, save_y
from ._step_record import StepRecord


def _is_sub(x: Any) -> bool:
    return isinstance(x, diffrax.SubSaveAt)


def _is_save_state(x: Any) -> bool:
    return isinstance(x, SaveState)


def subs_of(saveat: diffrax.SaveAt) -> list[diffrax.SubSaveAt]:
    """Everything that is saved, as a flat list."""
    return jax.tree.leaves(saveat.subs, is_leaf=_is_sub)


def save_states(save_state: PyTree) -> list[Any]:
    """The buffers of everything that is saved, in the same order."""
    return jax.tree.leaves(save_state, is_leaf=_is_save_state)


def split_fns(
    saveat: diffrax.SaveAt, convert: Callable[[Callable], Callable]
) -> tuple[diffrax.SaveAt, list[Callable | None]]:
    """Takes the functions `fn(t, y, args)` out of `saveat`; `None` stands for saving `y` itself."""
    fns = [None if sub.fn is save_y else convert(sub.fn) for sub in subs_of(saveat)]
    return with_fns(saveat, [None] * len(fns)), fns


def with_fns(saveat: diffrax.SaveAt, fns: list[Callable | None]) -> diffrax.SaveAt:
    """Puts the functions back."""
    return eqx.tree_at(
        lambda s: [sub.fn for sub in subs_of(s)],
        saveat,
        [save_y if fn is None else fn for fn in fns],
    )


def and_state(fn: Callable | None) -> Callable | None:
    """Saves beside `fn(t, y, args)` the state `y` itself: `fn` is linearized there."""
    return None if fn is None else lambda t, y, args: (fn(t, y, args), y)


def join_states(save_state: PyTree, fns: list[Callable | None], y0: PyTree[Array]) -> PyTree:
    """Makes room in diffrax's buffers for what `and_state` saves."""

    def room(state: SaveState, fn: Callable | None) -> SaveState:
        if fn is None:
            return state
        slots = state.ts.shape[0]
        states = jax.tree.map(lambda y: jnp.zeros((slots, *y.shape), y.dtype), y0)
        return eqx.tree_at(lambda s: s.ys, state, (state.ys, states))

    return _map_states(room, save_state, fns)


def split_states(save_state: PyTree, fns: list[Callable | None]) -> tuple[PyTree, list[PyTree]]:
    """The buffers as the caller asked for them, and the states at which each `fn` was called."""

    def plain(state: SaveState, fn: Callable | None) -> SaveState:
        return state if fn is None else eqx.tree_at(lambda s: s.ys, state, state.ys[0])

    pairs = zip(save_states(save_state), fns, strict=True)
    states = [None if fn is None else state.ys[1] for state, fn in pairs]
    return _map_states(plain, save_state, fns), states


def _map_states(function: Callable, save_state: PyTree, fns: list[Callable | None]) -> PyTree:
    structure = jax.tree.structure(save_state, is_leaf=_is_save_state)
    pairs = zip(save_states(save_state), fns, strict=True)
    return jax.tree.unflatten(structure, [function(state, fn) for state, fn in pairs])


@final
class StepCotangents(eqx.Module):
    """What a loss of saved values says of each step.

    `nodes[k]` belongs to the state at the start of step `k`, which is the end of step `k - 1`;
    `coefficients[k]` to the polynomial of step `k`, and is `None` where nothing was saved between
    the ends of steps.
    """

    nodes: Float[Array, "steps_plus_1 n"]
    coefficients: Float[Array, "steps s n"] | None


def is_filled(state: SaveState) -> Bool[Array, " slots"]:
    """Which slots of a buffer hold a value; diffrax marks the others by an infinite time."""
    return jnp.isfinite(state.ts)


@final
class SavedCotangents(eqx.Module):
    """The cotangents of states in the slots of one buffer, zero where a slot was not filled.

    `interior`: whether states between the ends of steps may have been saved.
    """

    ts: Shaped[Array, " slots"]
    filled: Bool[Array, " slots"]
    ys_bar: Float[Array, "slots n"]
    interior: bool = eqx.field(static=True)


def saved_cotangents(
    state: SaveState, sub: diffrax.SubSaveAt, ys_bar: PyTree[Array]
) -> SavedCotangents:
    """Flattens the cotangents of saved states."""
    filled = is_filled(state)
    rows = jax.vmap(lambda y: ravel_pytree(y)[0])(ys_bar)
    rows = jnp.where(filled[:, None], rows, 0)
    return SavedCotangents(state.ts, filled, rows, sub.ts is not None)


def step_cotangents(
    record: StepRecord, saved: list[SavedCotangents], num_powers: int
) -> StepCotangents:
    """Gives each saved state to the step that it is a point of.

    Every saved state is a point of some step's polynomial, whichever of `t0`, `ts`, `steps` and
    `t1` asked for it: its time alone says which point.
    """
    y, _ = ravel_pytree(record.y_end)
    steps = record.t1.size
    nodes, coefficients = jnp.zeros((steps + 1, y.size), y.dtype), None
    if any(one.interior for one in saved):
        coefficients = jnp.zeros((steps, num_powers, y.size), y.dtype)
    for one in saved:
        k, theta = record.place(one.ts)
        theta = jnp.where(one.filled, theta, 0).astype(y.dtype)
        at_end = theta >= 1
        nodes = nodes.at[k + at_end].add(one.ys_bar)
        if coefficients is not None:
            powers = theta[:, None] ** jnp.arange(1, num_powers + 1)
            powers = jnp.where(at_end[:, None], 0, powers)
            coefficients = coefficients.at[k].add(powers[..., None] * one.ys_bar[:, None])
    return StepCotangents(nodes, coefficients)


def pull_through_fn(
    fn: Callable,
    state: SaveState,
    ys: PyTree[Array],
    args: PyTree,
    wanted: tuple[PyTree, PyTree],
    cotangents: PyTree,
) -> tuple[PyTree[Array], PyTree, PyTree]:
    """Pulls cotangents of saved `fn(t, y, args)` back to `y`, `args` and what `fn` closes over."""
    filled = is_filled(state)
    # Slots never filled repeat the first one, where zero times what `fn` does is zero.
    rows = jnp.where(filled, jnp.arange(filled.size), 0)
    ts, ys = state.ts[rows], jax.tree.map(lambda y: y[rows], ys)
    outer, inner = eqx.partition((args, fn), wanted)

    def saved(ys: PyTree[Array], outer: PyTree) -> PyTree:
        args, fn = eqx.combine(outer, inner)
        out = jax.vmap(lambda t, y: fn(t, y, args))(ts, ys)
        return eqx.filter(out, eqx.is_inexact_array)

    def masked(value: Array, cotangent: Array | None) -> Array:
        if cotangent is None:
            return jnp.zeros_like(value)
        return jnp.where(filled.reshape(-1, *(1,) * (value.ndim - 1)), cotangent, 0)

    values, pull = jax.vjp(saved, ys, outer)
    ys_bar, (args_bar, fn_bar) = pull(jax.tree.map(masked, values, cotangents))
    return ys_bar, args_bar, fn_bar
