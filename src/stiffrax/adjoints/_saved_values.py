"""From the cotangents of saved values to cotangents of the steps that made them."""

from collections.abc import Callable
from typing import final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from ..diffrax_loop import SavedValues, StepRecord


@final
class StepCotangents(eqx.Module):
    """What a loss of saved values says of each step.

    `nodes[k]` belongs to the state at the start of step `k`, which is the end of step `k - 1`;
    `coefficients[k]` to the polynomial of step `k`, and is `None` where nothing was saved between
    the ends of steps.
    """

    nodes: Float[Array, "steps_plus_1 n"]
    coefficients: Float[Array, "steps s n"] | None


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
    saved: SavedValues, sub: diffrax.SubSaveAt, ys_bar: PyTree[Array]
) -> SavedCotangents:
    """Flattens the cotangents of saved states."""
    rows = jax.vmap(lambda y: ravel_pytree(y)[0])(ys_bar)
    rows = jnp.where(saved.filled[:, None], rows, 0)
    return SavedCotangents(saved.ts, saved.filled, rows, sub.ts is not None)


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
        nodes = nodes.at[k + at_end.astype(k.dtype)].add(one.ys_bar)
        if coefficients is not None:
            powers = theta[:, None] ** jnp.arange(1, num_powers + 1, dtype=theta.dtype)[None]
            powers = jnp.where(at_end[:, None], 0, powers)
            coefficients = coefficients.at[k].add(powers[..., None] * one.ys_bar[:, None])
    return StepCotangents(nodes, coefficients)


def cotangents_through_fn(
    fn: Callable,
    saved: SavedValues,
    ys: PyTree[Array],
    args: PyTree,
    wanted: tuple[PyTree, PyTree],
    cotangents: PyTree,
) -> tuple[PyTree[Array], PyTree, PyTree]:
    """Pulls cotangents of saved `fn(t, y, args)` back to `y`, `args` and what `fn` closes over."""
    filled = saved.filled
    # Slots never filled repeat the first one, where zero times what `fn` does is zero.
    rows = jnp.where(filled, jnp.arange(filled.size), 0)
    ts, ys = saved.ts[rows], jax.tree.map(lambda y: y[rows], ys)
    outer, inner = eqx.partition((args, fn), wanted)

    def values_of(ys: PyTree[Array], outer: PyTree) -> PyTree:
        args, fn = eqx.combine(outer, inner)
        out = jax.vmap(lambda t, y: fn(t, y, args))(ts, ys)
        return eqx.filter(out, eqx.is_inexact_array)

    def masked(value: Array, cotangent: Array | None) -> Array:
        if cotangent is None:
            return jnp.zeros_like(value)
        return jnp.where(filled.reshape(-1, *(1,) * (value.ndim - 1)), cotangent, 0)

    values, pull = jax.vjp(values_of, ys, outer)
    ys_bar, (args_bar, fn_bar) = pull(jax.tree.map(masked, values, cotangents))
    return ys_bar, args_bar, fn_bar
