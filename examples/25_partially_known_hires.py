# %% [markdown]
# # The missing reaction of a stiff system, from four runs
# All of HIRES is known except how `y6`, `y7` and `y8` react with each other. `PartiallyKnown` keeps
# the known terms fixed. Candidates for the missing terms are all monomials of these three states to
# degree two. The data are simulated.

# %%
import time
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
PROBLEM = srx.problems.hires()
STARTS = srx.problems.hires_initial_states()[:4]
SAMPLES = 80


# %% What is known: everything but `280 y6 y8`.
def known(t, y, args):
    y1, y2, y3, y4, y5, y6, y7, _ = y
    return jnp.stack(
        [
            -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
            1.71 * y1 - 8.75 * y2,
            -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
            8.32 * y2 + 1.71 * y3 - 1.12 * y4,
            -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
            0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
            -1.81 * y7,
            1.81 * y7,
        ]
    )


# %% The data: four simulated runs, eighty samples each.
def solve(field, y0, ts):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA13(),
        t0=0.0,
        t1=ts[-1],
        dt0=1e-5,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=1e-10, atol=1e-14), step_ts=ts
        ),
    ).ys


ts = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-3, PROBLEM.t1, SAMPLES - 1)])
ys = jax.vmap(lambda y0: solve(PROBLEM.vector_field, y0, ts))(jnp.asarray(STARTS))
data = srx.Trajectories.from_arrays(np.asarray(ts), np.asarray(ys))
print(data)

# %% Three unknown functions of three states, thirty candidate terms; those not needed are dropped.
unknown, last = srx.Polynomial(3, degree=2), (5, 6, 7)
model = srx.PartiallyKnown(known, unknown, inputs=last, outputs=last, num_states=8)
start = time.perf_counter()
result = srx.prune_and_refit(
    model, data, srx.RadauIIA5(), held_out=0.25, substeps=4, refine=1, progress=False
)
print(f"{result} after {time.perf_counter() - start:.0f} s")
learned = result.model.learned
for i, state in enumerate(("y6", "y7", "y8")):
    for j in np.flatnonzero(np.asarray(learned.active[i])):
        error = result.fit.standard_errors.learned.coefficients[i, j]
        name = learned.feature_names(["y6", "y7", "y8"])[j]
        print(f"d{state}/dt = known + {learned.coefficients[i, j]:.8g} {name}, +- {error:.1e}")
comparison = srx.compare(result.model, PROBLEM.true_equations())
print(comparison.summary())

# %% An unseen start, with the recovered reaction and without it.
unseen = jnp.asarray(PROBLEM.y0)
later = jnp.geomspace(1e-3, PROBLEM.t1, 150)
true = solve(PROBLEM.vector_field, unseen, later)
found = solve(result.model, unseen, later)
without = solve(known, unseen, later)
error = float(jnp.max(jnp.abs(found - true) / jnp.max(jnp.abs(true), axis=0)))
print(f"unseen start: largest error {error:.1e} of each state's range")

# %% One figure.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
for ax, i in zip(axes, (5, 6, 7), strict=True):
    ax.semilogx(later, true[:, i], color="k", lw=2.5, alpha=0.35, label="truth")
    ax.semilogx(later, found[:, i], "--", color="#D55E00", label="recovered")
    ax.semilogx(later, without[:, i], ":", color="#0072B2", label="known terms alone")
    ax.set_ylim(-0.1 * float(true[:, i].max()), 1.6 * float(true[:, i].max()))
    ax.set_title(data.names[i], fontsize=10)
    ax.set_xlabel("time")
axes[0].legend(fontsize=8)
figure.suptitle("HIRES from an unseen start")
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
