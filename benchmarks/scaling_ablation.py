"""Robertson's reaction with and without scaling, deep and shallow, tanh and GELU.

The network of the paper that fails (one layer of 50 tanh units, no scaling) is the first row; its
deep one (six layers of five GELU units, rates and errors scaled) the last. Adam at 0.005; the loss
shown is the scaled mean absolute error of the best model, whatever it was trained by. Run with

    python benchmarks/scaling_ablation.py [--epochs 10000] [--seed 7]
"""

import argparse
import importlib
import itertools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
PAPER = importlib.import_module("06_paper_kim_rober")
DEPTHS = {"1 x 50": {"width": 50, "depth": 1}, "6 x 5": {"width": 5, "depth": 6}}
ACTIVATIONS = {"tanh": jnp.tanh, "GELU": jax.nn.gelu}


def train(data, scaled, shape, activation, seed, epochs):
    scaling = srx.Scaling.from_data(data, kind="max")
    y_scale = scaling.y_scale if scaled else np.ones(3)
    net = PAPER.network(jax.random.key(seed), activation=activation, **shape)
    model = srx.ScaledField(net, y_scale, scaling.t_scale if scaled else 1.0)
    options = {"rtol": 1e-3, "atol": 1e-6, "max_steps": 512}
    loss = srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMAE(y_scale), **options)
    result = srx.fit(model, loss, data, optimizer=optax.adam(0.005), steps=epochs)
    judge = srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMAE(scaling.y_scale), **options)
    return float(judge(result.model, data)), result


def draw(histories):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, history in histories.items():
        dash = "-" if "scaled" in label and "not" not in label else "--"
        ax.loglog(1 + np.arange(len(history.loss)), history.loss, dash, lw=0.8, label=label)
    ax.set(xlabel="epoch", ylabel="training loss, each in its own units")
    ax.legend(fontsize=7)
    figure.savefig("scaling_ablation.png", dpi=150)
    print("saved scaling_ablation.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    data, histories = PAPER.rober(), {}
    print(f"{'layers':8}{'units':7}{'scaling':9}{'loss':>9}{'failed solves':>15}{'seconds':>9}")
    for scaled, (depth, shape), (name, activation) in itertools.product(
        (False, True), DEPTHS.items(), ACTIVATIONS.items()
    ):
        start = time.perf_counter()
        loss, result = train(data, scaled, shape, activation, options.seed, options.epochs)
        seconds = time.perf_counter() - start
        word = "scaled" if scaled else "not"
        failed = int(np.sum(result.history.num_failed))
        print(f"{depth:8}{name:7}{word:9}{loss:>9.4f}{failed:>15}{seconds:>9.0f}", flush=True)
        label = f"{depth} {name}, {'scaled' if scaled else 'not scaled'}"
        histories[label] = result.history
    draw(histories)


if __name__ == "__main__":
    main()
