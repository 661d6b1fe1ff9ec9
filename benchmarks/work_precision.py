"""Time against measured error on five stiff problems: one solve, and an ensemble under `vmap`.

Every method solves each problem over a range of tolerances; its time at an error is read from the
line through (error, time) in logarithms. Errors are those at the end, relative to `|y| + floor` in
the worst component, against a solve with RadauIIA13 at 1e-13. Solvers run under diffrax's
`PIDController`, where nothing else is said; Kvaerno5 as released and with the corrected termination
of its root finder. Compiled LSODA runs where numbalsoda is installed. All methods are timed in turn, in
`--repeats` rounds; the medians are compared, or with `--busy` the quickest of each, which other work
on the machine disturbs least. Saves `work_precision.png`. Run with

    python benchmarks/work_precision.py [--ensemble] [--busy] [--methods "A;B"] [problem ...]
"""

import argparse
import importlib.util
import math
import statistics
import time
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import sympy

import stiffrax as srx

# Not a dependency: its column is left out where it is not installed.
numba: Any = None
numbalsoda: Any = None
if importlib.util.find_spec("numbalsoda"):
    numba, numbalsoda = map(importlib.import_module, ("numba", "numbalsoda"))
    to_fixed_tuple = importlib.import_module("numba.np.unsafe.ndarray").to_fixed_tuple

jax.config.update("jax_enable_x64", True)

# The problem, its end, the first step, and the floor of its errors; atol is rtol times the floor.
PROBLEMS = {
    "ROBER": (srx.problems.robertson(), 1e5, 1e-6, (1e-6, 1e-9, 1e-6)),
    "HIRES": (srx.problems.hires(), 321.8122, 1e-6, 1e-4),
    "VDPOL": (srx.problems.van_der_pol(), 2000.0, 1e-6, 1e-3),
    "POLLU": (srx.problems.pollution(), 60.0, 1e-9, 1e-6),
    "OREGO": (srx.problems.oregonator(), 360.0, 1e-6, 1.0),
}
TARGETS = (1e-4, 1e-6, 1e-8, 1e-10)
# An ensemble is read at one error, and leaves out what takes minutes: Kvaerno5 as released.
LANES, ENSEMBLE_TARGETS = 1000, (1e-4, 1e-6, 1e-7)
TOLERANCES = 10.0 ** -np.arange(2.0, 12.1)
# Seconds: a run of more is not repeated, and one of twenty times as many is the last of its method.
LONG = 0.1


def methods(lanes):
    """Solver and controller by name."""
    newton = diffrax.with_stepsize_controller_tols(optx.Newton)()
    standard, predictive = diffrax.PIDController, srx.PredictiveController
    names = ("RadauIIA5", "RadauIIA9", "RadauIIA13", "Rodas3P", "Rodas4P", "Rodas5P")
    ours = {name: getattr(srx, name)() for name in names}
    found = {name: (solver, standard) for name, solver in ours.items()}
    for name in ("Rodas5P", "RadauIIA9", "RadauIIA13"):
        found[f"{name}, predictive"] = (ours[name], predictive)
    if lanes is None:
        found["Kvaerno5 as released"] = (diffrax.Kvaerno5(), standard)
    found["Kvaerno5, corrected"] = (diffrax.Kvaerno5(root_finder=newton), standard)
    return found


def make_solve(problem, t1, first_step, floor, solver, controller=diffrax.PIDController):
    floor = jnp.asarray(floor)

    def solve(y0, rtol):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            solver,
            0.0,
            t1,
            first_step,
            y0,
            stepsize_controller=controller(rtol=rtol, atol=rtol * floor),
            max_steps=200_000,
            throw=False,
        )
        failed = sol.result != diffrax.RESULTS.successful
        return jnp.where(failed, jnp.nan, sol.ys[-1])

    return solve


def make_lsoda(problem, t1, floor):
    """Compiled LSODA on the same right-hand side."""
    n, equations = len(problem.y0), problem.true_equations()
    slopes = sympy.lambdify(sympy.symbols(list(equations)), list(equations.values()), "math")
    slopes, atol = numba.njit(slopes), float(np.min(floor))

    @numba.cfunc(numbalsoda.lsoda_sig)
    def right_hand_side(t, u, du, p):
        y = to_fixed_tuple(numba.carray(u, (n,)), n)
        slope = slopes(*y)
        for i in range(n):
            du[i] = slope[i]

    address, times = right_hand_side.address, np.array([0.0, t1])

    def solve(y0, rtol):
        ys, ok = numbalsoda.lsoda(
            address, y0, times, rtol=rtol, atol=rtol * atol, mxstep=10_000_000
        )
        return ys[-1] if ok else np.full(n, np.nan)

    return solve


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turn(runs, repeats, busy):
    """Of all runs, taken in turn; of one that is long, its only time."""
    times = [[seconds(run)] for run in runs]
    short = [i for i, (first,) in enumerate(times) if first <= LONG]
    for _ in range(repeats):
        for i in short:
            # The first call after another program finds the caches of the processor cold.
            runs[i]()
            times[i].append(seconds(runs[i]))
    return [min(t) if busy else statistics.median(t[1:] or t) for t in times]


