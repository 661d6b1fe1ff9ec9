"""Batches of predictions."""

from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from .._trees import along_rows, passing_on
from ._implicit_runge_kutta import AbstractImplicitRungeKutta

Out = TypeVar("Out")


def predict_lanes(
    predict: Callable[..., Out], *lanes: Any, solver: diffrax.AbstractSolver | None = None
) -> Out:
    """`jax.vmap(predict)(*lanes)`, in which a lane that is not finite passes no derivative on.

    No error of such a lane counts, but zero times its infinite derivative is NaN, and the derivative
    by parameters is a sum over lanes. In its place a healthy lane is predicted once more, whose
    derivative is then zero. Our implicit solvers need none of this: theirs is of the equations, not
    of the iteration.

    Cost: one more prediction, which finds the lanes. A pull-back that is repeated only where it was
    not finite costs less, and cannot be pulled back again.
    """
    if isinstance(solver, AbstractImplicitRungeKutta):
        return jax.vmap(predict)(*lanes)
    once = lax.stop_gradient(jax.vmap(predict)(*lanes))
    failed = _not_finite(once)
    again = predict_healthy(predict, failed, lanes, once)
    return jax.tree.map(lambda x, y: jnp.where(along_rows(failed, x), x, y), once, again)


def predict_healthy(
    predict: Callable[..., Out], failed: Bool[Array, " lanes"], lanes: Any, otherwise: Out
) -> Out:
    """`jax.vmap(predict)(*lanes)`, the first healthy lane in place of each that has failed.

    `otherwise` where all have failed, so that nothing can stand in.
    """
    healthy, none = jnp.argmin(failed), jnp.all(failed)

    chosen = jax.tree.map(lambda x: jnp.where(along_rows(failed, x), x[healthy][None], x), lanes)
    closed = eqx.filter_closure_convert(predict, *jax.tree.map(lambda x: x[0], lanes))
    # Under `vmap` both branches are taken.
    closed, chosen = passing_on((closed, chosen), ~none)
    batch = jax.vmap(lambda lane: closed(*lane))
    return lax.cond(none, lambda _: otherwise, batch, chosen)


def _not_finite(values: Any) -> Bool[Array, " lanes"]:
    leaves = [jnp.isfinite(x).reshape(len(x), -1) for x in jax.tree.leaves(values)]
    return ~jnp.all(jnp.concatenate(leaves, axis=1), axis=1)
