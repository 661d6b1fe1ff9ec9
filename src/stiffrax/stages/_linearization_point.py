"""Where a failed step is differentiated, so that it does not disturb the others in its batch."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ._slope_system import SlopeSystem
from ._stage_system import StageSystem

System = TypeVar("System", StageSystem, SlopeSystem)


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
            jnp.where(stays.reshape(-1, *(1,) * (x.ndim - 1)), x, x[lender]) if batched else x
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
        jnp.where(k.reshape(*k.shape, *(1,) * (x.ndim - k.ndim)), x, other)
        for k, x, other in zip(keep, leaves, lent, strict=True)
    ]


def linearization_point(
    system: System, Z: Float[Array, "m n"], ok: Bool[Array, ""]
) -> tuple[System, Float[Array, "m n"]]:
    """The system and stages themselves where `ok`, else others at which derivatives are finite.

    A cotangent of zero times a derivative that is not finite is not finite: to mask the result of
    a failed lane is too late, the point at which the vector field is linearized must be changed.
    Under `vmap` a failed lane takes that of a healthy lane. Alone, it takes the start of the step,
    or a state of all ones if the vector field fails there as well.
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
