"""Fits of two lines whose predictions are put in by formula, so that nothing is solved."""

import contextlib

import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx

TS = np.array([0.0, 1.0, 2.0, 3.0, 10.0])
NOISE = np.random.default_rng(0).normal(size=(3, 5, 2))
# Of A normal noise, of B log-normal noise.
NORMAL = srx.NormalNoise()
LOSS = srx.LikelihoodLoss(noise={"A": NORMAL, "B": srx.LogNormalNoise(), "C": NORMAL})


def simulate(self, system, data, adjoint=None):
    """A is a line from the run's offset, B the exponential of minus another."""
    system = paramax.unwrap(system)
    k, ts = system.parameters, jnp.asarray(data.ts)
    offset = jnp.asarray(data.constants["offset"])[:, None]
    columns = {"A": offset + k["a"] * ts, "B": jnp.exp(-k["b"] * ts), "C": k["a"] * ts}
    values = jnp.stack([columns[name] for name in data.names], axis=2)
    return srx.Simulation(values, jnp.zeros_like(values), values, jnp.zeros(len(ts), bool))


@contextlib.contextmanager
def by_formula():
    """Whatever is predicted here is predicted by formula."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(srx.LikelihoodLoss, "simulate", simulate)
        yield


def measured(a=2.0, b=0.3):
    """Three runs of 20 cells, of offsets 1, 2 and 3."""
    offset = np.array([1.0, 2.0, 3.0])
    lines = [offset[:, None] + a * TS + 0.1 * NOISE[..., 0]]
    lines += [np.exp(-b * TS + 0.2 * NOISE[..., 1])]
    return srx.Measurements.from_arrays(
        TS,
        np.stack(lines, axis=2),
        names=["A", "B"],
        constants={"offset": offset},
        run_names=["a", "b", "c"],
    )


def system():
    return srx.System(
        lambda t, y, args: args["a"] + 0 * y,
        jnp.ones(2),
        states=["A", "B"],
        parameters={"a": srx.bounded(1.0, 0.0, 9.0), "b": srx.bounded(0.5, 0.0, 9.0)},
    )


def fit(loss=LOSS, **options):
    train, held = measured().split([2])
    return srx.fit_parameters(system(), train, loss, **options), held
