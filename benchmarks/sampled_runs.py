"""Simulated samples that the benchmarks of recovery share."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

# From the fast to the slow times of Robertson's reaction.
ROBER_STARTS = [[1.0, 0, 0], [0.6, 0, 0.1], [1.3, 1e-5, 0.4], [0.3, 3e-5, 0.9], [0.8, 0, 0.5]]


def sampled_runs(field: Callable, starts: Any, ts: np.ndarray) -> np.ndarray:
    """Accurate samples of all runs, `(runs, times, n)`."""

    def run(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.RadauIIA13(),
            t0=0.0,
            t1=ts[-1],
            dt0=ts[1] / 10,
            y0=y0,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.ClipStepSizeController(
                diffrax.PIDController(rtol=1e-10, atol=1e-16), step_ts=ts
            ),
            max_steps=100_000,
        ).ys

    return np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(starts)))
