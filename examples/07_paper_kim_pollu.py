# %% [markdown]
# # Air pollution learned by a scaled network
# The second system of Kim, Ji, Deng, Ma and Rackauckas (Chaos 31, 093122, 2021): POLLU, 20 species,
# 20 samples over an hour; three hidden layers of ten GELU units (650 parameters), rates scaled by
# the ranges of the species, gradients rescaled to the norm 100, AdamW for 25,000 epochs.
#
#     python examples/07_paper_kim_pollu.py [--seeds 0] [--epochs 25000]

# %%
import argparse
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


# %% The data: one run, 20 samples evenly spaced in time.
def pollu(points=20):
    problem = srx.problems.pollution()
    ts = np.linspace(0.0, 60.0, points)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.RadauIIA9(),
        t0=0.0,
        t1=60.0,
        dt0=None,
        y0=jnp.asarray(problem.y0),
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-14),
    )
    return srx.Trajectories.from_arrays(ts, np.asarray(solution.ys))


# %% The network, with the starting weights of the paper's library: Glorot's, and no bias.
def network(key, states=20, width=10, depth=3):
    net = eqx.nn.MLP(states, states, width, depth, jax.nn.gelu, key=key)
    keys = jax.random.split(key, len(net.layers))
    glorot = jax.nn.initializers.glorot_uniform()
    weights = [glorot(k, layer.weight.shape) for k, layer in zip(keys, net.layers, strict=True)]
    biases = [jnp.zeros_like(layer.bias) for layer in net.layers]
    net = eqx.tree_at(lambda net: [layer.weight for layer in net.layers], net, weights)
    return eqx.tree_at(lambda net: [layer.bias for layer in net.layers], net, biases)


# %% Model, loss and training.
def train(data, seed, epochs):
    scaling = srx.Scaling.from_data(data, kind="range")
    net = network(jax.random.key(seed))
    model = srx.ScaledField(net, scaling.y_scale, scaling.t_scale)
    loss = srx.TrajectoryLoss(
        srx.RadauIIA5(), srx.ScaledMAE(scaling.y_scale), rtol=1e-3, atol=1e-6, max_steps=512
    )
    # The paper's library subtracts the decay, 1e-6, without the learning rate.
    optimizer = optax.chain(
        optax.normalize_by_update_norm(100.0, eps=1e-30),
        optax.adamw(0.005, weight_decay=1e-6 / 0.005),
    )
    return loss, srx.fit(model, data, loss, optimizer=optimizer, steps=epochs)


# %% The figure: every species, and the loss.
def show(result, data, loss, path):
    ts = data.ts[0, 1:]
    predicted = loss.predict(result.model, data)[0]
    axes = srx.plots.trajectories(data, {"neural ODE": (ts, predicted)})
    axes[0].figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description="Air pollution, a scaled neural ODE.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=25_000)
    parser.add_argument("--figure", default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    data = pollu()
    for seed in arguments.seeds:
        start = time.perf_counter()
        loss, result = train(data, seed, arguments.epochs)
        seconds, values = time.perf_counter() - start, result.history.loss
        for epoch in (m for m in (1, 1000, 5000, 10_000, 20_000) if m <= len(values)):
            print(f"seed {seed}, epoch {epoch:6}: loss {values[epoch - 1]:.4g}")
        print(
            f"seed {seed}: best {np.nanmin(values):.5f}, mean of the last 1000 "
            f"{np.nanmean(values[-1000:]):.5f}, {seconds:.0f} s, {result.num_skipped} skipped",
            flush=True,
        )
    show(result, data, loss, arguments.figure)


if __name__ == "__main__":
    main()
