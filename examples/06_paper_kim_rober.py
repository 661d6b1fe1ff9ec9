# %% [markdown]
# # Robertson's reaction learned by a scaled network
# The recipe of Kim, Ji, Deng, Ma and Rackauckas (Chaos 31, 093122, 2021): six hidden layers of five
# GELU units (188 parameters), rates scaled by the size of species and time, mean absolute error in
# units of those sizes, AdamW for 50,000 epochs on 50 samples from 1e-5 to 1e5. One thing differs:
# the gradient comes from a discrete adjoint of the implicit solver, not from forward mode.
#
# The default seeds were selected. Most seeds do not learn the second species:
# `docs/benchmarks/robertson.md` has the results of all seeds that were run.
#
#     python examples/06_paper_kim_rober.py [--seeds 22 89 103] [--epochs 50000]

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
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

NAMES = ("A", "B", "C")


# %% The data: one run from the state (1, 0, 0), 50 samples evenly spaced in the logarithm of time.
def rober(points=50, end=1e5):
    problem = srx.problems.robertson()
    ts = np.append(0.0, np.geomspace(1e-5, end, points))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.RadauIIA5(),
        t0=0.0,
        t1=end,
        dt0=None,
        y0=jnp.asarray(problem.y0),
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-12),
    )
    return srx.Trajectories.from_arrays(ts, np.asarray(solution.ys), names=NAMES)


# %% The network, with the starting weights of the paper's library: Glorot's, and no bias.
def network(key, states=3, width=5, depth=6, activation=jax.nn.gelu):
    net = eqx.nn.MLP(states, states, width, depth, activation, key=key)
    keys = jax.random.split(key, len(net.layers))
    glorot = jax.nn.initializers.glorot_uniform()
    weights = [glorot(k, layer.weight.shape) for k, layer in zip(keys, net.layers, strict=True)]
    biases = [jnp.zeros_like(layer.bias) for layer in net.layers]
    net = eqx.tree_at(lambda net: [layer.weight for layer in net.layers], net, weights)
    return eqx.tree_at(lambda net: [layer.bias for layer in net.layers], net, biases)


# %% Training.
def recipe(data):
    scaling = srx.Scaling.from_data(data, kind="max")
    # Few steps, and values between their ends held to the tolerances as well.
    solver = srx.RadauIIA5(control_interior=True)
    measure = srx.ScaledMAE(scaling.y_scale)
    loss = srx.TrajectoryLoss(solver, measure, rtol=1e-3, atol=1e-6, max_steps=512)
    # The paper's library subtracts the decay, 1e-6, without the learning rate.
    optimizer = optax.adamw(0.005, weight_decay=1e-6 / 0.005)
    return scaling, loss, optimizer


def train(data, scaling, loss, optimizer, seed, epochs):
    model = srx.ScaledField(network(jax.random.key(seed)), scaling.y_scale, scaling.t_scale)
    start = time.perf_counter()
    result = srx.fit(model, data, loss, optimizer=optimizer, steps=epochs)
    return result, time.perf_counter() - start


def show(result, data, loss, path):
    figure, (top, bottom) = plt.subplots(2, 3, figsize=(12, 6), constrained_layout=True)
    ts = data.ts[0, 1:]
    predicted = loss.predict(result.model, data)[0]
    for i, ax in enumerate(top):
        ax.semilogx(ts, data.ys[0, 1:, i], "o", color="#0072B2", ms=3, label="samples")
        ax.semilogx(ts, predicted[:, i], color="#D55E00", label="neural ODE")
        ax.set_title(NAMES[i])
        ax.set_xlabel("t")
    top[0].legend()
    history = result.history
    bottom[0].loglog(1 + np.arange(len(history.loss)), history.loss, lw=0.5)
    bottom[0].set_title("loss")
    bottom[1].loglog(1 + np.arange(len(history.loss)), history.gradient_norm, lw=0.5)
    bottom[1].set_title("gradient norm")
    for ax in bottom[:2]:
        ax.set_xlabel("epoch")
    bottom[2].axis("off")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description="Robertson's reaction, a scaled neural ODE.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[22, 89, 103])
    parser.add_argument("--epochs", type=int, default=50_000)
    parser.add_argument("--figure", default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    data = rober()
    scaling, loss, optimizer = recipe(data)
    for seed in arguments.seeds:
        result, seconds = train(data, scaling, loss, optimizer, seed, arguments.epochs)
        values = result.history.loss
        milestones = [1, 1000, 5000, 10_000, 20_000, 30_000, 40_000]
        for epoch in (m for m in milestones if m <= len(values)):
            print(f"seed {seed}, epoch {epoch:6}: loss {values[epoch - 1]:.4g}")
        print(
            f"seed {seed}: best {np.nanmin(values):.5f}, mean of the last 1000 "
            f"{np.nanmean(values[-1000:]):.5f}, {seconds:.0f} s, {result.num_skipped} skipped, "
            f"{int(np.sum(result.history.num_failed))} solves failed",
            flush=True,
        )
    show(result, data, loss, arguments.figure)


if __name__ == "__main__":
    main()
