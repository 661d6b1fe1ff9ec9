# %% [markdown]
# # Stiff systems of two and three equations recovered through one-step methods
# The equations of the two- and the three-dimensional example of Fronk and Petzold are not known to
# us. These stand-ins have linear and quadratic terms: Kaps' problem, `y1' = -1002 y1 + 1000 y2^2`,
# `y2' = y1 - y2 - y2^2`, and `y1' = -500 y1 + 500 y2 y3`, `y2' = -2 y2 + y1`, `y3' = -y3 + y1 y2 /
# 2`. All monomials to degree two are fitted in each equation, with one step from sample to sample.

# %%
import functools
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
METHODS = {
    "backward Euler": srx.BackwardEuler(),
    "trapezoid": srx.Trapezoid(),
    "Radau IIA 3": srx.RadauIIA3(),
    "Radau IIA 5": srx.RadauIIA5(),
    "Radau IIA 9": srx.RadauIIA9(),
}
STEPS = (20, 40, 80, 160)
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
# Each with its starts and twenty time constants of its fast state.
SYSTEMS = {
    "Kaps' problem": (srx.problems.kaps(transient=True), (16, 2), 0.02),
    "three equations": (srx.problems.quadratic_triple(), (16, 3), 0.04),
}
ROUNDING = 4e-12


# %% Exact samples at equal distances, by steps of order 13; fewer samples are every second, ...
def exact_samples(problem, shape, span):
    ts = np.linspace(0.0, span, STEPS[-1] + 1)

    @jax.jit
    @jax.vmap
    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            srx.RadauIIA13(),
            t0=0.0,
            t1=span,
            dt0=None,
            y0=y0,
            saveat=diffrax.SaveAt(t0=True, steps=True),
            stepsize_controller=diffrax.StepTo(ts),
            max_steps=STEPS[-1],
        ).ys

    starts = np.random.default_rng(0).uniform(0.2, 2.0, shape)
    return ts, np.asarray(solve(jnp.asarray(starts)))


def recover(ts, ys, names, solver, steps):
    """The polynomial of degree two that one step a sample explains best."""
    stride = STEPS[-1] // steps
    data = srx.Trajectories.from_arrays(ts[::stride], ys[:, ::stride], names=names)
    model = srx.Polynomial(len(names), degree=2)
    return srx.fit_least_squares(model, data, solver, progress=False).model


def visible(model):
    """Without the terms below a hundredth of the largest of their equation."""
    c = np.abs(np.asarray(model.coefficients))
    return model.with_active(c > 0.01 * c.max(axis=1, keepdims=True))


# %% Recovered equations against the number of samples.
errors, slopes = {}, {}
for system, (problem, shape, span) in SYSTEMS.items():
    names = problem.names
    ts, ys = exact_samples(problem, shape, span)
    compare = functools.partial(srx.compare, true=problem.true_equations(), names=names)
    print(f"\n{system}")
    for name, solver in METHODS.items():
        for steps in STEPS:
            model = recover(ts, ys, names, solver, steps)
            error = errors[system, name, steps] = compare(model).largest_relative_error
            shown = visible(model)
            faults = compare(shown)
            print(
                f"{name}, {steps + 1} samples: error {error:.1e}, {faults.num_missing} terms "
                f"missed, {faults.num_extra} too many",
                flush=True,
            )
            for state, found in zip(names, srx.to_sympy(shown, names, digits=5), strict=True):
                print(f"    {state}' = {found}")

# %% Fractional errors and their slopes.
for system in SYSTEMS:
    slopes[system] = {}
    print(f"\n{system:15s} " + " ".join(f"N={n + 1:<6d}" for n in STEPS) + " slope")
    for name in METHODS:
        found = np.array([errors[system, name, n] for n in STEPS])
        used = np.flatnonzero(found > ROUNDING)[-3:]
        slope = -np.polyfit(np.log(np.array(STEPS)[used]), np.log(found[used]), 1)[0]
        slopes[system][name] = slope
        print(f"{name:15s} " + " ".join(f"{e:<8.1e}" for e in found) + f" {slope:.2f}")

# %% One figure.
figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), sharey=True, constrained_layout=True)
for ax, system in zip(axes, SYSTEMS, strict=True):
    for color, name in zip(COLORS, METHODS, strict=True):
        found = [errors[system, name, n] for n in STEPS]
        label = f"{name}: {slopes[system][name]:.2f}"
        ax.loglog(STEPS, found, "o-", color=color, ms=5, lw=1, label=label)
    ax.axhline(ROUNDING, color="0.7", lw=0.8)
    ax.set_xlabel("steps of a run")
    ax.set_title(f"{system}, a stand-in", fontsize=10)
    # Beside the axes: there is no room between the lines.
    options = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    ax.legend(fontsize=8, title="slope above the gray line", title_fontsize=8, **options)
axes[0].set_ylabel("largest fractional error of a coefficient")
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