def time_at(target, errors, times):
    """The time at an error, by interpolation; NaN where the method does not get there."""
    points = sorted((e, t) for e, t in zip(errors, times, strict=True) if e > 0 and np.isfinite(e))
    below = [p for p in points if p[0] <= target]
    above = [p for p in points if p[0] > target]
    if not below:
        return math.nan
    if not above:
        return min(t for _, t in below)
    (e0, t0), (e1, t1) = below[-1], above[0]
    share = (math.log(target) - math.log(e0)) / (math.log(e1) - math.log(e0))
    return math.exp((1 - share) * math.log(t0) + share * math.log(t1))


def starts(problem, lanes):
    y0 = np.asarray(problem.y0, float)
    if lanes is None:
        return y0
    change = np.random.default_rng(0).uniform(0.99, 1.01, (lanes, y0.size))
    return y0 * change


def measure(name, lanes, repeats, chosen, busy):
    """Errors and times (a trajectory) of every method."""
    problem, t1, first_step, floor = PROBLEMS[name]
    y0 = starts(problem, lanes)
    batch = (lambda f: f) if lanes is None else (lambda f: jax.vmap(f, in_axes=(0, None)))
    accurate = jax.jit(batch(make_solve(problem, t1, first_step, floor, srx.RadauIIA13())))
    reference = np.asarray(accurate(jnp.asarray(y0), 1e-13))
    points = []

    def error_of(y):
        # Of an ensemble, LSODA solves the first lanes only, one after the other.
        exact = reference[: len(y)] if lanes else reference
        error = np.max(np.abs(y - exact) / (np.abs(exact) + np.asarray(floor)), axis=-1)
        return float(np.median(error))

    for label, (solver, controller) in methods(lanes).items():
        if chosen and label not in chosen:
            continue
        solve = make_solve(problem, t1, first_step, floor, solver, controller)
        program = jax.jit(batch(solve))
        start = jnp.asarray(y0)
        for rtol in jnp.asarray(TOLERANCES[:7] if lanes else TOLERANCES):
            run = lambda program=program, rtol=rtol: jax.block_until_ready(program(start, rtol))  # noqa: B023, E731
            y = np.asarray(run())
            points.append((label, error_of(y), run, lanes or 1))
            enough = lanes and points[-1][1] < min(ENSEMBLE_TARGETS)
            if enough or seconds(run) > 20 * LONG:
                break
    if numbalsoda is not None:
        solve, rows = make_lsoda(problem, t1, floor), np.atleast_2d(y0)[:50]
        for rtol in 10.0 ** -np.arange(2.0, 13.1):
            run = lambda rtol=rtol: np.stack([solve(row, rtol) for row in rows])  # noqa: E731
            y = run()
            points.append(("LSODA, compiled", error_of(y if lanes else y[0]), run, len(rows)))
    curves = {}
    times = in_turn([run for _, _, run, _ in points], repeats, busy)
    for (label, error, _, number), t in zip(points, times, strict=True):
        errors, shares = curves.setdefault(label, ([], []))
        errors.append(error)
        shares.append(t / number)
    return curves


def show(tables, targets):
    """Times in ms at each target, and how much longer than the best of ours."""
    for target in targets:
        print(f"\nms at error {target:.0e} (times the best of ours)")
        ratios = {}
        for name, curves in tables.items():
            times = {label: time_at(target, *curve) for label, curve in curves.items()}
            best = np.nanmin(
                [t for label, t in times.items() if label.startswith(("Radau", "Rodas"))]
            )
            shown = []
            for label, t in times.items():
                ratios.setdefault(label, []).append(t / best)
                shown.append(f"{label} {t * 1e3:.3g} ({t / best:.2g})")
            print(f"{name:6} " + "; ".join(shown))
        # Over the problems that the method solves to this error.
        means = {
            k: np.exp(np.mean(np.log([r for r in v if r > 0])))
            for k, v in ratios.items()
            if np.any(np.isfinite(v))
        }
        print("geometric mean: " + "; ".join(f"{k} {v:.3g}" for k, v in means.items()))


def draw(tables):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(4 * len(tables), 3.6), squeeze=False)
    for ax, (name, curves) in zip(axes[0], tables.items(), strict=True):
        points = {k: (e, np.asarray(t) * 1e3) for k, (e, t) in curves.items()}
        srx.plots.work_precision(points, ax=ax, work="ms").set_title(name)
        ax.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig("work_precision.png", dpi=150)
    print("\nsaved work_precision.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--ensemble", action="store_true", help="1000 perturbed starts at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--methods", default="", help="names, with semicolons between; all by default"
    )
    parser.add_argument("--busy", action="store_true", help="on a machine with other work")
    options = parser.parse_args()
    chosen = [name for name in options.methods.split(";") if name]
    lanes = LANES if options.ensemble else None
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}, float64, lanes {lanes or 1}")
    tables = {}
    for name in options.problems:
        tables[name] = measure(name, lanes, options.repeats, chosen, options.busy)
        for label, (errors, times) in tables[name].items():
            pairs = zip(errors, times, strict=True)
            line = "  ".join(f"{e:.0e}: {t * 1e3:.3g}" for e, t in pairs)
            print(f"{name:6} {label:22} error: ms  {line}", flush=True)
    show(tables, ENSEMBLE_TARGETS if lanes else TARGETS)
    draw(tables)


if __name__ == "__main__":
    main()
