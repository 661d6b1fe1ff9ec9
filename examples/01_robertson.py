# %% [markdown]
# # Solve a stiff problem
# Robertson's reaction has three species and rates that differ by nine orders of magnitude, and is
# solved over ten decades of time. An explicit method would need steps below the time constant of
# the fastest rate; an implicit method takes the steps that the solution needs.

# %%
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)  # stiff problems ask for double precision

# %% The problem: vector field, initial state, and reference values from the literature.
problem = srx.problems.robertson()
END = 1e5
known = problem.reference_times <= END
reference = srx.Trajectories.from_arrays(
    problem.reference_times[known], problem.reference_values[known], names=("A", "B", "C")
)


# %% One solve. `DiscreteAdjoint` makes it differentiable with respect to the three rates.
def solve(rates, saveat):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.RadauIIA5(),
        t0=0.0,
        t1=END,
        dt0=None,
        y0=jnp.asarray(problem.y0),
        args=rates,
        saveat=saveat,
        stepsize_controller=srx.PredictiveController(rtol=1e-8, atol=1e-12),
        adjoint=srx.DiscreteAdjoint(),
    )


rates = jnp.asarray(problem.args)
solution = jax.jit(lambda rates: solve(rates, diffrax.SaveAt(steps=True)))(rates)
print(srx.diagnostics.explain(solution))

# %% The error at the end against the reference, and the gradient of the end.
taken = np.isfinite(solution.ts)
ts, ys = np.asarray(solution.ts)[taken], np.asarray(solution.ys)[taken]
error = np.max(np.abs(ys[-1] / reference.ys[0, -1] - 1))
print(f"largest relative error at t = 1e5: {error:.1e}")

end = jax.grad(lambda rates: solve(rates, diffrax.SaveAt(t1=True)).ys[-1, 2])
gradient = jax.jit(end)(rates) * rates
print("change of C(1e5) per relative change of each rate:", np.round(gradient, 5))

# %% The figure: the three species at every step of the solver, and the step size.
figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained")
srx.plots.trajectories(reference, {"RadauIIA5": (ts, ys)}, log_time=True, axes=axes[:3])
axes[1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
axes[1].set_xlabel("time")
srx.plots.steps(solution, log_time=True, ax=axes[3]).set_title("step size")
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
