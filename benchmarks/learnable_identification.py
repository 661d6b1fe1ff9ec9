"""Lorenz-63 identified from samples 0.2, 0.3 and 0.4 apart, with the method trained along.

Every method starts from the same equations, takes one step from sample to sample, and is fitted by
Levenberg and Marquardt, first to one interval, then to more in a row, up to 1.6 units of time, that
count alike: the 30 coefficients of a quadratic vector field, for the trained ten stages the tableau
as well. Prints
errors of forecasts from starts that were not trained on, evaluations of the field, what is left of
the order conditions of the trained tableaus, and draws their stability regions. Run with

    python benchmarks/learnable_identification.py [--steps 0.2 0.3 0.4] [--methods ...]
"""

import argparse
import functools
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
SAMPLES, STARTS = 3000, 400
FIELD, FLOW = srx.Polynomial(3, 2), srx.Polynomial(3, 8)
# The longest stretch that is fitted, one and a half Lyapunov times: beyond, chaos decides.
LONGEST = 1.6
WINDOWS = ((1, 100), (2, 60), (4, 100))  # intervals in a row, most steps of the fit
LAST = 60  # most steps of the fit of the longest stretch, where that is longer than these
ADAPTIVE = diffrax.PIDController(rtol=1e-6, atol=1e-6)


def tableau(rows, b):
    """A solver from the rows of an explicit tableau."""
    A = np.zeros((len(b), len(b)))
    for i, row in enumerate(rows, start=1):
        A[i, : len(row)] = row
    return srx.LearnableRungeKutta.from_tableau((A, np.array(b), A.sum(1)), order=1)


# Ketcheson's ten stages of order four: a long interval of stability to start from.
TEN = tableau(
    [[1 / 6] * i for i in range(1, 5)] + [[1 / 15] * 5 + [1 / 6] * i for i in range(5)],
    [0.1] * 10,
)
SOLVERS = {
    "Euler": tableau([], [1.0]),
    "RK4": tableau([[0.5], [0, 0.5], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    "ten stages, fixed": TEN,
    "ten stages, trained": TEN,
    "Dopri8, adaptive": diffrax.Dopri8(),
}


def field(t, y, coefficients):
    return coefficients @ FIELD.features(y)


def sample(h, count):
    """The exact solution at multiples of `h`."""
    lorenz, ts = srx.problems.lorenz(), h * jnp.arange(count)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lorenz.vector_field), diffrax.Dopri8(), 0.0, ts[-1], None,
        jnp.array([-8.0, -7.0, 27.0]), lorenz.args,
        stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-11),
        saveat=diffrax.SaveAt(ts=ts), max_steps=1_000_000,
    ).ys  # fmt: skip


def advance(solver, coefficients, y, h):
    """The states one interval later, and the evaluations of the field that it took for each."""
    term = diffrax.ODETerm(field)
    if isinstance(solver, srx.LearnableRungeKutta):

        def step(y):
            return solver.step(term, 0.0, h, y, coefficients, None, False)[0]

        return jax.vmap(step)(y), solver.tableau.num_stages

    def solve(y):
        solution = diffrax.diffeqsolve(
            term, solver, 0.0, h, None, y, coefficients, stepsize_controller=ADAPTIVE,
            adjoint=diffrax.ForwardMode(), max_steps=200, throw=False,
        )  # fmt: skip
        return solution.ys[-1], solution.stats["num_steps"]

    ends, steps = jax.vmap(solve)(y)
    return ends, solver.tableau.num_stages * jnp.mean(steps)


def march(solver, coefficients, h, y, count):
    """The states after 1 to `count` intervals, and the evaluations of each interval."""

    def interval(y, _):
        y, evaluations = advance(solver, coefficients, y, h)
        return y, (y, jnp.asarray(evaluations, float))

    return jax.lax.scan(interval, y, length=count)[1]


