"""What Jacobians and Lyapunov exponents a network learns of a chaotic series, by its training.

Every way of training starts from the same networks, sees the same noise-free samples on the attractor
and takes the same number of steps, each with as many random segments. Ways with neighbors see a
random one of 25 of each of as many random samples besides. Printed are the relative error of the
Jacobians on another series (the median over its samples) and the Lyapunov exponents of the trained
models; mean and standard deviation over seeds, and how many models had exponents (others left the
attractor). Settings were chosen on seed 100 of Lorenz-63 at the finest sampling, which is in no table.

`RoughnessPenalty` needs nothing but the samples. As the second order with neighbors, it is zero for
quadratic fields, which Lorenz-63 and hyperchaotic Chen have, and the warped system has not.

Usage: `python benchmarks/jacobian_matching.py [system=lorenz] [spacing=0.02] [seeds=5] [first=0]
[samples=4000] [steps=...] [rate=...] [way ...]`; without words the whole table.
"""

import sys
import time
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx
from stiffrax.data import pick_runs

# Models train in single precision, which takes half the time; their losses stay above its rounding.
SEGMENTS, NEIGHBORS, ANNULUS, BATCH = 5, 25, (0.6, 0.8), 32
RATE, TRUE = 5e-3, 1e-2
FINEST_ONLY = ("order 1, nearest", "order 2, roughness", "clouds", "true Jacobians")


class RungeKutta4(diffrax.AbstractERK):
    """The classic method: the fewest evaluations of the network for its accuracy here."""

    tableau = diffrax.ButcherTableau(
        c=np.array([0.5, 0.5, 1.0]),
        b_sol=np.array([1, 2, 2, 1]) / 6,
        b_error=np.zeros(4),
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
    )
    interpolation_cls = diffrax.LocalLinearInterpolation

    def order(self, terms):
        del terms
        return 4


class Warped(NamedTuple):
    """A system in the coordinates `asinh((y - center) / scale)`: as chaotic, and no polynomial."""

    problem: srx.problems.Problem
    center: tuple
    scale: tuple

    @property
    def y0(self):
        return np.arcsinh((np.array(self.problem.y0) - self.center) / np.array(self.scale))

    def vector_field(self, t, y, args):
        center, scale = (jnp.array(x, y.dtype) for x in (self.center, self.scale))
        slope = self.problem.vector_field(t, center + scale * jnp.sinh(y), args)
        return slope / (scale * jnp.cosh(y))


class Case(NamedTuple):
    """A system, its exponents (benchmarks/lyapunov_spectra.py), and the sizes of what is solved."""

    problem: srx.problems.Problem | Warped
    exponents: tuple
    rate: float  # of the field, in standard deviations of the states
    roughness: float  # the weight of its penalty
    step: float  # of the trained models when their exponents are measured
    sampling: dict  # by spacing in Lyapunov times: substeps of a segment, steps of training


CASES = {
    "lorenz": Case(
        srx.problems.lorenz(),
        (0.9056, 0.0, -14.5723),
        10.0,
        1e-2,
        0.02,
        {0.02: (1, 1000), 0.1: (2, 500)},
    ),
    "hyperchaotic_chen": Case(
        srx.problems.hyperchaotic_chen(),
        (0.5547, 0.1128, 0.0, -26.0872),
        20.0,
        1e-2,
        0.01,
        {0.02: (1, 1000), 0.1: (5, 300)},
    ),
    "warped_lorenz": Case(
        Warped(srx.problems.lorenz(), (0.0, 0.0, 23.5), (7.9, 9.0, 8.6)),
        (0.9056, 0.0, -14.5723),
        10.0,
        1e-3,
        0.02,
        {0.02: (1, 1000)},
    ),
}


class Standardized(eqx.Module):
    """A network whose inputs and outputs are of order one on the attractor."""

    net: eqx.nn.MLP
    center: jax.Array
    scale: jax.Array
    rate: float

    def __call__(self, t, y, args=None):
        return self.net((y - self.center) / self.scale) * self.scale * self.rate


@jax.enable_x64()
def series(case, seed, spacing, samples):
    """Equally spaced samples on the attractor, `spacing` in units of time."""
    n = len(case.problem.y0)
    start = jnp.asarray(case.problem.y0) + jax.random.normal(jax.random.key(seed), (n,))
    ts = 20.0 + jnp.arange(samples) * spacing
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(case.problem.vector_field),
        diffrax.Dopri8(),
        0.0,
        ts[-1],
        0.001,
        start,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        max_steps=None,
    )
    return srx.Trajectories.from_arrays(spacing * np.arange(samples), np.asarray(solution.ys))


def windows(data):
    """Every sample with the ones predicted from it."""
    index = np.arange(data.ys.shape[1] - SEGMENTS)[:, None] + np.arange(SEGMENTS + 1)
    return srx.Trajectories.from_arrays(data.ts[0, : SEGMENTS + 1], data.ys[0][index])


def first_of(data):
    """The first sample of each run."""
    ts, ys, mask = (x[:, :1] for x in (data.ts, data.ys, data.mask))
    return srx.Trajectories(ts, ys, mask, data.names, data.run_names)


