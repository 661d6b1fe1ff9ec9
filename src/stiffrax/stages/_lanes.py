"""Lanes of a batch."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._trees import along_rows, select

# The share of a batch to which the lanes still open are packed together, and the least number of
# lanes for which gathering them costs less than it saves. Chosen, not measured.
_SHARE = 8
_FEWEST_LANES = 8 * _SHARE


def while_open(
    is_open: Callable[[PyTree, PyTree], Bool[Array, ""]],
    body: Callable[[PyTree, PyTree], PyTree],
    fixed: PyTree,
    carry: PyTree[Array],
    few: bool = False,
) -> PyTree[Array]:
    """`lax.while_loop` for one lane; in a batch, the last few lanes do not keep the others waiting.

    A batched `lax.while_loop` repeats its body for every lane until the slowest is done. Here the
    lanes that are open are gathered as soon as they are an eighth of the batch.

    **Arguments:**

    - `is_open`, `body`: functions of `fixed` and `carry`; neither may close over arrays.
    - `few`: whether few lanes are open from the start. They are gathered at once, an eighth of the
      batch at a time, and `body` is compiled once instead of twice.
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
        return jax.tree.leaves(select(is_open(fixed, carry), stepped, carry))

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
        step_all = None if few else once
        carry = _packed(still_open, step_all, one_lane, axes, fixed, carry, axis_size)
        return carry, all_batched

    carry_structure = jax.tree.structure(carry)
    return jax.tree.unflatten(carry_structure, one_lane(leaves))


def _packed(
    still_open: Callable,
    once: Callable | None,
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

    def some(carry: list[Array]) -> list[Array]:
        (lanes,) = jnp.nonzero(opened([*fixed, *carry]), size=room, fill_value=axis_size)
        packed = [
            jnp.take(x, lanes, axis=0, mode="clip") if axis == 0 else x
            for x, axis in zip([*fixed, *carry], axes, strict=True)
        ]
        results = jax.vmap(loop, (axes,))(packed)
        return [x.at[lanes].set(r, mode="drop") for x, r in zip(carry, results, strict=True)]

    if once is not None:
        everyone = jax.vmap(once, (axes,))
        carry = lax.while_loop(lambda c: count(c) > room, lambda c: everyone([*fixed, *c]), carry)
    return lax.while_loop(lambda c: count(c) > 0, some, carry)


# The equations of any engine's stages.
System = TypeVar("System", bound=Any)


@jax.custom_batching.custom_vmap
def _lend(ok: Array, keep: list[Array], leaves: list[Array]) -> tuple[list[Array], list[Array]]:
    """For each leaf, whether it is kept, and what is lent otherwise."""
    del ok
    return keep, leaves


@_lend.def_vmap
def _(
    axis_size: int, in_batched: Any, ok: Array, keep: list[Array], leaves: list[Array]
) -> tuple[tuple[list[Array], list[Array]], tuple[list[bool], list[bool]]]:
    del axis_size
    ok_batched, keep_batched, leaves_batched = in_batched
    if ok_batched:
        lender, stays = jnp.argmax(ok), ok | ~jnp.any(ok)
        leaves = [
            jnp.where(along_rows(stays, x), x, x[lender]) if batched else x
            for x, batched in zip(leaves, leaves_batched, strict=True)
        ]
        # What all lanes share, a model's parameters, the lender shares as well. Selected for each
        # lane it would be copied for each, and a product with it be one product a lane.
        keep_batched = [b or k.ndim > 1 for b, k in zip(leaves_batched, keep, strict=True)]
        keep = [k if b else jnp.any(k) for b, k in zip(keep_batched, keep, strict=True)]
        ok = jnp.any(ok)
    # Once more, for the batch that this batch is in.
    return _lend(ok, keep, leaves), (keep_batched, leaves_batched)


def _borrow_from_healthy_lane(ok: Array, leaves: list[Array]) -> list[Array]:
    # What is lent is a point, not a dependence. Not by a custom derivative of `_lend`: linearizing
    # a scan drops such rules, and second derivatives then differentiate `_lend` itself.
    ok = lax.stop_gradient(ok)
    keep, lent = _lend(ok, [ok] * len(leaves), lax.stop_gradient(leaves))
    return [
        jnp.where(along_rows(k, x), x, other)
        for k, x, other in zip(keep, leaves, lent, strict=True)
    ]


def linearization_point(
    system: System, Z: Float[Array, "m n"], ok: Bool[Array, ""]
) -> tuple[System, Float[Array, "m n"]]:
    """The system and stages themselves where `ok`, else others at which derivatives are finite.

    A cotangent of zero times a derivative that is not finite is not finite: to mask the result of
    a failed lane is too late, the point at which the vector field is linearized must be changed.
    """
    ones = jnp.ones_like(system.y0)
    start = jax.jvp(lambda y: system.field(system.t0, y), (system.y0,), (ones,))
    start_is_fine = jnp.all(jnp.isfinite(jnp.stack(start)))
    y0 = jnp.where(ok | start_is_fine, system.y0, ones)
    system = eqx.tree_at(lambda s: s.y0, system, y0)
    arrays, rest = eqx.partition((system, jnp.where(ok, Z, 0)), eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    leaves = _borrow_from_healthy_lane(ok, leaves)
    return eqx.combine(jax.tree.unflatten(structure, leaves), rest)
