"""The loss along a line in parameter space, for three strengths of the coupling.

The line goes from the initial network of `examples/31_homotopy_lotka_volterra.py` (0) to the
trained one (1) and beyond. Prints the losses and the number of their minima, and draws them.

Usage: `python benchmarks/homotopy_landscape.py [figure.png]`; by default `homotopy_landscape.png` in
the current folder.
"""

import importlib
import pathlib
import sys

import equinox as eqx
import jax
import numpy as np
import optax

import stiffrax as srx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
STRENGTHS = (1.0, 0.5, 0.0)
LINE = np.linspace(-0.5, 1.5, 81)


def losses_on_line():
    """The loss for each strength at each place of the line."""
    example = importlib.import_module("31_homotopy_lotka_volterra")
    data, _ = example.samples(10)
    start = example.black_box(jax.random.key(10))
    loss = srx.HomotopyLoss(example.TRAJECTORY, 6.0, alpha=1e-3).for_data(data)
    end = srx.fit_homotopy(start, data, loss, optimizer=optax.adamw(0.05)).model
    (a, static), (b, _) = (eqx.partition(model, eqx.is_inexact_array) for model in (start, end))

    @eqx.filter_jit
    def value(place, strength):
        between = jax.tree.map(lambda x, y: x + place * (y - x), a, b)
        return loss.with_strength(strength)(eqx.combine(between, static), data)

    return np.array([[float(value(x, s)) for x in LINE] for s in STRENGTHS])


def draw(values, path):
    import matplotlib.pyplot as plt

    for strength, row in zip(STRENGTHS, values, strict=True):
        plt.semilogy(LINE, row, label=f"$\\lambda$ = {strength:g}")
    plt.xlabel("place on the line from the initial (0) to the trained network (1)")
    plt.ylabel("mean square error")
    plt.legend()
    plt.savefig(path, dpi=120)


def main(path="homotopy_landscape.png"):
    values = losses_on_line()
    print(f"{'lambda':>6}" + "".join(f"{x:>10.2f}" for x in LINE[::10]) + "    minima")
    for strength, row in zip(STRENGTHS, values, strict=True):
        inner = row[1:-1]
        minima = int(np.sum((inner < row[:-2]) & (inner < row[2:])))
        print(f"{strength:6.1f}" + "".join(f"{v:10.2e}" for v in row[::10]) + f"{minima:10}")
    draw(values, path)


if __name__ == "__main__":
    main(*sys.argv[1:2])
