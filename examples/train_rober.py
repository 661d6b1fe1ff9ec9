# %% [markdown]
# # Robertson's reaction learned in half a minute
# The data of `paper_kim_rober.py`, which needs 50,000 epochs, with a network whose clock is the
# logarithm of the time: as much happens in each of the ten decades. Two hidden layers of 16 tanh
# units, 3,000 steps of Adam with an annealed learning rate and clipped gradients.

# %%
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from paper_kim_rober import rober

import stiffrax as srx

STEPS = 3000

# %% Data, sizes of states and time, model.
data = rober()
scaling = srx.Scaling.from_data(data, kind="max")
start = time.perf_counter()
net = eqx.nn.MLP(4, 3, width_size=16, depth=2, activation=jnp.tanh, key=jax.random.key(0))
model = srx.ScaledField(
    net, scaling.y_scale, scaling.t_scale, states="scaled", log_time=True, floor=1e-8
)

# %% Loss and training; the loss is that of the paper, solved with the tolerance of each species.
measure = srx.ScaledMAE(scaling.y_scale)
loss = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-3, max_steps=256)
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.02, STEPS))
)
result = srx.fit(model, loss, data, optimizer=optimizer, steps=STEPS)
seconds = time.perf_counter() - start

# %% The loss once more, with a solve a thousand times as accurate.
accurate = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-6)(result.model, data)
print(f"loss in training {result.loss:.5f}; solved to 1e-6:")
print(f"loss {float(accurate):.5f} after {seconds:.0f} s")
