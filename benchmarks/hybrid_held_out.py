"""Held-out measurements predicted by hybrid models and by networks alone.

Two sets of published measurements: phosphorylated STAT5 (Boehm and others 2014, read as in
`petab_problems.py`), with a network of time in the place of the receptor's signal, and hare and lynx
pelts (1900 to 1920), with a network for the encounters. A third of the cells after the start is held
out, other ones for each seed, which draws the weights too.

    PETAB_PROBLEMS=... python benchmarks/hybrid_held_out.py [SEEDS]
"""

import os
import pathlib
import sys
import time
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# Volumes of cytosol and nucleus, STAT5 in all, its part of type A, and purity: as published.
CYTOSOL, NUCLEUS, TOTAL, PART_A, PURITY = 1.4, 0.45, 207.6, 0.693, 0.107
STAT5, STAT5_SD = ["pSTAT5A_rel", "pSTAT5B_rel", "rSTAT5A_rel"], [3.85, 6.59, 3.15]
HARES = "30 47.2 70.2 77.4 36.3 20.6 18.1 21.4 22 25.4 27.1 40.3 57"
HARES += " 76.6 52.3 19.5 11.2 7.6 14.6 16.2 24.7"
LYNXES = "4 6.1 9.8 35.2 59.4 41.7 19 13 8.3 9.1 7.4 8 12.3 19.5 45.7 51.1 29.7 15.8 9.7 10.1 8.6"
# A normal prior on weights, and one on the second derivative of the logarithm of a signal, over the
# whole time: e-fold curvature is usual.
WEIGHT, CURVATURE = 0.5, 10.0


def network(inputs, outputs, seed):
    """The same small network everywhere."""
    return eqx.nn.MLP(inputs, outputs, 6, 1, jax.nn.tanh, key=jax.random.key(seed))


def small_weights(system, data):
    """The prior on weights."""
    weights = jax.tree.leaves(eqx.filter(system.field.network, eqx.is_inexact_array))
    return sum(jnp.sum(w**2) for w in weights) / (2 * WEIGHT**2)


class Stat5(eqx.Module):
    """Dimers of STAT5 form by a signal of time, enter the nucleus and leave it as monomers."""

    network: eqx.nn.MLP
    into_homo: Any
    into_hetero: Any
    out_homo: Any
    out_hetero: Any

    def log_signal(self, t):
        """The logarithm of the signal, of the time over four hours."""
        return self.network(jnp.stack([jnp.asarray(t, float)]))[0] - 6.0

    def __call__(self, t, y, args):
        """The vector field of eight concentrations."""
        signal = jnp.exp(self.log_signal(t / 240))
        a, b, aa, ab, bb, naa, nab, nbb = y
        form = signal * jnp.stack([a * a, a * b, b * b])
        enter = jnp.stack([self.into_homo * aa, self.into_hetero * ab, self.into_homo * bb])
        leave = jnp.stack([self.out_homo * naa, self.out_hetero * nab, self.out_homo * nbb])
        back = NUCLEUS / CYTOSOL * leave - form
        free = jnp.stack([2 * back[0] + back[1], back[1] + 2 * back[2]])
        return jnp.concatenate([free, form - enter, CYTOSOL / NUCLEUS * enter - leave])


def observe_stat5(t, y, args):
    """Percentages of phosphorylated A and B, and of A in all."""
    a, b, aa, ab, bb = y[:5]
    one, two = PURITY, 1 - PURITY
    p_a, p_b = ab + 2 * aa * one, ab + 2 * bb * two
    all_a, all_b = ab + (a + 2 * aa) * one, ab + (b + 2 * bb) * two
    return {
        "pSTAT5A_rel": 100 * p_a / all_a,
        "pSTAT5B_rel": 100 * p_b / all_b,
        "rSTAT5A_rel": 100 * all_a / (all_a + all_b),
    }


def smooth_signal(system, data):
    """The prior on the signal."""
    second = jax.vmap(jax.grad(jax.grad(system.field.log_signal)))(jnp.linspace(0.0, 1.0, 33))
    return jnp.mean(second**2) / (2 * CURVATURE**2)


def hybrid_stat5(seed):
    """The reactions with unknown rates, and a network for the signal."""
    rates = (srx.positive(x, 1e-5, 1e5) for x in (1.0, 0.01, 0.01, 0.01))
    start = jnp.zeros(8).at[:2].set(TOTAL * jnp.array([PART_A, 1 - PART_A]))
    names = ["A", "B", "AA", "AB", "BB", "nAA", "nAB", "nBB"]
    return srx.System(Stat5(network(1, 1, seed), *rates), start, observe_stat5, states=names)


