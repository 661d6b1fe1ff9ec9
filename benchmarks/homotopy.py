"""Homotopy against training on whole runs and multiple shooting, on four series.

The models, learning rates, couplings and schedules of Ko and others (NeurIPS 2023), on simulated
data with one draw of noise for all seeds; the double pendulum is simulated too, with noise of 2 % of
each state's standard deviation, where the paper has measurements. Errors are mean squares over the
samples (in), and over as many samples after them (after); `floor` is that of the true system. Best is
the step whose model is kept: that of the lowest error over the whole run, or for multiple shooting,
here `TrajectoryLoss(window=...)` with five segments, of the lowest loss. Gradients are clipped, to a
norm of 10, and 100 for Lorenz, which is not in the paper; `clip=1e9` is without. `stage` is the
number of steps at each value of the coupling, `rate` the learning rate of the homotopy, in place of
the paper's; `coupling=auto` is the one that the data ask for. `draws=10` draws noise and network ten
times, in place of one draw of noise and three of the network.

Usage: `python benchmarks/homotopy.py [system ...] [method ...] [seeds=3] [draws=10] [most=4000]
[clip=10] [stage=100] [rate=0.05] [coupling=auto]`.
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

jax.config.update("jax_enable_x64", True)


class Net(eqx.Module):
    """A network as a vector field that does not depend on the time."""

    net: eqx.nn.MLP

    def __call__(self, t, y, args=None):
        return self.net(y)


def net(inputs, outputs, width, depth, key):
    return Net(eqx.nn.MLP(inputs, outputs, width, depth, activation=jax.nn.gelu, key=key))


def linear_terms(t, y, args):
    return jnp.stack([1.3 * y[0], -1.8 * y[1]])


def velocities(t, y, args):
    return jnp.concatenate([y[2:], jnp.zeros_like(y[2:])])


def gray_box(key):
    return srx.PartiallyKnown(linear_terms, net(2, 2, 20, 2, key), num_states=2)


def second_order(key):
    return srx.PartiallyKnown(velocities, net(4, 2, 50, 2, key), outputs=(2, 3), num_states=4)


class Case(NamedTuple):
    problem: srx.problems.Problem
    samples: int
    dt: float
    noise: str
    model: object
    rate: float
    coupling: float | str
    schedule: srx.HomotopySchedule
    alpha: float
    vanilla_rate: float
    shooting_rate: float
    clip: float = 10.0  # the largest norm of a gradient


def cases():
    periodic, irregular = srx.HomotopySchedule(6, 100), srx.HomotopySchedule(8, 300)
    prey, lorenz = srx.problems.lotka_volterra(), srx.problems.lorenz()
    pendulum = srx.problems.double_pendulum()
    wide = lambda n: lambda key: net(n, n, 50, 2, key)  # noqa: E731
    small = lambda key: net(2, 2, 32, 1, key)  # noqa: E731
    seven, six = srx.HomotopySchedule(7, 300), srx.HomotopySchedule(6, 300)
    return {
        "lv-black": Case(prey, 61, 0.1, "mean", small, 0.05, 6, periodic, 1e-3, 0.05, 0.05),
        "lv-gray": Case(prey, 61, 0.1, "mean", gray_box, 0.02, 4, periodic, 1e-3, 0.02, 0.05),
        "dp-black": Case(pendulum, 100, 0.02, "std", wide(4), 0.05, 10, seven, 0.0, 0.02, 0.02),
        "dp-second": Case(pendulum, 100, 0.02, "std", second_order, 0.02, 10, six, 0.0, 0.05, 0.02),
        "lorenz": Case(
            lorenz, 31, 0.1, "fixed", wide(3), 0.02, 6, irregular, 1e-4, 0.005, 0.02, 100.0
        ),
    }


def series(case, draw=0):
    """The samples trained on, and twice as many; and the mean square of the noise on the first."""
    ts = np.arange(2 * case.samples) * case.dt
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(case.problem.vector_field),
        diffrax.Dopri8(),
        0.0,
        ts[-1],
        0.01,
        jnp.asarray(case.problem.y0),
        saveat=diffrax.SaveAt(ts=jnp.asarray(ts)),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
    )
    clean = np.asarray(solution.ys)
    size = {"mean": 0.05 * clean.mean(axis=0), "std": 0.02 * clean.std(axis=0), "fixed": 0.25}
    noise = size[case.noise] * np.random.default_rng(draw).normal(size=clean.shape)
    ys, k = clean + noise, case.samples
    data, whole = (srx.Trajectories.from_arrays(ts[:m], ys[:m]) for m in (k, 2 * k))
    return data, whole, float(np.mean(noise[1:k] ** 2))


def trajectory(case, window=None, max_steps=512):
    """The plain mean square error."""
    measure = srx.ScaledMSE(np.ones(len(case.problem.y0)))
    return srx.TrajectoryLoss(
        diffrax.Tsit5(), measure, rtol=1e-6, atol=1e-6, max_steps=max_steps, window=window
    )


def optimizer(case, rate):
    return optax.chain(optax.clip_by_global_norm(case.clip), optax.adamw(rate))


def train(method, case, data, seed, most):
    """The model kept, and its step."""
    model = case.model(jax.random.key(seed))
    if method == "homotopy":
        fit = srx.fit_homotopy(
            model,
            data,
            srx.HomotopyLoss(trajectory(case), case.coupling, case.alpha),
            schedule=case.schedule,
            optimizer=optimizer(case, case.rate),
        )
        return fit.model, int(fit.history.held_out_steps[np.argmin(fit.history.held_out_loss)])
    shooting = method == "shooting"
    loss = trajectory(case, window=-(-(case.samples - 1) // 5) if shooting else None)
    rate = case.shooting_rate if shooting else case.vanilla_rate
    fit = srx.fit(model, data, loss, optimizer=optimizer(case, rate), steps=most)
    return fit.model, int(np.argmin(fit.history.loss))


def changed(case, numbers):
    """The case with what was given in place of the paper's recipe."""
    given = {k: numbers[k] for k in ("clip", "rate", "coupling") if k in numbers}
    if "stage" in numbers:
        given["schedule"] = srx.HomotopySchedule(case.schedule.values, int(numbers["stage"]))
    return case._replace(**given)


