"""Robertson's reaction with and without scaling, deep and shallow, tanh and GELU.

The network of the paper that fails (one layer of 50 tanh units, no scaling) is the first row; its
deep one (six layers of five GELU units, rates and errors scaled) the last. Adam at 0.005. A model
is judged by the mean absolute error of each species in units of its largest value, whatever it was
trained by, and their mean. A species is not learned if its error is no less than that of a constant,
the median of its samples. Solves failed are those in training. Run with

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
    result = srx.fit(model, data, loss, optimizer=optax.adam(0.005), steps=epochs)
    exact = srx.TrajectoryLoss(srx.RadauIIA5(), rtol=1e-6, atol=1e-10, max_steps=4096)
    off = np.abs(exact.predict(result.model, data) - data.ys[:, 1:]) / scaling.y_scale
    return np.mean(off, axis=(0, 1)), result


def errors_of_constants(data):
    samples = data.ys[0, 1:] / srx.Scaling.from_data(data, kind="max").y_scale
    return np.mean(np.abs(samples - np.median(samples, axis=0)), axis=0)


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
    constants = errors_of_constants(data)
    print("errors of constants:", ", ".join(f"{error:.4f}" for error in constants))
    print("| layers | units | scaling | A | B | C | mean | not learned | solves failed | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for scaled, (depth, shape), (name, activation) in itertools.product(
        (False, True), DEPTHS.items(), ACTIVATIONS.items()
    ):
        start = time.perf_counter()
        errors, result = train(data, scaled, shape, activation, options.seed, options.epochs)
        seconds = time.perf_counter() - start
        word = "scaled" if scaled else "not"
        failed = int(np.sum(result.history.num_failed))
        species = " | ".join(f"{error:.4g}" for error in errors)
        # Not finite, where the model cannot be solved, is not learned either.
        learned = zip(PAPER.NAMES, errors < constants, strict=True)
        missing = ", ".join(name for name, yes in learned if not yes) or "none"
        print(
            f"| {depth} | {name} | {word} | {species} | {np.mean(errors):.4g} | {missing} "
            f"| {failed} | {seconds:.0f} |",
            flush=True,
        )
        label = f"{depth} {name}, {'scaled' if scaled else 'not scaled'}"
        histories[label] = result.history
    draw(histories)


if __name__ == "__main__":
    main()