def network(case, data, seed):
    n, key = data.num_states, jax.random.key(seed)
    net = eqx.nn.MLP(n, n, 64, 3, activation=jax.nn.gelu, key=key, dtype=jnp.float32)
    center, scale = (np.asarray(f(data.ys[0], axis=0)) for f in (np.mean, np.std))
    return Standardized(net, jnp.asarray(center), jnp.asarray(scale), case.rate)


def scaled_jacobian(field, scale):
    """Jacobians in standard deviations of the states."""
    return jax.vmap(lambda y: jax.jacfwd(lambda y: field(0.0, y, None))(y) / scale[:, None] * scale)


def true_jacobians(case):
    def loss(model, data):
        ys = data.ys[:, 0]
        exact = scaled_jacobian(case.problem.vector_field, model.scale)(ys)
        error = scaled_jacobian(model, model.scale)(ys) - exact
        return jnp.mean((error / case.rate) ** 2)

    return loss


def ways(case, substeps, roughness):
    """What is added to the loss of the segments, by name: `(weight, loss or function)`."""

    def near(order=1, annulus=ANNULUS, steps=SEGMENTS, **options):
        return srx.NeighborhoodLoss(
            NEIGHBORS,
            order=order,
            steps=steps,
            solver=RungeKutta4(),
            substeps=substeps,
            theiler=20,
            annulus=annulus,
            **options,
        )

    exact, smooth = true_jacobians(case), srx.RoughnessPenalty(roughness)
    return {
        "segments alone": [],
        "order 1": [(1.0, near())],
        "order 1, nearest": [(1.0, near(annulus=None))],
        "order 2": [(1.0, near(2))],
        "roughness": [(1.0, smooth)],
        "order 2, roughness": [(1.0, near(2)), (1.0, smooth)],
        "clouds": [(1.0, near(distributions=True))],
        "true Jacobians": [(TRUE, exact)],
    }


def found_in(data, loss):
    """The loss with its neighbors: for each seed as many, so that all train by one program."""
    if not isinstance(loss, srx.NeighborhoodLoss):
        return loss
    return loss.for_data(data).draw(jax.random.key(0), data.ys.shape[1], NEIGHBORS)


