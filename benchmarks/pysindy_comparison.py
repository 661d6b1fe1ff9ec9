"""Equations recovered from samples: stiffrax and pysindy on the same data.

Three stiff systems, three sampling densities, four levels of noise (parts of the root mean square of
a state). A cell of the table lists terms missed, terms too many, and the largest fractional error
among the terms found. stiffrax runs settings chosen beforehand. pysindy runs five ways to
differentiate and two widths of the weak form, each with thirteen thresholds, and shows of each kind
the run that comes closest to the truth, which a user could not pick: the columns with a star.

Needs the peer: `pip install pysindy`. Run with `triple`, `rober` or `hires` for one system, and with
numbers for some of the densities.
"""

import contextlib
import sys
import time
import warnings

import jax
import numpy as np
from sampled_runs import ROBER_STARTS, sampled_runs

import stiffrax as srx

try:
    import pysindy as ps  # pyright: ignore[reportMissingImports]
except ImportError:
    sys.exit("This benchmark compares with pysindy, which is not installed: pip install pysindy")

jax.config.update("jax_enable_x64", True)
NOISE = (0.0, 0.001, 0.01, 0.05)
SAMPLES = (20, 40, 80)
THRESHOLDS = np.geomspace(1e-4, 1.0, 13)
SYSTEMS = {
    "triple": (
        srx.problems.quadratic_triple(),
        np.random.default_rng(0).uniform(0.2, 1.2, (8, 3)),
        1e-4,
        5.0,
    ),
    "rober": (srx.problems.robertson(), np.array(ROBER_STARTS), 1e-6, 1e4),
    "hires": (srx.problems.hires(), srx.problems.hires_initial_states(), 1e-3, 321.8122),
}


def ours(ts, ys, size, noise):
    """Equations by `prune_and_refit`, with settings chosen beforehand.

    Noisy: whole runs from free starts, reached through predictions coupled to the samples, and an
    information criterion. Clean: the same with terms judged on held-out runs, and steps from sample
    to sample; kept is what predicts whole runs better, for which the truth need not be known. (Only
    the first is fitted to them; where both find the terms, they predict alike.)
    """
    data = srx.Trajectories.from_arrays(ts, ys)
    model, solver = srx.Polynomial(ys.shape[-1], degree=2), srx.RadauIIA5()
    substeps = 4 if not noise or len(ts) <= 20 else 2
    options = {"scale": size, "substeps": substeps, "progress": False}
    runs = {"window": len(ts) - 1, "initial_states": "free"}
    coupled = runs | {"start": "coupled", "criterion": "ebic" if noise else "held_out"}
    settings = [coupled] if noise else [coupled, {}]
    found = [
        srx.prune_and_refit(model, data, solver, refine=1, **options, **setting).model
        for setting in settings
    ]

    def loss(model):
        options_given = options | runs | {"start": "given", "max_steps": 1}
        return srx.fit_least_squares(model, data, solver, **options_given).losses[0]

    model = found[0] if noise else min(found, key=loss)
    return np.where(model.active, model.coefficients, 0)


def differentiations(ts):
    """What pysindy offers for unequal distances in time."""
    return {
        "finite differences": ps.FiniteDifference(order=2),
        "smoothed": ps.SmoothedFiniteDifference(smoother_kws={"window_length": 5}),
        "spline": ps.SINDyDerivative(kind="spline", s=1e-4),
        "spline, smooth": ps.SINDyDerivative(kind="spline", s=1e-2),
        "kalman": ps.SINDyDerivative(kind="kalman", alpha=1e-2),
    }


def differentiated(ts, ys, size):
    """`(name, coefficients)` of every run of SINDy, in the units of the samples.

    States are given in units of their sizes and slopes in units of theirs, with normalized columns:
    a threshold is a part of the slope then, and means the same to all terms and equations.
    """
    runs, times = [run / size for run in ys], [ts] * len(ys)
    for name, method in differentiations(ts).items():
        slopes = [np.asarray(method._differentiate(run, ts)) for run in runs]
        norm = np.sqrt(sum(np.sum(slope**2, axis=0) for slope in slopes))
        if not np.all(np.isfinite(norm)):
            continue
        for threshold in THRESHOLDS:
            model = ps.SINDy(sparse(threshold), ps.PolynomialLibrary(degree=2))
            model.fit(runs, t=times, x_dot=[slope / norm for slope in slopes])
            yield name, np.asarray(model.coefficients()) * norm[:, None] * units(size)