# %% The equations to start from, whatever the distance of the samples.
def invariant_field(x):
    r"""The quadratic field that the flow maps to itself, up to its size.

    The flow `F` over one interval is fitted by polynomials; then `f(F(x)) = F'(x) f(x)` is linear
    and homogeneous in the coefficients of `f`, which are the last singular vector for `|f| = 1`.
    """
    features = np.asarray(jax.vmap(FLOW.features)(x[:-1]))
    weights = np.linalg.lstsq(features, x[1:], rcond=1e-12)[0]
    slopes = np.asarray(jax.vmap(jax.jacfwd(FLOW.features))(x[:-1]))
    slopes = np.einsum("nfk,fi->nik", slopes, weights)
    before, after = (np.asarray(jax.vmap(FIELD.features)(y)) for y in (x[:-1], x[1:]))
    size = np.linalg.inv(np.linalg.qr(before)[1]) * np.sqrt(len(before))
    both = np.einsum("ij,nk->nijk", np.eye(3), after) - np.einsum("nij,nk->nijk", slopes, before)
    last = np.linalg.svd((both @ size).reshape(-1, 30), full_matrices=False)[2][-1]
    return last.reshape(3, 10) @ size.T


def sized(direction, x, h):
    """The multiple of a field whose flow over one interval meets most samples."""

    @jax.jit
    def misfit(size):
        half = advance(TEN, size * direction, x[:-1], h / 2)[0]
        return jnp.median(jnp.abs(advance(TEN, size * direction, half, h / 2)[0] - x[1:]))

    sizes = np.geomspace(0.5, 50, 60)
    sizes = np.concatenate([sizes, -sizes])
    found = np.array([float(misfit(size)) for size in sizes])
    return jnp.asarray(sizes[np.nanargmin(found)] * direction)


# %% Fit and forecast.
@functools.cache
def program(name):
    """Misfits and their Jacobian in the unknowns of one method, and its unknowns as a vector."""
    free, fixed = eqx.partition(SOLVERS[name], eqx.is_inexact_array)
    free = free if "trained" in name else None
    start, restore = ravel_pytree((free, jnp.zeros((3, 10))))

    def build(x):
        free, coefficients = restore(x)
        solver = SOLVERS[name] if free is None else eqx.combine(free, fixed).projected()
        return solver, coefficients

    def misfits(x, h, windows, weights):
        ends, counts = march(*build(x), h, windows[:, 0], windows.shape[1] - 1)
        found = jnp.moveaxis(ends, 0, 1) - windows[:, 1:]
        sound = jnp.where(jnp.abs(found) < 1e3, found, 1e3) * weights[:, None]
        return sound.ravel(), len(windows) * jnp.sum(counts)

    return start, build, jax.jit(misfits), jax.jit(jax.jacfwd(misfits, has_aux=True))


def alike(found, count):
    """Weights with which the errors of all intervals in a row count as much as those of the first.

    Without them the last decides, whose errors chaos has multiplied most.
    """
    size = jnp.sqrt(jnp.mean(found.reshape(-1, count, 3) ** 2, axis=(0, 2)))
    return size[0] / jnp.maximum(size, 1e-12)


def fit(name, x, h, windows, steps):
    """Levenberg and Marquardt; also the evaluations of the field that the residuals took."""
    _, _, misfits, jacobian = program(name)
    count = windows.shape[1] - 1
    unweighted, total = misfits(x, h, windows, jnp.ones(count))
    weights = alike(unweighted, count)
    found, _ = misfits(x, h, windows, weights)
    loss, damping, new = jnp.sum(found**2), 1e-2, True
    for _ in range(steps):
        if new:
            J = jacobian(x, h, windows, weights)[0]
            gram, gradient = np.asarray(J.T @ J), np.asarray(J.T @ found)
        ridge = damping * np.diag(gram) + 1e-12
        trial = x - np.linalg.solve(gram + np.diag(ridge), gradient)
        misfit, evaluations = misfits(trial, h, windows, weights)
        total += evaluations
        new = bool(jnp.sum(misfit**2) < loss)
        if new:
            gained, loss = 1 - jnp.sum(misfit**2) / loss, jnp.sum(misfit**2)
            x, found = trial, misfit
        damping = max(damping / 5, 1e-12) if new else damping * 4
        exact = loss < 1e-12 * found.size  # the tolerance of the adaptive solves
        if exact or damping > 1e8 or (new and gained < 1e-7):
            break
    return x, float(total)


