# %% [markdown]
# # Robertson's rate constants from samples
# The rates range from 0.04 to 3e7, and one species is never above 1e-4. Ten monomials are
# candidates in each of the three equations. Residuals are in units of each species' size, and least
# squares scales its columns; nothing else is needed for coefficients over eleven decades.

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
PROBLEM = srx.problems.robertson()
SAMPLES = 60
# Starts of different total amount: where the sum of the species is one throughout, `y1` is the same
# as `y1^2 + y1 y2 + y1 y3`, and no data can tell the two apart.
STARTS = np.array(
    [[1.0, 0.0, 0.0], [0.6, 0.0, 0.1], [1.3, 1e-5, 0.4], [0.3, 3e-5, 0.9], [0.8, 0.0, 0.5]]
)


# %% The samples, from a microsecond on.
@jax.jit
@jax.vmap
def solve(y0):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        srx.RadauIIA13(),
        t0=0.0,
        t1=1e4,
        dt0=1e-7,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=1e-10, atol=1e-16), step_ts=ts
        ),
    ).ys


ts = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-6, 1e4, SAMPLES - 1)])
ys = solve(jnp.asarray(STARTS))
data = srx.Trajectories.from_arrays(np.asarray(ts), np.asarray(ys))
print(data)

# %% All monomials to degree two, fitted, dropped, refitted.
start = time.perf_counter()
result = srx.prune_and_refit(
    srx.Polynomial(3, degree=2), data, srx.RadauIIA9(), substeps=2, refine=2, progress=False
)
print(f"{result} after {time.perf_counter() - start:.0f} s")
comparison = srx.compare(result.model, PROBLEM.true_equations())
print(comparison)
print(srx.to_text(result.model, digits=6))

# %% With its standard errors.
for i, state in enumerate(data.names):
    for j in np.flatnonzero(np.asarray(result.model.active[i])):
        value = result.model.coefficients[i, j]
        error = result.fit.standard_errors.coefficients[i, j]
        print(f"d{state}/dt  {result.model.feature_names()[j]:6s} {value:16.8g} +- {error:.1e}")

# %% One figure: the species, and what one step explains of each sample.
step = srx.segment_predictions(result.model, data.ts, data.ys, srx.RadauIIA9(), substeps=4)
size = np.max(np.abs(np.asarray(ys)), axis=(0, 1))
misfit = np.abs(np.asarray(step) - np.asarray(ys)[:, 1:]) / size
figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
for i, color in enumerate(("#0072B2", "#D55E00", "#009E73")):
    for run in range(len(STARTS)):
        label = f"y{i + 1} / {size[i]:.2g}" if run == 0 else None
        axes[0].semilogx(
            ts[1:], ys[run, 1:, i] / size[i], ".-", color=color, ms=3, lw=0.7, label=label
        )
        axes[1].loglog(ts[1:], misfit[run, :, i] + 1e-17, ".", color=color, ms=3)
axes[0].set_title("samples of five runs")
axes[1].set_title("misfit of one step, in sizes of the species")
axes[0].legend(fontsize=8)
for ax in axes:
    ax.set_xlabel("time")
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
