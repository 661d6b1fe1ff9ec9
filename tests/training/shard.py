"""Trains with and without a mesh of all devices, and writes how far apart the two end.

Started by a test in processes of its own: the number of devices is fixed when JAX starts.
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 2:
    port, process = map(int, sys.argv[2:])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)


class Decay(eqx.Module):
    rates: jax.Array

    def __call__(self, t, y, args=None):
        return jnp.stack([-self.rates[0] * y[0], -self.rates[1] * y[1] + y[0] ** 2])


def train(loss, mesh, **options):
    return srx.fit(
        Decay(jnp.array([0.5, 20.0])),
        srx.Trajectories.from_arrays(ts, ys),
        loss,
        optimizer=optax.adam(0.05),
        steps=12,
        held_out=[4],
        judge_every=5,
        mesh=mesh,
        progress=False,
        **options,
    )


# Eleven runs to train on: no multiple of the number of devices.
ts = np.linspace(0.0, 1.0, 5)
starts = np.random.default_rng(0).uniform(0.5, 2.0, (12, 1, 2))
ys = starts * np.exp(-np.outer(ts, [1.0, 3.0]))
mesh = jax.make_mesh((len(jax.devices()),), ("runs",))
cases = {
    "segments": (srx.SegmentLoss(srx.RadauIIA3()), {}),
    "trajectories": (srx.TrajectoryLoss(srx.RadauIIA3(), max_steps=256), {}),
    "minibatches": (srx.SegmentLoss(srx.RadauIIA3()), {"batch_size": 16}),
}
for name in sys.argv[1].split(","):
    loss, options = cases[name]
    many, one = train(loss, mesh, **options), train(loss, None, **options)
    distance = np.max(np.abs(np.asarray(many.last_model.rates) - one.last_model.rates))
    judged = np.max(np.abs(many.history.held_out_loss - one.history.held_out_loss))
    moved = np.max(np.abs(one.last_model.rates - np.array([0.5, 20.0])))
    sys.stdout.write(f"{name} {len(jax.devices())} {distance:.1e} {judged:.1e} {moved:.1e}\n")
    sys.stdout.flush()
