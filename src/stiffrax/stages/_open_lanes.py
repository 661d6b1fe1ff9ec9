"""Loops over a batch that lanes leave when they are done."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, PyTree

# The share of a batch to which the lanes still open are packed together, and the least number of
# lanes for which gathering them costs less than it saves.
_SHARE = 8
_FEWEST_LANES = 8 * _SHARE


def while_open(
    is_open: Callable[[PyTree, PyTree], Bool[Array, ""]],
    body: Callable[[PyTree, PyTree], PyTree],
    fixed: PyTree,
    carry: PyTree[Array],
) -> PyTree[Array]:
    """`lax.while_loop` for one lane; in a batch, the last few lanes do not keep the others waiting.

    A batched `lax.while_loop` repeats its body for every lane until the slowest is done. Here the
    lanes that are open are gathered as soon as they are an eighth of the batch.

    **Arguments:**

    - `is_open`, `body`: called as `is_open(fixed, carry)` and `body(fixed, carry)`; neither may
      close over arrays.
    - `fixed`: everything else they need.
    - `carry`: what the loop changes.
    """
    arrays, rest = eqx.partition(fixed, eqx.is_array)
    leaves, structure = jax.tree.flatten((arrays, carry))

    def unflatten(leaves: list[Array]) -> tuple[PyTree, PyTree]:
        arrays, carry = jax.tree.unflatten(structure, leaves)
        return eqx.combine(arrays, rest), carry

    num_fixed = len(jax.tree.leaves(arrays))

    def still_open(leaves: list[Array]) -> Array:
        return is_open(*unflatten(leaves))

    def loop(leaves: list[Array]) -> list[Array]:
        fixed, carry = unflatten(leaves)
        carry = lax.while_loop(lambda c: is_open(fixed, c), lambda c: body(fixed, c), carry)
        return jax.tree.leaves(carry)

    def once(leaves: list[Array]) -> list[Array]:
        fixed, carry = unflatten(leaves)
        stepped = body(fixed, carry)
        open_ = is_open(fixed, carry)
        return jax.tree.leaves(jax.tree.map(lambda a, b: jnp.where(open_, a, b), stepped, carry))

    one_lane = jax.custom_batching.custom_vmap(loop)

    @one_lane.def_vmap
    def _(axis_size: int, in_batched: Any, leaves: list[Any]) -> tuple[list[Array], list[bool]]:
        # Within another loop constants come as plain numbers.
        (batched,) = in_batched
        leaves = [jnp.asarray(x) for x in leaves]
        leaves = [
            x if is_batched or k < num_fixed else jnp.broadcast_to(x, (axis_size, *x.shape))
            for k, (x, is_batched) in enumerate(zip(leaves, batched, strict=True))
        ]
        axes = [0 if b or k >= num_fixed else None for k, b in enumerate(batched)]
        fixed, carry = leaves[:num_fixed], leaves[num_fixed:]
        all_batched = [True] * len(carry)
        if axis_size < _FEWEST_LANES:
            return jax.vmap(loop, (axes,))(leaves), all_batched
        carry = _packed(still_open, once, one_lane, axes, fixed, carry, axis_size)
        return carry, all_batched

    carry_structure = jax.tree.structure(carry)
    return jax.tree.unflatten(carry_structure, one_lane(leaves))


def _packed(
    still_open: Callable,
    once: Callable,
    loop: Callable,
    axes: list[int | None],
    fixed: list[Array],
    carry: list[Array],
    axis_size: int,
) -> list[Array]:
    room = axis_size // _SHARE
    opened = jax.vmap(still_open, (axes,))

    def count(carry: list[Array]) -> Array:
        return jnp.sum(opened([*fixed, *carry]))

    def everyone(carry: list[Array]) -> list[Array]:
        return jax.vmap(once, (axes,))([*fixed, *carry])

    def some(carry: list[Array]) -> list[Array]:
        (lanes,) = jnp.nonzero(opened([*fixed, *carry]), size=room, fill_value=axis_size)
        take = lambda x: jnp.take(x, lanes, axis=0, mode="clip")  # noqa: E731
        packed = [
            take(x) if axis == 0 else x for x, axis in zip([*fixed, *carry], axes, strict=True)
        ]
        results = jax.vmap(loop, (axes,))(packed)
        return [x.at[lanes].set(r, mode="drop") for x, r in zip(carry, results, strict=True)]

    carry = lax.while_loop(lambda c: count(c) > room, everyone, carry)
    return lax.while_loop(lambda c: count(c) > 0, some, carry)
