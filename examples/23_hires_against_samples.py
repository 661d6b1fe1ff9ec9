# %% [markdown]
# # HIRES recovered through one-step methods, against the number of samples
# Twenty simulated runs of eight species, from the initial states that Fronk and Petzold list. First
# all monomials to degree two are candidates, 45 in each equation, with samples over the whole
# experiment, and terms that are not needed are dropped. Then the coefficients of the terms found
# are fitted by one step from sample to sample with methods of different order. The samples lie in
# the first tenth of a time unit, so close that the error shows the order.

# %%
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
PROBLEM = srx.problems.hires()
STARTS = jnp.asarray(srx.problems.hires_initial_states())
SPAN = 0.1  # about thirty time constants of the fastest reaction
ROUNDING = 1e-11


# %% Exact samples: the whole experiment, and the first tenth by steps of order 13.
def solve(y0, ts, **options):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        srx.RadauIIA13(),
        t0=0.0,
        t1=ts[-1],
        y0=y0,
        **options,
    ).ys


def whole(samples):
    ts = jnp.append(0.0, jnp.geomspace(1e-3, PROBLEM.t1, samples - 1))
    # Steps end at the samples: between its ends a long step of high order is less accurate.
    controller = diffrax.PIDController(rtol=1e-10, atol=1e-14)
    controller = diffrax.ClipStepSizeController(controller, step_ts=ts)
    options = {"dt0": 1e-5, "saveat": diffrax.SaveAt(ts=ts), "stepsize_controller": controller}
    ys = jax.vmap(lambda y0: solve(y0, ts, **options))(STARTS)
    return srx.Trajectories.from_arrays(np.asarray(ts), np.asarray(ys))


# %% Which terms: missed, too many, and the error of the others, from thirty samples a run. Four steps
# from sample to sample, for the error of a single one looks like terms that are not there.
TRUE = PROBLEM.true_equations()
options = {"substeps": 4, "refine": 1, "progress": False}
result = srx.prune_and_refit(srx.Polynomial(8, degree=2), whole(30), srx.RadauIIA5(), **options)
print(f"30 samples: {srx.compare(result.model, TRUE).summary()}", flush=True)
FOUND = result.model

# %% Which coefficients: the terms found, fitted again with each method. Segments of nineteen runs fill
# blocks of one size, whatever the samples: each method is compiled once.
ts = jnp.linspace(0.0, SPAN, STEPS[-1] + 1)
options = {
    "dt0": None,
    "saveat": diffrax.SaveAt(t0=True, steps=True),
    "stepsize_controller": diffrax.StepTo(ts),
    "max_steps": STEPS[-1],
}
ys = np.asarray(jax.vmap(lambda y0: solve(y0, ts, **options))(STARTS[:19]))
errors = {}
print("\n| method | samples | error | y6' |\n|---|---|---|---|")
for name, solver in METHODS.items():
    for steps in STEPS:
        stride = STEPS[-1] // steps
        data = srx.Trajectories.from_arrays(np.asarray(ts)[::stride], ys[:, ::stride])
        model = srx.Polynomial(8, degree=2, active=FOUND.active)
        model = srx.fit_least_squares(model, data, solver, progress=False).model
        errors[name, steps] = srx.compare(model, TRUE).largest_relative_error
        equation = srx.to_sympy(model, digits=5)[5]
        print(f"| {name} | {steps + 1} | {errors[name, steps]:.1e} | `{equation}` |", flush=True)

# %% Fractional errors and their slopes.
slopes = {}
print("\n| method | " + " | ".join(f"N={n + 1}" for n in STEPS) + " | slope |")
print("|---" * (len(STEPS) + 2) + "|")
for name in METHODS:
    found = np.array([errors[name, n] for n in STEPS])
    used = np.flatnonzero(found > ROUNDING)[-3:]
    slopes[name] = -np.polyfit(np.log(np.array(STEPS)[used]), np.log(found[used]), 1)[0]
    print(f"| {name} | " + " | ".join(f"{e:.1e}" for e in found) + f" | {slopes[name]:.2f} |")

# %% One figure.
figure, ax = plt.subplots(figsize=(7.5, 4.2), constrained_layout=True)
for color, name in zip(COLORS, METHODS, strict=True):
    found = [errors[name, n] for n in STEPS]
    ax.loglog(STEPS, found, "o-", color=color, ms=5, lw=1, label=f"{name}: {slopes[name]:.2f}")
ax.axhline(ROUNDING, color="0.7", lw=0.8)
ax.set_xlabel("steps of a run")
ax.set_ylabel("largest fractional error of a coefficient")
ax.set_title("HIRES, 24 coefficients", fontsize=10)
# Beside the axes: there is no room between the lines.
options = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
ax.legend(fontsize=8, title="slope above the gray line", title_fontsize=8, **options)
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
