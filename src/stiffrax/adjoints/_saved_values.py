"""Saved values as points of the steps that made them."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..diffrax_loop import SavedValues, StepRecord


@final
class SavedPlaces(eqx.Module):
    """Where the slots of one buffer lie: in which step, and at what fraction of it.

    Every saved state is a point of some step's polynomial, whichever of `t0`, `ts`, `steps` and
    `t1` asked for it: its time alone says which point.

    - `filled`: which slots hold a value.
    - `interior`: whether states between the ends of steps may have been saved.
    - `by_step`: whether there may be as many slots as steps.
    """

    ts: Shaped[Array, " slots"]
    step: Int[Array, " slots"]
    fraction: Float[Array, " slots"]
    filled: Bool[Array, " slots"]
    interior: bool = eqx.field(static=True)
    by_step: bool = eqx.field(static=True)

    def read(
        self,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        base: Any,
    ) -> Float[Array, "slots n"]:
        """The states of the slots that lie in the steps from `base` on; zero in the others.

        `nodes` are the states at the starts of the steps and at the last end.
        """
        k = self.step - jnp.asarray(base).astype(self.step.dtype)
        within = self.filled & (k >= 0) & (k < len(nodes) - 1)
        k = jnp.clip(k, 0, len(nodes) - 2)
        at_end = self.fraction >= 1
        ys = nodes[k + at_end.astype(k.dtype)]
        if polynomials is not None and self.interior:
            _, *powers = powers_of(self.fraction, polynomials.shape[1])
            weights = jnp.where(at_end[:, None], 0, jnp.stack(powers, axis=1))
            ys = ys + jnp.sum(weights[..., None] * polynomials[k], axis=1)
        return jnp.where(within[:, None], ys, 0)


def powers_of(theta: Float[Array, " slots"], degree: int) -> list[Float[Array, " slots"]]:
    """The powers from zero to `degree`; by products, for `0 ** 0` has the derivative NaN."""
    powers = [jnp.ones_like(theta)]
    for _ in range(degree):
        powers.append(powers[-1] * theta)
    return powers


def saved_places(
    record: StepRecord,
    saved: SavedValues,
    sub: diffrax.SubSaveAt,
    dtype: Any,
    *,
    may_stop: bool = False,
) -> SavedPlaces:
    """Finds the step of every slot; a solve that `may_stop` at an event ends within a step."""
    k, theta = record.place(saved.ts)
    # A solve of no length has no step for a slot to be in.
    k = jnp.where(record.count > 0, k, -1)
    theta = jnp.where(saved.filled, theta, 0).astype(dtype)
    interior = may_stop or sub.ts is not None
    by_step = sub.steps != 0 or saved.ts.size >= record.t0.size
    return SavedPlaces(saved.ts, k, theta, saved.filled, interior=interior, by_step=by_step)
