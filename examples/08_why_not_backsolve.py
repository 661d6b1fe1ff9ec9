# %% [markdown]
# # Why the state of a stiff problem must not be solved backward
# To save memory the textbook's continuous adjoint solves the state again, backward in time. A
# component that decays like `exp(lambda t)` forward grows like `exp(-lambda t)` backward, and every
# rounding error grows with it. Three experiments, after Kim, Ji, Deng, Ma and Rackauckas, *Stiff
# neural ordinary differential equations*, Chaos 31 (2021), figures 1 to 3.

# %%
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
TOLERANCES = [1e-6, 1e-7, 1e-8, 1e-9, 1e-10]


# %% One solve; by default with our solver.
def solve(field, t0, t1, y0, tolerance, args=None, solver=None, saveat=None, adjoint=None):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5() if solver is None else solver,
        t0,
        t1,
        None,
        y0,
        args,
        saveat=diffrax.SaveAt(t1=True) if saveat is None else saveat,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=20_000,
        throw=False,
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
    )


# %% [markdown]
# ## Robertson's reaction there and back
# To t = 1e5 and back to 0. Between, the state is on a manifold to which everything has decayed. An
# L-stable method damps what should grow on the way back, and so stays on that manifold: y2 ends at
# 3.7e-5 where the solution began at 0, whatever the tolerance. No error estimate sees it.

# %%
rober = srx.problems.robertson()
y0, rates = jnp.asarray(rober.y0), jnp.asarray(rober.args)
there_and_back = jax.jit(
    lambda tolerance: (
        end := solve(rober.vector_field, 0.0, 1e5, y0, tolerance, rates),
        solve(rober.vector_field, 1e5, 0.0, end.ys[-1], tolerance, rates),
    )
)
print("Robertson's reaction to t = 1e5 and back")
errors = []
for tolerance in TOLERANCES:
    forward, backward = there_and_back(tolerance)
    ended = backward.result == diffrax.RESULTS.successful
    error = float(jnp.max(jnp.abs(backward.ys[-1] - y0))) if ended else np.inf
    errors.append(error)
    shown = f"{error:8.1e}" if ended else "diverges"
    print(f"  tolerance {tolerance:.0e}   error at the start {shown}")

# %% [markdown]
# ## The linear test equation
# `u' = lambda u` from 0 to 1 and back: the error is that of the forward solve times `exp(-lambda)`.

# %%
lambdas = -np.linspace(1, 30, 30)
back = jax.jit(
    jax.vmap(
        lambda rate: solve(
            lambda t, u, args: rate * u,
            1.0,
            0.0,
            solve(lambda t, u, args: rate * u, 0.0, 1.0, jnp.ones(1), 1e-6).ys[-1],
            1e-6,
        ).ys[-1, 0]
    )
)
linear_errors = np.abs(np.asarray(back(jnp.asarray(lambdas))) - 1)
for k in (0, 9, 19, 29):
    print(f"  lambda = {lambdas[k]:4.0f}   error after there and back {linear_errors[k]:.1e}")

# %% [markdown]
# ## Gradients
# Of `y2` at t = 1e5 with respect to the three rate constants (per relative change).


# %%
@eqx.filter_jit  # compiled once for all tolerances, but for adjoints with their own
def gradient(solver, adjoint, tolerance):
    def end(k):
        options = {"solver": solver, "adjoint": adjoint}
        return solve(rober.vector_field, 0.0, 1e5, y0, tolerance, k, **options).ys[-1, 1]

    return jax.grad(end)(rates) * rates


newton = diffrax.with_stepsize_controller_tols(optx.Newton)()
kvaerno = diffrax.Kvaerno5(root_finder=newton)
reference = gradient(srx.RadauIIA9(), srx.DiscreteAdjoint(), jnp.array(1e-11))
print("gradient of y2(1e5), relative error")
gradient_errors = {}
ways = {
    "DiscreteAdjoint": (srx.RadauIIA5(), lambda _: srx.DiscreteAdjoint()),
    "GaussAdjoint": (srx.RadauIIA5(), lambda tol: srx.GaussAdjoint(rtol=tol, atol=1e-4 * tol)),
    "diffrax.BacksolveAdjoint": (kvaerno, lambda _: diffrax.BacksolveAdjoint()),
}
for name, (solver, adjoint) in ways.items():
    found = [gradient(solver, adjoint(tol), jnp.array(tol)) for tol in TOLERANCES]
    gradient_errors[name] = [
        float(jnp.max(jnp.abs(g - reference)) / jnp.max(jnp.abs(reference))) for g in found
    ]
    shown = "  ".join(f"{e:8.1e}" for e in gradient_errors[name])
    print(f"  {name:25} {shown}")

# %% The figure.
figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
axes[0].loglog(TOLERANCES, errors, "o-")
axes[0].set(title="Robertson, there and back", xlabel="tolerance", ylabel="error at the start")
axes[1].semilogy(-lambdas, linear_errors, "o", label="measured")
axes[1].semilogy(-lambdas, 1e-6 * np.exp(-lambdas), "k--", label=r"$10^{-6} e^{-\lambda}$")
axes[1].set(title=r"$u' = \lambda u$, there and back", xlabel=r"$-\lambda$", ylabel="error")
axes[1].legend()
for (name, found), marker in zip(gradient_errors.items(), "osx", strict=True):
    axes[2].loglog(TOLERANCES, np.minimum(found, 1e9), marker + "-", label=name)
axes[2].set(
    title="gradient of Robertson's $y_2$", xlabel="tolerance", ylabel="relative error (cut at 1e9)"
)
axes[2].legend()
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
