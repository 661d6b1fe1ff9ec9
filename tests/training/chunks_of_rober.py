"""Solves Robertson's problem for forty rates on all devices, and prints the ends."""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)


def solve(rate):
    def field(t, y, args):
        slow, fast, back = 0.04 * y[0], rate * y[1] ** 2, 1e4 * y[1] * y[2]
        return jnp.stack([back - slow, slow - back - fast, fast])

    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        40.0,
        None,
        jnp.array([1.0, 0.0, 0.0]),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-10),
        adjoint=srx.DiscreteAdjoint(),
    ).ys[-1]


rates = 10.0 ** np.random.default_rng(0).uniform(6, 8, 40)
mesh = jax.sharding.Mesh(jax.devices(), ("lanes",)) if len(jax.devices()) > 1 else None
ends = srx.solve_in_chunks(
    solve, rates, chunk=8, cost=rates, mesh=mesh, checkpoint=sys.argv[1], progress=False
)
sys.stdout.write(" ".join(f"{x:.17e}" for x in ends.reshape(-1)))
