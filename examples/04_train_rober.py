# %% [markdown]
# # Robertson's reaction learned in half a minute
# A neural ODE is trained on 50 samples over ten decades of time. About as much happens in each
# decade, so the network gets the logarithm of the time. It has two hidden layers of 16 tanh units
# and trains for 3,000 steps of Adam with an annealed learning rate and clipped gradients. The
# recipe of the literature takes 50,000 epochs (`06_paper_kim_rober.py`).

# %%
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
STEPS = 3000

# %% The data: one run from the state (1, 0, 0), 50 samples evenly spaced in the logarithm of time.
problem = srx.problems.robertson()
ts = np.append(0.0, np.geomspace(1e-5, 1e5, 50))
ys = diffrax.diffeqsolve(
    diffrax.ODETerm(problem.vector_field),
    srx.RadauIIA5(),
    t0=0.0,
    t1=1e5,
    dt0=None,
    y0=jnp.asarray(problem.y0),
    saveat=diffrax.SaveAt(ts=ts),
    stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-12),
).ys
data = srx.Trajectories.from_arrays(ts, np.asarray(ys), names=("A", "B", "C"))

# %% Sizes of states and time, model.
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
result = srx.fit(model, data, loss, optimizer=optimizer, steps=STEPS)
seconds = time.perf_counter() - start

# %% The loss once more, with a solve a thousand times as accurate.
accurate = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-6)(result.model, data)
print(f"loss in training {result.loss:.5f}; solved to 1e-6:")
print(f"loss {float(accurate):.5f} after {seconds:.0f} s")

# %% The figure: samples and network, loss and gradient norm.
figure, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
predicted = loss.predict(result.model, data)[0]
srx.plots.trajectories(data, {"neural ODE": (ts[1:], predicted)}, log_time=True, axes=axes[:3])
srx.plots.history(result.history, ax=axes[3])
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
