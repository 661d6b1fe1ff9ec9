# %% [markdown]
# # An L-stable method trained for a stiff problem
# Three stages, as Radau IIA of order 5, but with coefficients that suit one problem and one step.
# The tableau starts at Radau's and keeps L-stability and order two whatever its parameters become.

# %%
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from matplotlib import pyplot as plt

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
RADAU = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(3), stability="L", order=2)


@eqx.filter_jit
def minimize(loss, start):
    """BFGS over all numbers of a pytree."""
    free, fixed = eqx.partition(start, eqx.is_inexact_array)

    def value(free, _):
        found = loss(eqx.combine(free, fixed))
        return jnp.where(jnp.isfinite(found), found, 1e3)

    found = optx.minimise(value, optx.BFGS(1e-10, 1e-10), free, max_steps=300, throw=False)
    return eqx.combine(found.value, fixed)


# %% L-stable at random values of the parameters.
begin = time.perf_counter()
x, restore = ravel_pytree(RADAU)
tableaus = [restore(x).tableau for x in jax.random.normal(jax.random.key(0), (1000, x.size))]
methods = [tuple(np.asarray(a) for a in (t.A, t.b, t.c)) for t in tableaus]
stable = sum(srx.tableaus.is_a_stable(method) for method in methods)
infinity = max(abs(float(srx.tableaus.stability_at_infinity(m))) for m in methods)
print(f"A-stable at {stable} of 1000 random parameters, |R(inf)| at most {infinity:.0e}")

# %% Two eigenvalues, -1 and -1000, and steps of 0.1: the system is known, or identified as well.
TRUE = jnp.array([[0.0, 1.0], [-1000.0, -1001.0]])
ts = 0.1 * np.arange(111)
modes = np.stack([np.exp(-ts), np.exp(-1000 * ts)]) * np.array([[5000 / 999], [-5 / 999]])
data = jnp.asarray(np.stack([modes.sum(0), -modes[0] - 1000 * modes[1]], axis=-1))
LINEAR = diffrax.ODETerm(lambda t, y, M: M @ y)


def misfit(solver, M):
    """Root mean square error of the trajectory."""
    save = diffrax.SaveAt(ts=jnp.asarray(ts))
    ys = diffrax.diffeqsolve(
        LINEAR, solver, 0.0, 11.0, 0.1, data[0], M, saveat=save, max_steps=120, throw=False
    ).ys
    return jnp.sqrt(jnp.mean((ys - data) ** 2))


trained = minimize(lambda s: jnp.log(misfit(s, TRUE)), RADAU)
print(
    f"two eigenvalues, error: Radau5 {misfit(RADAU, TRUE):.1e}, trained {misfit(trained, TRUE):.1e}"
)
guess = jnp.array([[0.0, 1.0], [-0.5, -0.6]])
unit = jnp.array([[1.0], [1000.0]])
fixed = minimize(lambda M: jnp.log(misfit(RADAU, unit * M)), guess)
joint, M = minimize(lambda p: jnp.log(misfit(p[0], unit * p[1])), (trained, guess))
for name, solver, matrix in (("Radau5", RADAU, fixed), ("trained", joint, M)):
    values = np.sort(np.linalg.eigvals(np.asarray(unit * matrix)))
    print(
        f"identified with {name}: misfit {misfit(solver, unit * matrix):.1e}, eigenvalues {values}"
    )

# %% The Oregonator over one period in steps of 5: relative errors of single steps.
H = 5.0
oregonator = srx.problems.oregonator()
TERM = diffrax.ODETerm(oregonator.vector_field)
cycle = diffrax.diffeqsolve(
    TERM,
    srx.RadauIIA9(),
    0.0,
    310.0,
    None,
    jnp.asarray(oregonator.y0),
    oregonator.args,
    stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-11),
    saveat=diffrax.SaveAt(ts=jnp.arange(1e-9, 305.0, H)),
    max_steps=100_000,
).ys


@eqx.filter_jit
def errors(solver, args):
    """The largest relative error of a component, for every step along the cycle."""

    def step(y):
        solve = diffrax.diffeqsolve
        return solve(TERM, solver, 0.0, H, H, y, tuple(args), max_steps=1, throw=False).ys[-1]

    found = jnp.max(jnp.abs(jax.vmap(step)(cycle[:-1]) / cycle[1:] - 1), axis=-1)
    return jnp.where(jnp.isfinite(found), found, 1e3)


def mean_log(solver, args, floor=1e-12):
    return jnp.mean(jnp.log(floor**2 + errors(solver, args) ** 2)) / 2


args = jnp.array(oregonator.args)
trained = minimize(lambda s: mean_log(s, args), RADAU)
for name, solver in (("Radau5", RADAU), ("trained", trained)):
    quantiles = np.percentile(errors(solver, args), (50, 75, 90))
    shown = " ".join(f"{q:.1e}" for q in quantiles)
    print(
        f"Oregonator, {name}: geometric mean {np.exp(mean_log(solver, args)):.1e}, 50/75/90 %: {shown}"
    )
wrong = jnp.log(args * jnp.array([1.3, 0.7, 1.3]))
fixed = minimize(lambda a: mean_log(RADAU, jnp.exp(a), 1e-7), wrong)
joint, found = minimize(lambda p: mean_log(p[0], jnp.exp(p[1]), 1e-7), (trained, wrong))
for name, logs in (("Radau5", fixed), ("trained", found)):
    print(f"parameters identified with {name}: relative errors {np.exp(logs) / args - 1}")
print(f"{time.perf_counter() - begin:.0f} s")

# %% Errors along the cycle.
for name, solver in (("Radau5", RADAU), ("trained", trained)):
    plt.semilogy(H * np.arange(len(cycle) - 1), errors(solver, args), label=name)
plt.xlabel("t")
plt.ylabel("relative error of a step of 5")
plt.legend()
plt.savefig("learnable_stiff.png")