def weak(ts, ys, size):
    """The same of the weak form, whose integrals are over a twentieth or a fifth of the time."""
    runs, times = [run / size for run in ys], [ts] * len(ys)
    library = ps.PolynomialLibrary(degree=2, include_bias=True)
    for part in (20, 5):
        with scalar_draws():
            terms = ps.WeakPDELibrary(
                function_library=library, spatiotemporal_grid=ts, K=200, H_xt=[ts[-1] / part]
            )
        for threshold in THRESHOLDS * 10:
            model = ps.SINDy(sparse(threshold), terms)
            model.fit(runs, t=times)
            yield f"1/{part}", np.asarray(model.coefficients()) * units(size)


def units(size):
    """From coefficients for states in units of `size` to those of the samples."""
    return size[:, None] / np.prod(size ** srx.Polynomial(len(size), 2).exponents, axis=1)


@contextlib.contextmanager
def scalar_draws():
    """Draws of one number as numbers: NumPy 2.4 refuses what pysindy 2.1 does with arrays of one."""
    draw = np.random.uniform
    np.random.uniform = lambda low, high, size: draw(low, high, None if size == 1 else size)
    try:
        yield
    finally:
        np.random.uniform = draw


def sparse(threshold):
    return ps.STLSQ(threshold=threshold, alpha=1e-10, normalize_columns=True)


def score(found, true):
    """Terms missed, terms too many, and the largest fractional error of those found."""
    there, kept = true != 0, found != 0
    both = there & kept
    error = np.max(np.abs(found[both] - true[both]) / np.abs(true[both])) if both.any() else np.nan
    return int(np.sum(there & ~kept)), int(np.sum(kept & ~there)), float(error)


def true_coefficients(problem):
    """The coefficients of the problem in the monomials of `Polynomial`."""
    import sympy

    names = sympy.symbols(problem.names)
    exponents = srx.Polynomial(len(names), 2).exponents
    polynomials = [sympy.Poly(e, *names) for e in problem.true_equations().values()]
    return np.array(
        [[float(p.coeff_monomial(tuple(map(int, e)))) for e in exponents] for p in polynomials]
    )


def shown(score):
    return "{}, {}, {:.1e}".format(*score)


def row(system, samples, noise):
    """One row of the table."""
    problem, starts, first, last = SYSTEMS[system]
    true = true_coefficients(problem)
    ts = np.append(0.0, np.geomspace(first, last, samples - 1))
    clean = sampled_runs(problem.vector_field, starts, ts)
    size = np.sqrt(np.mean(clean**2, axis=(0, 1)))
    ys = clean + noise * size * np.random.default_rng(1).normal(size=clean.shape)
    begin = time.perf_counter()
    cells = [shown(score(ours(ts, ys, size, noise), true))]
    seconds = time.perf_counter() - begin
    for peer in (differentiated, weak):
        scores = [(score(found, true), name) for name, found in peer(ts, ys, size)]
        best, name = min(scores, key=lambda s: (s[0][0] + s[0][1], s[0][2]))
        cells.append(f"{shown(best)} ({name})")
    print(f"| {samples} | {100 * noise:g} % | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def main(chosen, densities):
    warnings.simplefilter("ignore")
    for system in chosen:
        true = true_coefficients(SYSTEMS[system][0])
        runs = len(SYSTEMS[system][1])
        print(f"\n{system}: {runs} runs, {np.sum(true != 0)} terms of {true.size}")
        print(
            "| samples | noise | stiffrax: missed, extra, error | SINDy * | weak form * | s, ours |"
        )
        print("|---|---|---|---|---|---|")
        for samples in densities:
            for noise in NOISE:
                row(system, samples, noise)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main([word for word in sys.argv[1:] if not word.isdigit()] or SYSTEMS, numbers or SAMPLES)
