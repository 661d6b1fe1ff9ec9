"""An L-stable method trained for the Oregonator in steps of 5, alone and with its parameters.

As in `examples/33_learnable_stiff.py`, the tableau starts at Radau IIA of order 5 and keeps
L-stability and order two. Prints the relative errors of single steps along one period, and the
parameters identified with either method. Run with

    python benchmarks/learnable_oregonator.py
"""

import importlib
import pathlib
import sys
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
EXAMPLE = importlib.import_module("33_learnable_stiff")
RADAU, minimize = EXAMPLE.RADAU, EXAMPLE.minimize

begin = time.perf_counter()
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