def stretches(h):
    """How many intervals in a row are fitted, one after the other, and the most steps of each."""
    longest = int(LONGEST / h + 1e-6)
    return WINDOWS if longest <= WINDOWS[-1][0] else (*WINDOWS, (longest, LAST))


@eqx.filter_jit
def forecast_errors(solver, coefficients, h, runs, unit):
    """Root mean square errors after one and four intervals, and evaluations an interval."""
    ends, counts = march(solver, coefficients, h, runs[:, 0], 4)
    squares = ((ends - jnp.moveaxis(runs[:, 1:], 1, 0)) * unit) ** 2
    errors = jnp.sqrt(jnp.mean(squares, axis=(1, 2)))
    return errors[0], errors[-1], jnp.mean(counts)


def regression(x, h):
    """Sparse regression on central differences, as if the samples were close together."""
    features = np.asarray(jax.vmap(FIELD.features)(x[1:-1]))
    slopes = (x[2:] - x[:-2]) / (2 * h)
    active = np.ones((3, 10), bool)
    for _ in range(10):
        found = np.zeros((3, 10))
        for i, chosen in enumerate(active):
            found[i, chosen] = np.linalg.lstsq(features[:, chosen], slopes[:, i])[0]
        active = np.abs(found) > 0.1
    return jnp.asarray(found)


def identify(h, methods):
    """The methods at one distance of samples; returns the trained tableau."""
    begin = time.perf_counter()
    ys = np.asarray(sample(h, SAMPLES + 3 * STARTS + 5))
    unit = 1.5 * np.std(ys[:SAMPLES], axis=0)
    x = (ys - np.mean(ys[:SAMPLES], axis=0)) / unit
    seen, unseen = x[:SAMPLES], x[SAMPLES:]
    runs = np.stack([unseen[k : k + 3 * STARTS : 3] for k in range(5)], axis=1)
    h = jnp.asarray(h)  # one compiled program for all
    start = sized(invariant_field(seen), seen, h)

    def show(name, solver, coefficients, total):
        one, four, count = forecast_errors(solver, coefficients, h, runs, unit)
        print(
            f"{h:4.1f}  {name:20}{one:12.4g}{four:12.4g}{count:12.1f}{total:16.2g}"
            f"{time.perf_counter() - begin:9.0f}",
            flush=True,
        )

    show("sparse regression", SOLVERS["Dopri8, adaptive"], regression(seen, h), 0)
    show("start of the others", SOLVERS["Dopri8, adaptive"], start, 0)
    trained = None
    for name in methods:
        first, build, *_ = program(name)
        x, total = jnp.concatenate([first[:-30], start.ravel()]), 0.0
        for window, steps in stretches(float(h)):
            windows = [seen[k : SAMPLES - window + k] for k in range(window + 1)]
            x, evaluations = fit(name, x, h, np.stack(windows, axis=1), steps)
            total += evaluations
        solver, coefficients = build(x)
        show(name, solver, coefficients, total)
        if "trained" in name:
            trained = solver.tableau
    return trained


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, nargs="+", default=[0.2, 0.3, 0.4])
    parser.add_argument("--methods", nargs="+", default=list(SOLVERS))
    begin, options, found = time.perf_counter(), parser.parse_args(), {}
    print(f"{'h':>4}  {'method':20}{'RMSE t0+h *':>12}{'t0+4h *':>12}{'f a step':>12}", end="")
    print(f"{'f in training':>16}{'seconds':>9}")
    for h in options.steps:
        tableau = identify(h, options.methods)
        if tableau is not None:
            found[f"trained, h = {h}"] = tableau
    for name, tableau in found.items():
        print(f"\n{name}\n{srx.diagnostics.method_report(tableau)}")
    print(f"* with stretches of {LONGEST}, which was chosen by these errors")
    print(f"{time.perf_counter() - begin:.0f} s")
    known = {"RK4": SOLVERS["RK4"].tableau, "ten stages, fixed": TEN.tableau}
    ax = srx.plots.stability_region(known | found, extent=(-15, 2, -8, 8))
    ax.figure.savefig("learnable_identification.png", dpi=150)


if __name__ == "__main__":
    main()
