"""What `SaveAt` keeps of a solve."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped

from ._private_names import SaveState, save_y


@final
class SavedValues(eqx.Module):
    """The slots of one buffer: times, and what `SaveAt(fn=...)` gave at them."""

    ts: Shaped[Array, " slots"]
    ys: PyTree[Array]

    @property
    def filled(self) -> Bool[Array, " slots"]:
        """Which slots hold a value; diffrax marks the others by an infinite time."""
        return jnp.isfinite(self.ts)


def _is_sub(x: Any) -> bool:
    return isinstance(x, diffrax.SubSaveAt)


def _is_save_state(x: Any) -> bool:
    return isinstance(x, SaveState)


def subs_of(saveat: diffrax.SaveAt) -> list[diffrax.SubSaveAt]:
    """Everything that is saved, as a flat list."""
    return jax.tree.leaves(saveat.subs, is_leaf=_is_sub)


def _buffers(state: Any) -> list[Any]:
    return jax.tree.leaves(state.save_state, is_leaf=_is_save_state)


def saved_values(final_state: Any) -> list[SavedValues]:
    """The slots of everything that is saved, in the order of `subs_of`."""
    return [SavedValues(buffer.ts, buffer.ys) for buffer in _buffers(final_state)]


def saved_ys(final_state: Any) -> list[PyTree]:
    """The values alone, or their cotangents in the cotangent of a final state."""
    return [buffer.ys for buffer in _buffers(final_state)]


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


def with_room_for_states(init_state: Any, fns: list[Callable | None]) -> Any:
    """Makes room in diffrax's buffers for what `and_state` saves."""

    def room(buffer: SaveState, fn: Callable | None) -> SaveState:
        if fn is None:
            return buffer
        slots = buffer.ts.shape[0]
        states = jax.tree.map(lambda y: jnp.zeros((slots, *y.shape), y.dtype), init_state.y)
        return eqx.tree_at(lambda s: s.ys, buffer, (buffer.ys, states))

    return _map_buffers(room, init_state, fns)


def split_states(final_state: Any, fns: list[Callable | None]) -> tuple[Any, list[PyTree]]:
    """The buffers as the caller asked for them, and the states at which each `fn` was called."""

    def plain(buffer: SaveState, fn: Callable | None) -> SaveState:
        return buffer if fn is None else eqx.tree_at(lambda s: s.ys, buffer, buffer.ys[0])

    pairs = zip(_buffers(final_state), fns, strict=True)
    states = [None if fn is None else buffer.ys[1] for buffer, fn in pairs]
    return _map_buffers(plain, final_state, fns), states


def _kept(state: Any) -> list:
    """What a solution returns of the loop that derivatives reach: with an array in it."""
    return list(filter(jax.tree.leaves, _returned(state)))


def _returned(state: Any) -> list:
    buffers = _buffers(state)
    saved = [buffer.ts for buffer in buffers] + [buffer.ys for buffer in buffers]
    return saved if state.dense_ts is None else [*saved, state.dense_ts, state.dense_infos]


def with_tangents(
    final_state: Any,
    ts: list[Array | None],
    ys: list[PyTree],
    dense: tuple[PyTree, PyTree, tuple[Array, Array] | None] | None,
) -> Any:
    """The tangent of a final state: of saved times and values, and of dense output; else `None`.

    `dense` holds the tangents of starts, of polynomials and of both ends of all steps.
    """
    tangents = [*ts, *ys]
    if dense is not None:
        nodes, coefficients, ends = dense
        dense_ts = None if ends is None else jnp.concatenate([ends[0][:1], ends[1]])
        tangents += [dense_ts, {"y0": nodes, "coefficients": coefficients}]
    arrays = eqx.filter(final_state, eqx.is_array)
    pairs = zip(_returned(arrays), tangents, strict=True)
    marked = eqx.tree_at(_kept, arrays, [_Tangent(x) for kept, x in pairs if jax.tree.leaves(kept)])
    return jax.tree.map(
        lambda x: x.tangent if isinstance(x, _Tangent) else None, marked, is_leaf=_is_tangent
    )


class _Tangent:
    def __init__(self, tangent: Any):
        self.tangent = tangent


def _is_tangent(x: Any) -> bool:
    return isinstance(x, _Tangent)


def only_transpose_saved(final_state: Any) -> Any:
    """Refuses the gradient of anything that a solve returns beside what it saves."""
    frozen = eqxi.nondifferentiable_backward(
        final_state, name="What a solve returns beside its saved values", symbolic=False
    )
    return eqx.tree_at(_kept, frozen, _kept(final_state))


def _map_buffers(function: Callable, state: Any, fns: list[Callable | None]) -> Any:
    if not fns:
        return state
    structure = jax.tree.structure(state.save_state, is_leaf=_is_save_state)
    pairs = zip(_buffers(state), fns, strict=True)
    new = jax.tree.unflatten(structure, [function(buffer, fn) for buffer, fn in pairs])
    return eqx.tree_at(lambda s: s.save_state, state, new)
