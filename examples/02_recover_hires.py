# %% [markdown]
# # Recover the equations of a stiff reaction from data
# HIRES is a stiff reaction of eight species (High Irradiance RESponse of photomorphogenesis). This
# script reads a CSV file of 20 simulated runs and recovers the differential equations. Candidates
# are all monomials to degree two, 45 in each equation. They are fitted by implicit steps from
# sample to sample, and terms that the data do not need are dropped.

# %%
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
HERE = Path(__file__).resolve().parent

# %% The data: `run, t, y1, ..., y8`.
data = srx.Trajectories.from_csv(HERE / "data" / "hires.csv")
print(data)

# %% Fit all candidates, drop terms, refit the rest with steps half as long.
candidate = srx.Polynomial(data.num_states, degree=2)
result = srx.prune_and_refit(candidate, data, srx.RadauIIA5(), refine=2)
print(result)

# %% The recovered equations beside the true ones.
problem = srx.problems.hires()
equations = srx.to_sympy(result.model, data.names, digits=5)
print(srx.to_text(equations, data.names))
comparison = srx.compare(result.model, problem.true_equations())
print(comparison)


# %% Solve both from an initial state that is not in the data, ten times as long as the data.
def solve(field, y0, ts):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        t0=0.0,
        t1=ts[-1],
        dt0=1e-4,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-11),
    ).ys


unseen = jnp.asarray(problem.y0)
ts = jnp.geomspace(1e-3, 10 * problem.t1, 200)
true = solve(problem.vector_field, unseen, ts)
found = solve(result.model, unseen, ts)
error = float(jnp.max(jnp.abs(found - true) / jnp.max(jnp.abs(true), axis=0)))
print(f"unseen start, {ts[-1]:.0f} time units: largest error {error:.1e} of each state's range")

# %% The figure: samples and fit of one run, and the solve from the unseen initial state.
run_ts, run_ys = data[0]
fit = solve(result.model, jnp.asarray(run_ys[0]), jnp.asarray(run_ts[1:]))
run_label = f"samples of run {data.run_names[0]}"
figure, axes = plt.subplots(2, 4, figsize=(12, 5.5), sharex=True, constrained_layout=True)
for i, ax in enumerate(axes.flat):
    ax.plot(run_ts[1::12], run_ys[1::12, i], "o", color="#0072B2", ms=4, label=run_label)
    ax.plot(run_ts[1:], fit[:, i], "-", color="#56B4E9", label="recovered equations")
    ax.plot(ts, true[:, i], "-", color="#000000", lw=2.5, alpha=0.35, label="truth, unseen start")
    ax.plot(ts, found[:, i], "--", color="#D55E00", label="recovered, unseen start")
    ax.axvline(problem.t1, color="0.7", lw=0.8)
    ax.set_xscale("log")
    ax.set_title(data.names[i], fontsize=10)
for ax in axes[1]:
    ax.set_xlabel("time")
axes[0, 0].legend(fontsize=7)
figure.suptitle("HIRES: equations recovered from samples (grey line: end of the data)")
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")

# %%
print(comparison.summary())
