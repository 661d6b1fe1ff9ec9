# %% [markdown]
# # What explicit steps do to training on a stiff oscillator
# Van der Pol's oscillator at `mu = 1000`. First the cost of a solve: the explicit method of Dormand
# and Prince against Radau IIA. Then training: a polynomial of degree three predicts each sample
# from the previous one by one explicit or implicit step, or by adaptive steps with
# `DiscreteAdjoint`.

# %%
import time
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
PROBLEM = srx.problems.van_der_pol(mu=1000.0)
RK4 = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)
EPOCHS, WIDTH, SEED = 1000, 10, 0


# %% One period and a half, explicit and implicit, at the same tolerance.
def solve(solver, saveat, rtol=1e-6, atol=1e-9, **settings):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        solver,
        t0=0.0,
        t1=2000.0,
        dt0=1e-4,
        y0=jnp.asarray(PROBLEM.y0),
        saveat=saveat,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        **settings,
    )


# Adjoints of stiffrax count evaluations; of Dormand and Prince's method there are six a step, which
# hands its last slope on as the next first one.
METHODS = (
    ("Dormand-Prince 5", diffrax.Dopri5(), {"max_steps": None}),
    ("Radau IIA 5", srx.RadauIIA5(), {"adjoint": srx.DiscreteAdjoint()}),
)
print(f"{'mu = 1000, t to 2000':22s} {'steps':>9s} {'evaluations':>12s} {'error':>8s}")
for name, solver, settings in METHODS:
    found = solve(solver, diffrax.SaveAt(t1=True), **settings)
    error = np.max(np.abs(np.asarray(found.ys)[0] / PROBLEM.reference_values[-1] - 1))
    steps = int(found.stats["num_steps"])
    counted = "adjoint" in settings
    evaluations = int(found.stats["num_f_evaluations"]) if counted else 6 * steps
    print(f"{name:22s} {steps:9,d} {evaluations:12,d} {error:8.1e}")

# %% The samples: every second step that Radau takes, as close as the solution needs them.
coarse = solve(srx.RadauIIA5(), diffrax.SaveAt(steps=True))
count = int(np.sum(np.isfinite(np.asarray(coarse.ts))))
ts = np.append(0.0, np.asarray(coarse.ts)[:count])[::2]
ys = np.asarray(solve(srx.RadauIIA13(), diffrax.SaveAt(ts=jnp.asarray(ts)), rtol=1e-10).ys)
data = srx.Trajectories.from_arrays(ts, ys)
print(data)

# %% Training with Adam from the same start.
LOSSES = {
    "explicit Euler": srx.SegmentLoss(diffrax.Euler()),
    "RK4": srx.SegmentLoss(srx.LearnableRungeKutta.from_tableau(RK4, order=4)),
    "backward Euler": srx.SegmentLoss(srx.BackwardEuler()),
    "trapezoid": srx.SegmentLoss(srx.Trapezoid()),
    "Radau IIA 3": srx.SegmentLoss(srx.RadauIIA3()),
    "Radau IIA 5": srx.SegmentLoss(srx.RadauIIA5()),
    "adaptive Radau IIA 5": srx.TrajectoryLoss(
        srx.RadauIIA5(), srx.ScaledMSE(), rtol=1e-3, window=1, max_steps=64
    ),
}
STARTS = {
    "a random network": srx.PiNet(2, WIDTH, degree=3, key=jax.random.key(SEED)),
    "the slopes of the data": srx.fit_least_squares(
        srx.Polynomial(2, degree=3), data, diffrax.Euler(), max_steps=1, progress=False
    ).model,
}
histories = {}
for begin, model in STARTS.items():
    print(f"\nfrom {begin}:")
    for name, loss in LOSSES.items():
        start = time.perf_counter()
        fit = srx.fit(model, data, loss, optimizer=optax.adam(1e-2), steps=EPOCHS, progress=False)
        history = histories[begin, name] = fit.history
        losses = history.solved_loss
        seconds = time.perf_counter() - start
        print(
            f"{name:21s} loss {losses[0]:.1e}, largest {np.nanmax(losses):.1e}, last "
            f"{losses[-1]:.1e}, best {np.nanmin(losses):.1e}; "
            f"failed predictions {history.num_failed[-1]}, {seconds:.0f} s",
            flush=True,
        )

# %% The same steps by least squares.
fit = srx.fit_least_squares(
    srx.Polynomial(2, degree=3), data, srx.RadauIIA9(), substeps=2, progress=False
)
error = srx.compare(fit.model, PROBLEM.true_equations()).largest_relative_error
print(f"\nleast squares: {fit}, largest error of a true coefficient {error:.1e}")

# %% One figure: loss against epoch.
COLORS = ("#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "k")
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, constrained_layout=True)
for ax, begin in zip(axes, STARTS, strict=True):
    for color, name in zip(COLORS, LOSSES, strict=True):
        ax.semilogy(histories[begin, name].solved_loss, color=color, lw=1, label=name)
    ax.set_title(f"from {begin}", fontsize=10)
    ax.set_xlabel("epoch")
axes[0].set_ylabel("loss")
axes[0].legend(fontsize=8)
figure.suptitle("Van der Pol, mu = 1000: training with one step a sample")
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