def main(systems, methods, seeds=3, draws=0, most=4000, **numbers):
    print("system     method     error in +- s.e.       error after +- s.e.    best step     s")
    for name in systems:
        case = changed(cases()[name], numbers)
        tried = [(0, seed) for seed in (10, 20, 30)[: int(seeds)]]
        tried = [(draw, draw) for draw in range(int(draws))] or tried
        floors = [series(case, draw)[2] for draw in sorted({draw for draw, _ in tried})]
        print(f"{name:10} floor      {np.mean(floors):.2e}", flush=True)
        for method in methods:
            rows, start = [], time.perf_counter()
            for draw, seed in tried:
                data, whole, _ = series(case, draw)
                model, step = train(method, case, data, seed, int(most))
                predicted = trajectory(case, max_steps=100_000).predict(model, whole)
                square, k = np.asarray(predicted - whole.ys[:, 1:])[0] ** 2, case.samples - 1
                rows.append((square[:k].mean(), square[k:].mean(), step))
            rows = np.array(rows)
            mean, error = rows.mean(axis=0), rows.std(axis=0) / np.sqrt(max(len(rows) - 1, 1))
            steps = ", ".join(f"{step:.0f}" for step in rows[:, 2])
            cells = "   ".join(
                f"{m:.2e} +- {e:.0e}" for m, e in zip(mean[:2], error[:2], strict=True)
            )
            print(
                f"{name:10} {method:10} {cells}   {steps}   {time.perf_counter() - start:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    words = sys.argv[1:]
    given = dict(word.split("=") for word in words if "=" in word)
    numbers = {k: v if v == "auto" else float(v) for k, v in given.items()}
    main(
        [word for word in words if word in cases()] or list(cases()),
        [w for w in words if w in ("vanilla", "shooting", "homotopy")]
        or ["vanilla", "shooting", "homotopy"],
        **numbers,
    )
