# %% [markdown]
# # Recover equations from your own CSV file
# Put the name of your file into the next cell. The first row of the file names the columns: `t` is the
# time, `run` (optional) tells runs apart, and every other column is a state. Each row is a sample
# without gaps: for blank cells see "Blank cells" in `docs/equations.md`. Sample times may be uneven,
# and may differ between runs.
#
# Candidates are all monomials to degree two. Terms that the data do not need are dropped, as judged
# on runs that are held out from the fit. The file used here, `enzyme.csv`, is simulated.

# %% The line to change.
FILE = "enzyme.csv"

# %%
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# %% Read the data: your file, or one of those in the folder `data`.
HERE = Path(__file__).resolve().parent
path = Path(FILE) if Path(FILE).is_file() else HERE / "data" / FILE
data = srx.Measurements.from_csv(path).to_trajectories()
if data.num_runs == 1:  # fit the first part, judge on the rest
    ts, ys = data[0]
    half = 2 * len(ts) // 3
    parts = [slice(None, half + 1), slice(half, None)]
    data = srx.Trajectories.from_arrays(
        [ts[part] for part in parts], [ys[part] for part in parts], names=data.names
    )
print(data)

# %% Fit all candidates, drop terms, refit. More than twelve states: linear terms only.
n = data.num_states
candidates = srx.Polynomial(n, degree=2 if n <= 12 else 1)
result = srx.prune_and_refit(candidates, data, srx.RadauIIA5(), refine=2)
model = result.model
print(result)
print(f"{int(np.sum(model.active))} of {model.active.size} terms are left:")
print(srx.to_text(model, data.names, digits=4))

# %% Solve the equations from the first sample of each run.
sizes = np.max(np.abs(data.ys), axis=(0, 1))


@jax.jit
def solve(ts, y0):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(model),
        srx.RadauIIA5(),
        t0=ts[0],
        t1=ts[-1],
        dt0=None,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts[1:]),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-9 * sizes),
        max_steps=10_000,
        throw=False,
    ).ys


predicted = []
for (ts, ys), name in zip(data, data.run_names, strict=True):
    found = np.asarray(solve(jnp.asarray(ts), jnp.asarray(ys[0])))
    predicted.append((ts[1:], found))
    worst = np.max(np.abs(found - ys[1:]) / sizes, axis=0)
    print(
        f"run {name}: largest error of {data.names[np.argmax(worst)]}, {worst.max():.1e} of its size"
    )

# %% The figure: samples and solution of the first run; stiff data on a logarithmic time axis.
first_step = predicted[0][0][0] - data[0][0][0]
log_time = first_step < 1e-2 * np.ptp(data[0][0])
axes = srx.plots.trajectories(data, {"equations": predicted[0]}, log_time=bool(log_time))
figure = axes[0].figure
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
