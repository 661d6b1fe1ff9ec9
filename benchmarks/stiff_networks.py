"""Stiff reactions learned by networks with one recipe, seed after seed: how many succeed.

The recipe is the same for all problems and seeds. The network, two hidden layers of 16 tanh units,
sees states in units of their largest values and a clock that is linear over the first gap between
samples and logarithmic after it; its outputs are in units of the ranges. Least squares fits the
slopes of the data first and then predictions from sample to sample; Adam, annealed to nothing, takes
the drift of solves through all samples; least squares on whole runs ends. A segment has two steps of
RadauIIA9, so that what is fitted is the solution and not that of long steps.

    python benchmarks/stiff_networks.py [problem ...] [--seeds 20] [--first 0]

The loss is that of Kim and others (Chaos 31, 093122): the mean absolute error of the samples after
the first, in units of the largest values (ROBER) or ranges (the others), of a solve to 1e-6. Settings
were chosen on the seeds 100 to 105 of ROBER and HIRES and 100 and 101 of POLLU.
"""

import argparse
import statistics
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

LEAST_SQUARES_STEPS, SUBSTEPS, ADAM_STEPS = 60, 2, 1500
# Those of Kim and others. For other problems what the samples tell of what lies between them: the
# error of each from the line between its neighbors on the recipe's clock, at most 0.0044.
BOUNDS = {"robertson": 0.0044, "pollution": 0.0019, "hires": None, "oregonator": None}
LARGEST_BOUND = 0.0044
TIMES = {
    "robertson": np.append(0.0, np.geomspace(1e-5, 1e5, 50)),
    "pollution": np.linspace(0.0, 60.0, 20),
    "hires": np.append(0.0, np.geomspace(1e-3, 321.8122, 50)),
}


def solve(problem, solver, saveat, t1, rtol):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        solver,
        0.0,
        t1,
        None,
        jnp.asarray(problem.y0),
        saveat=saveat,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-6 * rtol),
        max_steps=4096,
    )


def simulate(name):
    """One run of a problem, of the Oregonator at every third step of a solve."""
    problem = getattr(srx.problems, name)()
    ts = TIMES.get(name)
    if ts is None:
        found = solve(problem, srx.RadauIIA5(), diffrax.SaveAt(steps=True), problem.t1, 1e-6)
        steps = np.asarray(found.ts)
        steps = np.append(0.0, steps[np.isfinite(steps)])
        ts = np.append(steps[:-1:3], steps[-1])
    found = solve(problem, srx.RadauIIA9(), diffrax.SaveAt(ts=jnp.asarray(ts)), ts[-1], 1e-8)
    return srx.Trajectories.from_arrays(ts, np.asarray(found.ys), names=problem.names)


def interpolation_error(data, floor):
    """What is missing where each sample is read off the line between its neighbors."""
    ys, clock = data.ys[0], np.arcsinh(data.ts[0] / (floor * data.ts[0, -1]))
    part = ((clock[1:-1] - clock[:-2]) / (clock[2:] - clock[:-2]))[:, None]
    line = (1 - part) * ys[:-2] + part * ys[2:]
    return float(np.mean(np.abs(line - ys[1:-1]) / np.ptp(ys, axis=0)))


def optimizer(steps):
    rate = optax.cosine_decay_schedule(0.02, steps)
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    return optax.with_extra_args_support(chain)  # as `fit` has it: one program for all seeds


def network(data, seed, floor, width=16):
    n = data.num_states
    largest, scaling = srx.Scaling.from_data(data, kind="max"), srx.Scaling.from_data(data)
    net = eqx.nn.MLP(n + 1, n, width, 2, jnp.tanh, key=jax.random.key(seed))
    return srx.ScaledField(
        net, largest.y_scale, scaling.t_scale, output_scale=scaling.y_scale,
        states="scaled", log_time=True, floor=floor,
    )  # fmt: skip


def train(model, data, adam):
    """The recipe: the models after one-step predictions, after Adam, and at the end; failed solves."""
    options = {"substeps": SUBSTEPS, "max_steps": LEAST_SQUARES_STEPS, "progress": False}
    first = srx.fit_least_squares(model, data, **options).model
    loss = srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMAE(), rtol=1e-4, max_steps=512)
    fit = srx.fit(first, data, loss, optimizer=adam, steps=ADAM_STEPS, progress=False)
    whole = data.ts.shape[1] - 1
    last = srx.fit_least_squares(fit.model, data, window=whole, start="given", **options)
    failed = fit.history.num_failed.sum() + last.num_failed
    return (first, fit.model, last.model), failed


def run(name, seeds, adam):
    """Trains every seed of a problem and prints what it reaches."""
    data = simulate(name)
    floor = float((data.ts[0, 1] - data.ts[0, 0]) / data.ts[0, -1])
    bound = BOUNDS[name] or min(interpolation_error(data, floor), LARGEST_BOUND)
    kind = "max" if name == "robertson" else "range"
    measure = srx.ScaledMAE(srx.Scaling.from_data(data, kind=kind).y_scale)
    judge = srx.TrajectoryLoss(srx.RadauIIA5(), measure, rtol=1e-6, max_steps=4096)
    judge = eqx.filter_jit(judge.for_data(data))
    losses, times = [], []
    for seed in seeds:
        wall, cpu = time.perf_counter(), time.process_time()
        models, failed = train(network(data, seed, floor), data, adam)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append(cpu)
        found = [float(judge(model, data)) for model in models]
        losses.append(found[-1])
        print(
            f"  seed {seed:3}: {found[0]:.5f} after one-step predictions, {found[1]:.5f} after Adam, "
            f"{found[2]:.5f}; {wall:.0f} s, {cpu:.0f} s of CPU, {failed:.0f} solves failed",
            flush=True,
        )
    learned = sum(loss <= bound for loss in losses)
    print(
        f"{name}: {learned} of {len(losses)} at most {bound:.4f}; median "
        f"{statistics.median(losses):.5f}, worst {max(losses):.5f}; "
        f"{statistics.median(times):.0f} s of CPU a seed, {times[0]:.0f} the first, which compiles",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description="Stiff networks, seed after seed.")
    parser.add_argument("problems", nargs="*", default=list(BOUNDS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    seeds, adam = range(arguments.first, arguments.first + arguments.seeds), optimizer(ADAM_STEPS)
    for name in arguments.problems:
        run(name, seeds, adam)


if __name__ == "__main__":
    main()