@eqx.filter_jit
def train(model, samples, data, starts, added, key, settings):
    """`steps` of AdaBelief, each with another draw of segments, neighbors and points."""
    steps, batch, rate = settings
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adabelief(optax.cosine_decay_schedule(rate, steps))
    )
    net, static = eqx.partition(model.net, eqx.is_inexact_array)

    def objective(net, key):
        fitted = eqx.tree_at(lambda m: m.net, model, eqx.combine(net, static))
        index = jax.random.randint(key, (batch,), 0, len(starts.ys))
        segments = pick_runs(starts, index)
        value = samples.evaluate(fitted, segments).value
        for k, (weight, loss) in enumerate(added):
            own = jax.random.fold_in(key, k)
            if not isinstance(loss, srx.NeighborhoodLoss):
                term = loss(fitted, first_of(segments))
            elif loss.distributions:
                term = loss.draw(own, batch // 8, NEIGHBORS).evaluate(fitted, data).value
            else:
                term = loss.draw(own, batch, 1).evaluate(fitted, data).value
            value = value + weight * term
        return value

    def step(carry, key):
        net, state = carry
        updates, state = optimizer.update(jax.grad(objective)(net, key), state)
        return (optax.apply_updates(net, updates), state), None

    start = net, optimizer.init(net)
    (net, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
    return eqx.tree_at(lambda m: m.net, model, eqx.combine(net, static))


@eqx.filter_jit
def held_out(segments, model, data):
    return segments.evaluate(model, data).value


def trained(case, data, seed, added, segments, settings):
    near = [(weight, found_in(data, loss)) for weight, loss in added]
    start, loss = network(case, data, seed), segments.for_data(data)
    return train(start, loss, data, windows(data), near, jax.random.key(seed), settings)


def judge(case, model, test):
    """The median error of the Jacobians, and the exponents."""
    ys = jnp.asarray(test.ys[0])
    return _jacobian_error(case.problem.vector_field, model, ys), srx.diagnostics.lyapunov_spectrum(
        model,
        ys[:: len(ys) // 16][:16],
        time=60.0,
        burn_in=5.0,
        interval=0.1,
        step=case.step,
        solver=RungeKutta4(),
    ).exponents


@eqx.filter_jit
def _jacobian_error(field, model, ys):
    exact = scaled_jacobian(field, model.scale)(ys)
    error = scaled_jacobian(model, model.scale)(ys) - exact
    size = lambda x: jnp.linalg.norm(x, axis=(1, 2))  # noqa: E731
    return jnp.median(size(error) / size(exact))


def table(name, spacing, only, *, seeds, first, samples, steps, batch, rate, roughness):
    """One system and sampling, a row for each way of training."""
    case = CASES[name]
    substeps, usual = case.sampling[spacing]
    dt = spacing / case.exponents[0]
    every = [series(case, seed, dt, samples) for seed in range(first, first + seeds)]
    test, unseen = series(case, 1000, 0.05, 2000), series(case, 1001, dt, 1000)
    settings = (steps or usual, batch, rate)
    print(f"\n{name}: {samples} samples {spacing} Lyapunov times apart, seeds {first} to", end=" ")
    print(f"{first + seeds - 1}, {settings[0]} steps of {batch} segments of {SEGMENTS}")
    heads = "".join(f"{f'lambda_{i} ({x:g})':>22}" for i, x in enumerate(case.exponents, 1))
    print(f"{'trained on':18}{'Jacobian error':>20}{heads}  of  CPU s", flush=True)
    weight = roughness or case.roughness
    segments = srx.SegmentLoss(RungeKutta4(), substeps=substeps, window=SEGMENTS)
    for way, added in ways(case, substeps, weight).items():
        if way not in (only or ways(case, substeps, weight)) or (
            not only and spacing > 0.02 and way in FINEST_ONLY
        ):
            continue
        start, results, held = time.process_time(), [], []
        for seed, data in enumerate(every, first):
            model = trained(case, data, seed, added, segments, settings)
            held.append(float(jnp.sqrt(held_out(segments.for_data(data), model, windows(unseen)))))
            error, exponents = judge(case, model, test)
            results.append([float(error), *np.asarray(exponents)])
        rows = np.array(results)
        good = rows[np.isfinite(rows).all(axis=1)]
        columns = [rows[:, 0], *good[:, 1:].T]
        cells = [f"{f'{np.mean(x):.3f} +- {np.std(x):.3f}':>22}" for x in columns]
        seconds = time.process_time() - start
        print(f"{way:18}{cells[0][2:]}{''.join(cells[1:])}{len(good):4}{seconds:7.0f}", flush=True)
        if first >= 100:
            print(
                "   held-out errors of segments, rms: " + ", ".join(f"{x:.3g}" for x in held),
                flush=True,
            )


def directions(name="lorenz", points=200):
    """Where the Jacobians are wrong, along the principal directions of the neighbors of a point.

    Printed are how far the nearest neighbors and those in the annulus extend along each, and what
    part of the squared error of a model's Jacobians acts on each.
    """
    case, spacing = CASES[name], 0.02 / CASES[name].exponents[0]
    data, test = series(case, 0, spacing, 4000), series(case, 1000, 0.5, points)
    scale, substeps = data.ys[0].std(axis=0), case.sampling[0.02][0]
    there, here = data.ys[0] / scale, test.ys[0] / scale
    distance = np.linalg.norm(there[None] - here[:, None], axis=2)
    frames, extents = [], {"nearest": [], "annulus": []}
    for y, far in zip(here, distance, strict=True):
        close = there[np.argsort(far)[:NEIGHBORS]]
        frames.append(np.linalg.svd(close - close.mean(axis=0))[2])
        ring = there[(far > ANNULUS[0]) & (far < ANNULUS[1])]
        for kind, cloud in (("nearest", close), ("annulus", ring)):
            extents[kind].append(np.sqrt(np.mean(((cloud - y) @ frames[-1].T) ** 2, axis=0)))
    print(f"{'principal direction':18}" + "".join(f"{k:10}" for k in range(1, 1 + len(scale))))
    for kind, sizes in extents.items():
        extent = np.median(sizes, axis=0)
        print(f"{kind + ', extent':18}" + "".join(f"{x:10.4f}" for x in extent), flush=True)
    segments = srx.SegmentLoss(RungeKutta4(), substeps=substeps, window=SEGMENTS)
    settings = (case.sampling[0.02][1], BATCH, RATE)
    for way in ("segments alone", "order 2", "roughness"):
        added = ways(case, substeps, case.roughness)[way]
        model = trained(case, data, 0, added, segments, settings)
        ys = jnp.asarray(test.ys[0])
        exact = scaled_jacobian(case.problem.vector_field, model.scale)(ys)
        error = np.asarray(scaled_jacobian(model, model.scale)(ys) - exact)
        along = np.sum((error @ np.array(frames).transpose(0, 2, 1)) ** 2, axis=(0, 1))
        print(f"{way:18}" + "".join(f"{x:10.4f}" for x in along / along.sum()), flush=True)


def main(words):
    if words == ["directions"]:
        return directions()

    given = dict(word.split("=") for word in words if "=" in word)
    only = [word for word in words if "=" not in word]
    options = {
        "seeds": int(given.get("seeds", 5)),
        "first": int(given.get("first", 0)),
        "samples": int(given.get("samples", 4000)),
        "steps": int(given.get("steps", 0)),
        "batch": int(given.get("batch", BATCH)),
        "rate": float(given.get("rate", RATE)),
        "roughness": float(given.get("roughness", 0)),
    }
    for spacing in (0.02, 0.1):
        for name in given.get("system", ",".join(CASES)).split(","):
            if (
                spacing in CASES[name].sampling
                and given.get("spacing", f"{spacing}") == f"{spacing}"
            ):
                table(name, spacing, only, **options)


if __name__ == "__main__":
    main(sys.argv[1:])
