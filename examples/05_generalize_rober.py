# %% [markdown]
# # Robertson's reaction from unseen initial states
# The papers train on one run and test on that run. Here a network with a logarithmic clock trains
# on 20 initial states and is tested on 20 others.

# %%
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
STEPS = 4000

# %% Forty runs, of which half are kept for the end.
problem = srx.problems.robertson()
ts = np.append(0.0, np.geomspace(1e-5, 1e5, 30))
rng = np.random.default_rng(0)
starts = np.stack([rng.uniform(0.5, 1, 40), np.zeros(40), rng.uniform(0, 0.5, 40)], axis=1)


@jax.vmap
def run(y0):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.RadauIIA5(),
        t0=0.0,
        t1=1e5,
        dt0=None,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-12),
    ).ys


ys = np.asarray(run(jnp.asarray(starts)))
seen = srx.Trajectories.from_arrays(ts, ys[:20], names=("A", "B", "C"))
unseen = srx.Trajectories.from_arrays(ts, ys[20:], names=("A", "B", "C"))

# %% Model and training.
scaling = srx.Scaling.from_data(seen, kind="max")
start = time.perf_counter()
net = eqx.nn.MLP(4, 3, width_size=24, depth=2, activation=jnp.tanh, key=jax.random.key(0))
model = srx.ScaledField(
    net, scaling.y_scale, scaling.t_scale, states="scaled", log_time=True, floor=1e-8
)
measure = srx.ScaledMAE(scaling.y_scale)
loss = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-3, max_steps=256)
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.02, STEPS))
)
result = srx.fit(model, seen, loss, optimizer=optimizer, steps=STEPS)
seconds = time.perf_counter() - start

# %% The figure: the first start that was never seen.
predicted = loss.predict(result.model, unseen)[0]
axes = srx.plots.trajectories(unseen, {"neural ODE": (ts[1:], predicted)}, log_time=True)
path = Path(__file__).with_suffix(".png")
axes[0].figure.savefig(path, dpi=150)
print(f"figure: {path.name}")

# %% Both losses, with a solve a thousand times as accurate.
accurate = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-6)
on_seen, on_unseen = (float(accurate(result.model, data)) for data in (seen, unseen))
print(f"loss {on_seen:.5f} on 20 starts, {on_unseen:.5f} on 20 unseen ones, after {seconds:.0f} s")