class Alone(eqx.Module):
    """Logarithmic slopes, or slopes, by a network of the states and the time, nothing known."""

    network: eqx.nn.MLP
    size: float
    horizon: float
    log: bool = eqx.field(static=True)

    def __call__(self, t, y, args):
        """The vector field of what is measured."""
        state = jnp.log(jnp.maximum(y, 1e-3) / self.size) if self.log else y / self.size
        slopes = self.network(jnp.append(state, jnp.log1p(10 * t / self.horizon))) * 10
        return slopes * (y if self.log else self.size) / self.horizon


def alone(names, start, size, horizon, log):
    """A function of the seed."""

    def make(seed):
        field = Alone(network(len(names) + 1, len(names), seed), size, horizon, log)
        return srx.System(field, start, states=names)

    return make


class Encounters(eqx.Module):
    """Births and deaths by rates; encounters by rates times factors of a network."""

    network: eqx.nn.MLP
    birth: Any
    eaten: Any
    eating: Any
    death: Any

    def __call__(self, t, y, args):
        """The vector field of hares and lynxes."""
        factors = jnp.exp(self.network(jnp.log(jnp.maximum(y, 1e-3) / 20.0)))
        hares, lynxes = y
        growth = self.birth - self.eaten * factors[0] * lynxes
        return jnp.stack([hares * growth, lynxes * (self.eating * factors[1] * hares - self.death)])


def hybrid_pelts(seed):
    """Lotka and Volterra with a network."""
    rates = (srx.positive(x, x / 30, 30 * x) for x in (0.5, 0.03, 0.03, 0.8))
    start = srx.positive([30.0, 5.0], 1.0, 100.0)
    return srx.System(Encounters(network(2, 2, seed), *rates), start, states=["hare", "lynx"])


def measurements(ts, values, names, sd, hidden=None):
    """All cells, or those that are not hidden."""
    values = np.where(False if hidden is None else hidden, np.nan, values)
    return srx.Measurements.from_arrays(ts, values, names=names, sd=sd, start=0.0)


def row(label, make, loss, table, logarithms, seeds):
    """Errors of held-out cells over the seeds, and of the same cells in a fit to all others."""
    ts, values, names, sd = table
    errors, failures, begin = [], 0, time.perf_counter()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        later = rng.permutation(np.arange(len(names), values.size))[: values.size // 3]
        hidden = np.isin(np.arange(values.size), later).reshape(values.shape)
        data = measurements(ts, values, names, sd, hidden)
        fit = srx.fit_parameters(make(seed), data, loss, max_steps=100, progress=False)
        found = fit.simulate(measurements(ts, values, names, sd))
        failures += int(np.sum(found.failed))
        change = np.log if logarithms else np.asarray
        off = change(np.asarray(found.values)[0]) - change(values)
        errors.append(float(np.sqrt(np.mean(off[hidden] ** 2))))
    shown = " ".join(f"{x:8.3g}" for x in errors)
    seconds = time.perf_counter() - begin
    print(f"{label:24} {shown} {np.median(errors):8.3g} {failures:6} {seconds:8.0f}", flush=True)


def stat5_table():
    """Times, percentages, names and standard deviations."""
    folder = next(iter(pathlib.Path(os.environ["PETAB_PROBLEMS"]).glob("Boehm*")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = srx.petab.load(next(iter(folder.glob("*.yaml")))).data
    order = [data.names.index(name) for name in STAT5]
    return data.ts[0], data.values[0][:, order], STAT5, STAT5_SD


def main(seeds=5):
    """Prints the table."""
    print(f"{'model':24} {'error of held-out cells, by seed':{9 * seeds}} median failed  seconds")
    table, loss = stat5_table(), srx.LikelihoodLoss() + small_weights
    start = srx.bounded([5.0, 5.0, 15.0], -50.0, 150.0)
    row("STAT5, hybrid", hybrid_stat5, loss + smooth_signal, table, False, seeds)
    row(
        "STAT5, network alone",
        alone(table[2], start, 50.0, 240.0, False),
        loss,
        table,
        False,
        seeds,
    )
    pelts = np.array([HARES.split(), LYNXES.split()], float).T
    table = np.arange(21.0), pelts, ["hare", "lynx"], 0.2 * pelts
    loss = srx.LikelihoodLoss(noise=srx.LogNormalNoise()) + small_weights
    start = srx.positive([30.0, 5.0], 1.0, 100.0)
    row("pelts, hybrid", hybrid_pelts, loss, table, True, seeds)
    row("pelts, network alone", alone(table[2], start, 20.0, 20.0, True), loss, table, True, seeds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
