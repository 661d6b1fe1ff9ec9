"""When a run starts, jumps and receives doses: the stretches between which it is solved."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..data import Measurements


@final
class Schedule(eqx.Module):
    """The stretches of every run, and what is added to the state at the start of each.

    **Attributes:**

    - `ends`: start of each stretch, and the end of the last. Stretches may have no length.
    - `doses`: times of doses, infinite where a run has fewer, and `amounts` added to the states.
    - `seen`: what of `amounts` a row at the time of the dose sees; None where rows see nothing.
    - `keeps`: the part of the states that stays, and the one that such a row sees; None where all do.
    """

    ends: Float[Array, "runs ends"]
    doses: Float[Array, "runs doses"]
    amounts: Float[Array, "runs doses n"]
    seen: Float[Array, "runs doses n"] | None
    keeps: Float[Array, "runs 2 doses n"] | None

    def added(self) -> tuple[Array, Array | None, Array | None]:
        """What is added to the state at the start of each stretch, what rows there see, what stays."""
        starts = self.ends[:, :-1]
        # Where several stretches start at one time the last one has a length, and gets the dose.
        last = jnp.append(starts[:, 1:] > starts[:, :-1], jnp.ones_like(starts[:, :1], bool), 1)
        hit = (self.doses[:, None, :] == starts[:, :, None]) & last[:, :, None]
        keeps = None
        if self.keeps is not None:
            keeps = jnp.where(hit[:, :, None, :, None], self.keeps[:, None], 1).prod(axis=3)
        hit = hit.astype(self.amounts.dtype)
        given = self.amounts, self.seen
        added, seen = (None if x is None else jnp.einsum("rsd,rdn->rsn", hit, x) for x in given)
        return jnp.asarray(added), seen, keeps


def make_schedule(data: Measurements, states: tuple[str, ...], jump_ts: Any, n: int) -> Schedule:
    """From the doses and inputs of the data, and jumps of the field."""
    starts = jnp.asarray(data.starts)
    # Also a row without a measured cell is predicted.
    last = jnp.max(jnp.asarray(data.ts), axis=1)
    doses, amounts, seen, keeps = _doses(data, states, n)
    doses = jnp.asarray(doses, starts.dtype)
    jumps = [jnp.asarray(known.jump_ts, starts.dtype) for known in data.inputs.values()]
    jumps.append(jnp.broadcast_to(jnp.asarray(jump_ts, starts.dtype), (len(data), len(jump_ts))))
    inner = jnp.sort(jnp.concatenate([doses, *jumps], axis=1), axis=1)
    inner = jnp.clip(inner, starts[:, None], last[:, None])
    ends = jnp.concatenate([starts[:, None], inner, last[:, None]], axis=1)
    amounts = jnp.asarray(amounts, starts.dtype)
    shown = jnp.where(jnp.asarray(seen)[:, :, None], amounts, 0) if seen.any() else None
    stays = None
    if np.any(keeps != 1):
        stays = np.stack([keeps, np.where(seen[:, :, None], keeps, 1)], axis=1)
        stays = jnp.asarray(stays, starts.dtype)
    return Schedule(ends, doses, amounts, shown, stays)


def _doses(
    data: Measurements, states: tuple[str, ...], n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    own = [[dose for dose in data.doses if dose.run == label] for label in data.run_names]
    most = max(map(len, own))
    times, amounts = np.full((len(own), most), np.inf), np.zeros((len(own), most, n))
    seen, keeps = np.zeros((len(own), most), bool), np.ones((len(own), most, n))
    for i, given in enumerate(own):
        for k, dose in enumerate(given):
            if dose.state not in states:
                raise ValueError(
                    f"`doses` adds to the state {dose.state!r}; the system has the states "
                    f"{states}. Name them in `System(..., states=[...])`."
                )
            place = states.index(dose.state)
            times[i, k], amounts[i, k, place], keeps[i, k, place] = (
                dose.time,
                dose.amount,
                dose.keeps,
            )
            seen[i, k] = dose.seen
    return times, amounts, seen, keeps
