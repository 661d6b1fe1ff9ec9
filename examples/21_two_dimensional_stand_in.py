# %% [markdown]
# # A stiff system of two equations recovered through one-step methods
# A stand-in for the two-dimensional example of Fronk and Petzold, whose equations are not known to us:
# Kaps' problem, `y1' = -1002 y1 + 1000 y2^2`, `y2' = y1 - y2 - y2^2`. All six monomials to degree two
# are fitted in each equation, with one step from sample to sample.

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
PROBLEM = srx.problems.kaps(transient=True)
STARTS = np.random.default_rng(0).uniform(0.2, 2.0, (8, 2))
SPAN = 0.02  # twenty time constants of the fast state
ROUNDING = 4e-12
NAMES = PROBLEM.names


# %% Exact samples at equal distances, by steps of order 13; fewer samples are every second, ...
ts = np.linspace(0.0, SPAN, STEPS[-1] + 1)


@jax.jit
@jax.vmap
def solve(y0):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        srx.RadauIIA13(),
        t0=0.0,
        t1=SPAN,
        dt0=None,
        y0=y0,
        saveat=diffrax.SaveAt(t0=True, steps=True),
        stepsize_controller=diffrax.StepTo(ts),
        max_steps=STEPS[-1],
    ).ys


ys = np.asarray(solve(jnp.asarray(STARTS)))


def recover(solver, steps):
    """The polynomial of degree two that one step a sample explains best."""
    stride = STEPS[-1] // steps
    data = srx.Trajectories.from_arrays(ts[::stride], ys[:, ::stride], names=NAMES)
    model = srx.Polynomial(len(NAMES), degree=2)
    return srx.fit_least_squares(model, data, solver, progress=False).model


# %% The terms to show, and the recovered equations beside the true ones.
def visible(model):
    """Without the terms below a hundredth of the largest of their equation."""
    c = np.abs(np.asarray(model.coefficients))
    return model.with_active(c > 0.01 * c.max(axis=1, keepdims=True))


def compare(model):
    return srx.compare(model, PROBLEM.true_equations(), names=NAMES)


# %% Recovered equations against the number of samples.
errors = {}
for name, solver in METHODS.items():
    for steps in STEPS:
        model = recover(solver, steps)
        errors[name, steps] = compare(model).largest_relative_error
        shown = visible(model)
        faults = f"{compare(shown).num_missing} terms missed, {compare(shown).num_extra} too many"
        print(f"{name}, {steps + 1} samples: error {errors[name, steps]:.1e}, {faults}")
        for state, found in zip(NAMES, srx.to_sympy(shown, NAMES, digits=5), strict=True):
            print(f"    {state}' = {found}")

# %% Fractional errors and their slopes.
slopes = {}
print(f"\n{'method':15s} " + " ".join(f"N={n + 1:<6d}" for n in STEPS) + " slope")
for name in METHODS:
    found = np.array([errors[name, n] for n in STEPS])
    used = np.flatnonzero(found > ROUNDING)[-3:]
    slopes[name] = -np.polyfit(np.log(np.array(STEPS)[used]), np.log(found[used]), 1)[0]
    print(f"{name:15s} " + " ".join(f"{e:<8.1e}" for e in found) + f" {slopes[name]:.2f}")

# %% One figure.
figure, ax = plt.subplots(figsize=(6, 4.2), constrained_layout=True)
for color, name in zip(COLORS, METHODS, strict=True):
    found = [errors[name, n] for n in STEPS]
    ax.loglog(STEPS, found, "o-", color=color, ms=5, lw=1, label=f"{name}: {slopes[name]:.2f}")
ax.axhline(ROUNDING, color="0.7", lw=0.8)
ax.set_xlabel("steps of a run")
ax.set_ylabel("largest fractional error of a coefficient")
ax.set_title("Kaps' problem, a two-dimensional stand-in", fontsize=10)
ax.legend(fontsize=8, title="slope of the last three", title_fontsize=8)
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
