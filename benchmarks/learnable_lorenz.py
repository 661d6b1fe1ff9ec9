"""Can an explicit method of four stages stay on the attractor of Lorenz-63 in steps of 0.19?

`examples/32_learnable_lorenz.py` trains the error of one step. Here a search without derivatives
asks what is wanted itself: from how many of 64 starts the method stays for 200 time units, step by
step larger (0.15, 0.17, 0.18, 0.19). The 50 starts of the table are not among those of the search.
With `--accuracy` the search also asks for a small error of a step. Run with

    python benchmarks/learnable_lorenz.py --seeds 5
"""

import argparse
import functools
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import differential_evolution

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

PROBLEM = srx.problems.lorenz()
TERM = diffrax.ODETerm(PROBLEM.vector_field)
STEPS = (0.15, 0.17, 0.18, 0.19)
# The lower triangle of A row by row, and the first three weights of RK4; the last makes their sum one.
RK4 = np.array([0.5, 0, 0.5, 0, 0, 1, 1 / 6, 1 / 3, 1 / 3])


def method(x):
    A = jnp.zeros((4, 4)).at[jnp.tril_indices(4, -1)].set(x[:6])
    return A, jnp.append(x[6:], 1 - jnp.sum(x[6:]))


def step(x, y, h):
    """One step of the method; the field does not depend on the time."""
    A, b = method(x)
    slopes = []
    for row in A:
        pairs = zip(row[: len(slopes)], slopes, strict=True)
        inner = y + h * sum((a * k for a, k in pairs), start=jnp.zeros_like(y))
        slopes.append(PROBLEM.vector_field(0.0, inner))
    return y + h * sum(w * k for w, k in zip(b, slopes, strict=True))


@jax.jit
def flow(y, h):
    fine = jnp.asarray(RK4)
    return jax.lax.fori_loop(0, 200, lambda _, y: step(fine, y, h / 200), y)


@functools.partial(jax.jit, static_argnames="count")
def survey(x, starts, h, count):
    """The share of the way that each start stays bounded, and whether it stays on the attractor.

    That is, whether it visits both wings in the last 50 time units and does not settle.
    """

    def body(carry, k):
        ys, alive, way, low, high, z, zz = carry
        moved = jax.vmap(lambda y: step(x, y, h))(ys)
        alive &= jnp.all(jnp.abs(moved) < 200, axis=1)
        ys = jnp.where(alive[:, None], moved, ys)
        late = k * h >= 150
        low = jnp.where(late, jnp.minimum(low, ys[:, 0]), low)
        high = jnp.where(late, jnp.maximum(high, ys[:, 0]), high)
        z, zz = z + late * ys[:, 2], zz + late * ys[:, 2] ** 2
        return (ys, alive, way + alive, low, high, z, zz), None

    zero = jnp.zeros(len(starts))
    init = starts, zero == 0, zero, zero, zero, zero, zero
    (_, alive, way, low, high, z, zz), _ = jax.lax.scan(body, init, jnp.arange(count))
    number = 50 / h
    spread = jnp.sqrt(jnp.maximum(zz / number - (z / number) ** 2, 0))
    return way / count, alive & (low < -2) & (high > 2) & (spread > 3)


def error_of_a_step(x, h, points, ends, scale):
    found = jax.vmap(lambda y: step(x, y, h))(points)
    return jnp.sqrt(jnp.mean(jnp.sum(((found - ends) / scale) ** 2, axis=1)))


def search(x, h, starts, points, scale, accuracy, rng):
    """Differential evolution around the method of the last step size."""
    count, ends = round(200 / h), jax.vmap(lambda y: flow(y, h))(points)

    @jax.jit
    def costs(population):
        def one(x):
            way, stays = survey(x, starts, h, count)
            error = error_of_a_step(x, h, points, ends, scale)
            return accuracy * jnp.log10(error) - jnp.mean(way) - jnp.mean(stays)

        return jax.lax.map(one, population.T)

    first = x + 0.05 * rng.normal(size=(30, x.size))
    first[0] = x
    return differential_evolution(
        lambda population: np.nan_to_num(costs(population), nan=9.0, posinf=9.0),
        [(value - 0.5, value + 0.5) for value in x],
        init=first,
        maxiter=80,
        vectorized=True,
        updating="deferred",
        polish=False,
        rng=rng,
        # Where all stay and nothing else is asked there is nothing left to gain.
        callback=lambda intermediate_result: not accuracy and intermediate_result.fun <= -2,
    ).x


@eqx.filter_jit
def stays(solver, starts, h):
    """From which starts the method, as a solver of diffrax, stays, and the mean of the third state."""
    count = round(200 / h)

    def one(y0):
        save = diffrax.SaveAt(steps=True)
        return diffrax.diffeqsolve(
            TERM, solver, 0.0, h * count, h, y0, saveat=save, max_steps=count, throw=False
        ).ys

    ys = jax.vmap(one)(starts)
    late = ys[:, -round(50 / h) :]
    bounded = jnp.all(jnp.abs(ys) < 200, axis=(1, 2))
    wings = (jnp.min(late[..., 0], 1) < -2) & (jnp.max(late[..., 0], 1) > 2)
    good = bounded & wings & (jnp.std(late[..., 2], 1) > 3)
    return good, jnp.mean(late[..., 2], where=good[:, None])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--accuracy", type=float, default=0.0)
    given = parser.parse_args()
    attractor = jax.lax.scan(
        lambda y, _: (flow(y, 0.31),) * 2, jnp.array([8.0, 0.0, 30.0]), None, length=1500
    )[1][20:]
    scale, test, points = jnp.std(attractor, axis=0), attractor[800:850], attractor[:600]
    print(f"mean of z on the attractor {float(jnp.mean(attractor[:, 2])):.1f}")
    print("seed     h   stays (of 50)   error of a step   mean of z      s")
    for seed in range(given.seeds):
        rng, x, begin = np.random.default_rng(seed), RK4, time.perf_counter()
        for h in STEPS:
            starts = attractor[850 + rng.choice(630, 64, replace=False)]
            x = search(x, h, starts, points, scale, given.accuracy, rng)
            A, b = method(x)
            tableau = np.asarray(A), np.asarray(b), np.asarray(A).sum(axis=1)
            solver = srx.LearnableRungeKutta.from_tableau(tableau, order=1)
            good, mean = stays(solver, test, h)
            ends = jax.vmap(lambda y, h=h: flow(y, h))(points)
            error, seconds = error_of_a_step(x, h, points, ends, scale), time.perf_counter() - begin
            print(
                f"{seed:4d}  {h:.2f} {int(jnp.sum(good)):15d} {float(error):17.2f}"
                f" {float(mean):11.1f} {seconds:6.0f}",
                flush=True,
            )
        print("     A", np.round(np.asarray(A)[np.tril_indices(4, -1)], 4), "b", np.round(b, 4))


if __name__ == "__main__":
    main()
