# %% [markdown]
# # A linear equation recovered through one-step methods
# `y' = -K y + 2K` from 0 has a transient of length `1/K` and the steady state 2. One-step methods
# are fitted to exact samples. They recover not `K` but the rate `z/h` at which their stability
# function is exact, `R(z) = exp(-K h)`. The error falls with the order of the method, at every
# stiffness alike.

# %%
from pathlib import Path

import jax
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
RATES = (10.0, 100.0, 1000.0)
SAMPLES = (6, 11, 21, 41, 81)
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
ROUNDING = 1e-11


# %% Samples, equally spaced, and the equation that a method finds in them.
def recover(solver, rate, span, samples):
    problem = srx.problems.linear_relaxation(rate=rate, t1=span)
    ts = np.linspace(0.0, span, samples)
    data = srx.Trajectories.from_arrays(ts, problem.solution(ts), names=["y"])
    return srx.fit_least_squares(srx.Polynomial(1, degree=1), data, solver, progress=False).model


def error(model, rate):
    """The larger of the fractional errors of the two coefficients."""
    true = np.array([2 * rate, -rate])
    return float(np.max(np.abs((np.asarray(model.coefficients[0]) - true) / true)))


def text(model):
    return str(srx.to_sympy(model, ["y"], digits=7)[0])


# %% The transient, ten time constants, at three stiffnesses; the equations found at K = 1000.
steps = np.array(SAMPLES) - 1
errors = {(name, rate): [] for name in METHODS for rate in RATES}
print(f"{'method':15s} {'N':>3s} {'h K':>6s}  y' =")
for name, solver in METHODS.items():
    for samples in SAMPLES:
        models = {rate: recover(solver, rate, 10 / rate, samples) for rate in RATES}
        for rate, model in models.items():
            errors[name, rate].append(error(model, rate))
        print(f"{name:15s} {samples:3d} {10 / (samples - 1):6.3f}  {text(models[1000.0])}")

# %% Fractional errors, and their slope against the number of steps.
print(f"\n{'method':15s} {'K':>5s}  " + "  ".join(f"N={n:<5d}" for n in SAMPLES) + "  slope")
for (name, rate), found in errors.items():
    used = np.flatnonzero(np.array(found) > ROUNDING)[-3:]
    slope = -np.polyfit(np.log(steps[used]), np.log(np.array(found)[used]), 1)[0]
    print(f"{name:15s} {rate:5.0f}  " + "  ".join(f"{e:.1e}" for e in found), f" {slope:.2f}")

# %% Samples so far apart that the transient lies between the first two.
print("\nK = 1000 on [0, 1], 81 samples, h K = 12.5:")
for name, solver in METHODS.items():
    model = recover(solver, 1000.0, 1.0, 81)
    rest = -model.coefficients[0, 0] / model.coefficients[0, 1]
    print(f"{name:15s} y' = {text(model)}, at rest at {rest:.6f}")

# %% One figure: the errors at three stiffnesses, one on top of the other.
figure, ax = plt.subplots(figsize=(6, 4.2), constrained_layout=True)
for color, name in zip(COLORS, METHODS, strict=True):
    for marker, rate in zip("o^x", RATES, strict=True):
        label = name if rate == 10.0 else None
        ax.loglog(steps, errors[name, rate], marker=marker, color=color, ms=5, lw=1, label=label)
ax.axhline(ROUNDING, color="0.7", lw=0.8)
ax.set_xlabel("steps over ten time constants")
ax.set_ylabel("fractional error of the coefficients")
ax.set_title("y' = -K y + 2K, K = 10 (circles), 100 (triangles), 1000 (crosses)", fontsize=10)
ax.legend(fontsize=8)
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
