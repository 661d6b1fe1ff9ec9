# %% [markdown]
# # An L-stable method trained for a stiff problem
# A method with three stages is trained for one problem and one step size. Its tableau starts from
# Radau IIA of order 5 and keeps L-stability and order two for all values of its parameters.
# `benchmarks/learnable_oregonator.py` does the same on a nonlinear oscillation.

# %%
import time
from pathlib import Path

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


# %% Two eigenvalues, -1 and -1000, and steps of 0.1.
TRUE = jnp.array([[0.0, 1.0], [-1000.0, -1001.0]])
LINEAR = diffrax.ODETerm(lambda t, y, M: M @ y)
ts = 0.1 * np.arange(111)
modes = np.stack([np.exp(-ts), np.exp(-1000 * ts)]) * np.array([[5000 / 999], [-5 / 999]])
data = jnp.asarray(np.stack([modes.sum(0), -modes[0] - 1000 * modes[1]], axis=-1))


def solution(solver, M):
    save = diffrax.SaveAt(ts=jnp.asarray(ts))
    return diffrax.diffeqsolve(
        LINEAR, solver, 0.0, 11.0, 0.1, data[0], M, saveat=save, max_steps=120, throw=False
    ).ys


def misfit(solver, M):
    """Root mean square error of the trajectory."""
    return jnp.sqrt(jnp.mean((solution(solver, M) - data) ** 2))


# %% L-stable at random values of the parameters.
def random_parameters(count=1000):
    x, restore = ravel_pytree(RADAU)
    tableaus = [restore(x).tableau for x in jax.random.normal(jax.random.key(0), (count, x.size))]
    methods = [tuple(np.asarray(a) for a in (t.A, t.b, t.c)) for t in tableaus]
    stable = sum(srx.tableaus.is_a_stable(method) for method in methods)
    infinity = max(abs(float(srx.tableaus.stability_at_infinity(m))) for m in methods)
    print(f"A-stable at {stable} of {count} random parameters, |R(inf)| at most {infinity:.0e}")


# %% The system is known, or identified as well.
def train():
    trained = minimize(lambda s: jnp.log(misfit(s, TRUE)), RADAU)
    errors = [float(misfit(solver, TRUE)) for solver in (RADAU, trained)]
    print(f"two eigenvalues, error: Radau5 {errors[0]:.1e}, trained {errors[1]:.1e}")
    guess = jnp.array([[0.0, 1.0], [-0.5, -0.6]])
    unit = jnp.array([[1.0], [1000.0]])
    fixed = minimize(lambda M: jnp.log(misfit(RADAU, unit * M)), guess)
    joint, M = minimize(lambda p: jnp.log(misfit(p[0], unit * p[1])), (trained, guess))
    for name, solver, matrix in (("Radau5", RADAU, fixed), ("trained", joint, M)):
        values = np.sort(np.linalg.eigvals(np.asarray(unit * matrix)))
        error = misfit(solver, unit * matrix)
        print(f"identified with {name}: misfit {error:.1e}, eigenvalues {values}")
    return trained


# %% The figure: errors along the way, and the stability function on the negative axis.
def show(trained, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    z = -np.geomspace(1e-1, 1e4, 200)
    for (name, solver), dash in zip((("Radau5", RADAU), ("trained", trained)), "-:", strict=True):
        left.semilogy(ts[1:], np.abs(solution(solver, TRUE) - data)[1:, 0], dash, label=name)
        tableau = solver.tableau
        method = tuple(np.asarray(x) for x in (tableau.A, tableau.b, tableau.c))
        right.loglog(-z, np.abs(srx.tableaus.stability_function(method, z)), dash, label=name)
    right.loglog(-z, np.exp(z), "k--", lw=0.8, label="exp(z)")
    left.set(xlabel="t", ylabel="error of y1")
    right.set(xlabel="-z", ylabel="|R(z)|", ylim=(1e-8, 2))
    for ax in (left, right):
        ax.legend()
    figure.savefig(path, dpi=150)
    print(f"figure: {path.name}")


def main():
    begin = time.perf_counter()
    random_parameters()
    trained = train()
    print(f"{time.perf_counter() - begin:.0f} s")
    show(trained, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
