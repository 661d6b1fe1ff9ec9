"""An L-stable method trained for the Oregonator in steps of 5, alone and with its parameters.

As in `examples/33_learnable_stiff.py`, the tableau starts at Radau IIA of order 5 and keeps
L-stability and order two. Prints the relative errors of single steps along one period, what each
step tells of the parameters, and the parameters identified: with Radau IIA, with tableaus trained
beside them, and with one that was trained on the true equations. Run with

    python benchmarks/learnable_oregonator.py
"""

import importlib
import pathlib
import sys
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
EXAMPLE = importlib.import_module("33_learnable_stiff")
RADAU, minimize = EXAMPLE.RADAU, EXAMPLE.minimize

begin = time.perf_counter()
H = 5.0
oregonator = srx.problems.oregonator()
TERM = diffrax.ODETerm(oregonator.vector_field)
cycle = diffrax.diffeqsolve(
    TERM,
    srx.RadauIIA9(),
    0.0,
    310.0,
    None,
    jnp.asarray(oregonator.y0),
    oregonator.args,
    stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-11),
    saveat=diffrax.SaveAt(ts=jnp.arange(1e-9, 305.0, H)),
    max_steps=100_000,
).ys


def step(solver, y, logs):
    """One step of `H` from a sample."""
    options = {"max_steps": 1, "throw": False, "adjoint": srx.DiscreteAdjoint()}
    args = tuple(jnp.exp(logs))
    found = diffrax.diffeqsolve(TERM, solver, 0.0, H, H, y, args, **options).ys[-1]
    return jnp.where(jnp.isfinite(found), found, 1e3)


@eqx.filter_jit
def errors(solver, logs):
    """The largest relative error of a component, for every step along the cycle."""
    found = jax.vmap(lambda y: step(solver, y, logs))(cycle[:-1])
    return jnp.max(jnp.abs(found / cycle[1:] - 1), axis=-1)


@eqx.filter_jit
def sensitivities(logs):
    """Of the exact solution over each step by the logarithm of each parameter, the largest."""

    def end(logs, y):
        return diffrax.diffeqsolve(
            TERM,
            srx.RadauIIA9(),
            0.0,
            H,
            None,
            y,
            tuple(jnp.exp(logs)),
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
            adjoint=srx.DiscreteAdjoint(),
            max_steps=1000,
        ).ys[-1]

    slopes = jax.vmap(jax.jacfwd(end), (None, 0))(logs, cycle[:-1])
    return jnp.max(jnp.abs(slopes / cycle[1:, :, None]), axis=1)


def mean_log(solver, logs, floor=1e-12):
    return jnp.mean(jnp.log(floor**2 + errors(solver, logs) ** 2)) / 2


def trained_on(logs, start, floor=1e-7):
    return minimize(lambda solver: mean_log(solver, logs, floor), start)


def identified(solver, start):
    return minimize(lambda logs: mean_log(solver, logs, 1e-7), start)


def trained_beside(solver, logs):
    return minimize(lambda both: mean_log(both[0], both[1], 1e-7), (solver, logs))


true = jnp.log(jnp.array(oregonator.args))
trained = trained_on(true, RADAU, 1e-12)
for name, solver in (("Radau5", RADAU), ("trained", trained)):
    quantiles = np.percentile(errors(solver, true), (50, 75, 90))
    shown = " ".join(f"{q:.1e}" for q in quantiles)
    print(
        f"Oregonator, {name}: geometric mean {np.exp(mean_log(solver, true)):.1e}, 50/75/90 %: {shown}"
    )
told, error = np.asarray(sensitivities(true)), np.asarray(errors(RADAU, true))
usable = error < 0.1
print(f"steps that Radau5 takes with an error below 0.1: {usable.sum()} of {len(usable)}")
for name, by in zip("sqw", told.T, strict=True):
    best = np.argmin(np.where(by > 0.01, error, np.inf))
    print(
        f"slope of a step by log {name}: at most {by.max():.1e}, of these {by[usable].max():.1e}; "
        f"smallest error of a step with a slope above 0.01: {error[best]:.1e}"
    )
wrong = true + jnp.log(jnp.array([1.3, 0.7, 1.3]))
fixed = identified(RADAU, wrong)
solver, logs = RADAU, fixed
for _ in range(4):
    solver = trained_on(logs, solver)
    logs = identified(solver, logs)
found = {
    "Radau5": (RADAU, fixed),
    "a tableau trained beside them, from a wrong guess": trained_beside(trained, wrong),
    "a tableau trained beside them, from those of Radau5": trained_beside(RADAU, fixed),
    "a tableau trained in turn with them, four times": (solver, logs),
    "the last, both trained on": trained_beside(solver, logs),
    "a tableau trained on the true equations": (trained, identified(trained, wrong)),
}
for name, (solver, logs) in found.items():
    wrong_by = " ".join(f"{x:.0e}" for x in np.exp(logs - true) - 1)
    mean = np.exp(mean_log(solver, logs, 1e-7))
    print(f"identified with {name}: relative errors {wrong_by}; error of a step {mean:.1e}")
print(f"{time.perf_counter() - begin:.0f} s")
