"""Van der Pol's oscillator at mu = 1000, learned by a network from ten simulated runs.

Within a period of 1614 units of time the velocity is 1e-3 for hundreds of units and 1000 for a
hundredth of one. It is known that the velocity moves the place, `y1' = y2`. A network of both states
learns the force:

    y2' = r hypot(y2, s) network(y1, arcsinh(y2 / s)),

with `s` the velocity that the samples have most of the time, and `r` a rate that they show. With
`--forces` it is known too that the force has a part along the velocity, and that both parts are
functions of the place, `y2' = f(y1) y2 + g(y1)`.

Least squares fits the slopes first, those of `arcsinh(y2 / s)` between samples: each in units of its
own size, so that the slow motion counts as much as a jump. Then it fits predictions from sample to
sample, the velocity in units of `hypot(y2, s)`. The model is judged by five runs from other starts:
when they jump, and by the mean distance of the place over all times.

    python benchmarks/stiff_oscillator.py [--first 10] [--seeds 5] [--steps 60] [--forces]

A seed draws starts and weights. The method was found on the seeds 0 to 4.
"""

import argparse
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

MU, END, RUNS, UNSEEN, SAMPLES = 1000.0, 2000.0, 10, 5, 150
TIMES = jnp.linspace(0.0, END, 4001)


def oscillator(t, y, args):
    return jnp.stack([y[1], MU * (1 - y[0] ** 2) * y[1] - y[0]])


class TwoForces(eqx.Module):
    network: eqx.nn.MLP
    rate: float
    velocity: float

    def __call__(self, t, y, args):
        f, g = self.network(y[:1] / 2)
        return jnp.stack([y[1], self.rate * (f * y[1] + g * self.velocity)])


class OneForce(eqx.Module):
    network: eqx.nn.MLP
    rate: float
    velocity: float

    def __call__(self, t, y, args):
        (force,) = self.network(jnp.stack([y[0] / 2, jnp.arcsinh(y[1] / self.velocity) / 5]))
        return jnp.stack([y[1], self.rate * force * jnp.hypot(y[1], self.velocity)])


@eqx.filter_jit
def solve(field, y0, saveat, rtol):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA9(),
        0.0,
        END,
        None,
        y0,
        saveat=saveat,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-4 * rtol),
        max_steps=8192,
        throw=False,
    )


def simulate(start):
    """A run at 150 of the steps that a tight solve takes, evenly in their number."""
    steps = np.asarray(solve(oscillator, start, diffrax.SaveAt(t0=True, steps=True), 1e-9).ts)
    steps = steps[np.isfinite(steps)]
    ts = steps[np.linspace(0, len(steps) - 1, SAMPLES).round().astype(int)]
    assert np.all(np.diff(ts) > 0)
    return ts, np.asarray(solve(oscillator, start, diffrax.SaveAt(ts=jnp.asarray(ts)), 1e-8).ys)


def fit_slopes(model, data):
    """Mean slopes between samples, by Simpson's rule along the line between them."""
    places = np.stack([data.ys[..., 0], np.arcsinh(data.ys[..., 1] / model.velocity)], axis=-1)
    first, last = (jnp.asarray(x.reshape(-1, 2)) for x in (places[:, :-1], places[:, 1:]))
    length = jnp.asarray(np.diff(data.ts, axis=1).ravel())
    chord = (last - first)[:, 1] / length
    dynamic, static = eqx.partition(model, eqx.is_inexact_array)

    def residuals(dynamic, _):
        field = eqx.combine(dynamic, static)

        def slope(place):
            y = jnp.stack([place[0], model.velocity * jnp.sinh(place[1])])
            return field(0.0, y, None)[1] / jnp.hypot(y[1], model.velocity)

        ends, middle = jax.vmap(slope)(first) + jax.vmap(slope)(last), (first + last) / 2
        mean = (ends + 4 * jax.vmap(slope)(middle)) / 6
        return (mean - chord) / (jnp.abs(chord) + 1e-3 * model.rate)

    solver = optx.LevenbergMarquardt(1e-8, 1e-8)
    found = optx.least_squares(residuals, solver, dynamic, max_steps=500, throw=False)
    return eqx.combine(found.value, static)


def learn(data, seed, two, steps):
    speeds = np.abs(data.ys[..., 1])
    velocity = float(np.median(speeds))
    moved = np.abs(np.diff(np.arcsinh(data.ys[..., 1] / velocity), axis=1))
    rate = float(np.quantile(moved / np.diff(data.ts, axis=1), 0.98))
    inputs, outputs, kind = (1, 2, TwoForces) if two else (2, 1, OneForce)
    network = eqx.nn.MLP(inputs, outputs, 16, 2, jnp.tanh, key=jax.random.key(seed))

    def weight(t, y):
        return jnp.stack([1.0, 1 / (velocity**2 + y[1] ** 2)])

    model = fit_slopes(kind(network, rate, velocity), data)
    return srx.fit_least_squares(
        model, data, srx.RadauIIA5(), scale=1.0, weight=weight,
        start="given", max_steps=steps, progress=False,
    )  # fmt: skip


def jumps(ys):
    """When the first state changes its sign."""
    places = np.asarray(ys[:, 0])
    return np.asarray(TIMES)[1:][places[:-1] * places[1:] < 0]


def main():
    parser = argparse.ArgumentParser(description="Van der Pol's oscillator by a network.")
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--forces", action="store_true")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, mu = {MU:g}, {RUNS} simulated runs of {SAMPLES} samples")
    for seed in range(given.first, given.first + given.seeds):
        rng = np.random.default_rng(seed)
        places = rng.uniform(1.05, 2.3, RUNS + UNSEEN) * rng.choice([-1, 1], RUNS + UNSEEN)
        starts = jnp.asarray(np.stack([places, rng.uniform(-1, 1, RUNS + UNSEEN)], axis=1))
        runs = [simulate(start) for start in starts[:RUNS]]
        data = srx.Trajectories.from_arrays(*map(list, zip(*runs, strict=True)))
        began = time.process_time()
        fit = learn(data, seed, given.forces, given.steps)
        print(f"seed {seed}: {fit}, {time.process_time() - began:.0f} s of CPU")
        for start in starts[RUNS:]:
            true, found = (
                solve(field, start, diffrax.SaveAt(ts=TIMES), 1e-6).ys
                for field in (oscillator, fit.model)
            )
            distance = jnp.mean(jnp.abs(found - true)[:, 0]) / 4
            print(
                f"  from {start[0]:6.3f}: jumps at {jumps(true).round(1)}, predicted at "
                f"{jumps(found).round(1)}; mean distance {distance:.2%} of the range",
                flush=True,
            )


if __name__ == "__main__":
    main()
