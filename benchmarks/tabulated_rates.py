"""Rates read from tables by linear interpolation in logarithms: what kinks in the field cost.

Six species, six rates over 13 decades tabulated at 41 temperatures, a temperature that falls with
time. Each cell is the number of steps and, in parentheses, the error at the end in units of rtol,
relative to `|y| + 1e-6` in the worst component; without and with the times of the kinks.

Usage: `python benchmarks/tabulated_rates.py`.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
FLOOR = 1e-6
END = 60.0
GRID = np.linspace(-1.0, 1.0, 41)  # log10 of the temperature
Y0 = jnp.array([0.5, 0.5, 1e-6, 1e-6, 1e-8, 1e-8])
SOLVERS = {
    "RadauIIA3": srx.RadauIIA3(),
    "RadauIIA5": srx.RadauIIA5(),
    "RadauIIA9": srx.RadauIIA9(),
    "RadauIIA13": srx.RadauIIA13(),
    "RadauIIA5, interior": srx.RadauIIA5(control_interior=True),
    "RadauIIA9, interior": srx.RadauIIA9(control_interior=True),
}
TOLERANCES = (1e-4, 1e-6, 1e-8)


def simulated_table():
    rng = np.random.default_rng(1)
    decades = np.linspace(-6, 7, 41)[:, None] * np.array([1, 0.8, 0.6, 0.9, 0.5, 0.7])
    return decades + np.cumsum(rng.normal(size=(41, 6)) * 0.25, 0)


TABLE = jnp.asarray(simulated_table())


def temperature(t):
    return 9.9 * jnp.exp(-t / 20) + 0.1


def times_of_kinks():
    at = 10**GRID
    at = at[(at < temperature(0.0)) & (at > float(temperature(END)))]
    return jnp.asarray(np.sort(-20 * np.log((at - 0.1) / 9.9)))


def field(t, y, args):
    del args
    log_temperature = jnp.log10(temperature(t))
    k = jax.vmap(lambda column: 10 ** jnp.interp(log_temperature, GRID, column))(TABLE.T)
    n, p, d, h, a, _ = y
    exchange = 1e-3 * (k[0] * n - k[5] * p)
    capture = 1e-2 * (k[1] * n * p - k[2] * d)
    second, third, fourth = 1e-2 * k[2] * d * p, 1e-2 * k[3] * h * n, 1e-2 * k[4] * d * h
    last = 1e-4 * k[5] * a
    return jnp.stack(
        [
            -exchange - capture - third,
            exchange - capture - second,
            capture - second - fourth,
            second - third - fourth,
            third + fourth - last,
            last,
        ]
    )


@eqx.filter_jit
def solve(solver, rtol, kinks=None):
    controller = diffrax.PIDController(rtol=rtol, atol=rtol * FLOOR)
    if kinks is not None:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=kinks)
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        END,
        1e-6,
        Y0,
        stepsize_controller=controller,
        max_steps=100_000,
    )
    return sol.ys[-1], sol.stats["num_steps"]


def main():
    kinks = times_of_kinks()
    reference, _ = solve(srx.RadauIIA9(), jnp.asarray(1e-12), kinks)
    print(f"{'':22}" + "".join(f"{rtol:>15.0e}" for rtol in TOLERANCES * 2))
    for name, solver in SOLVERS.items():
        cells = []
        for given in (None, kinks):
            for rtol in TOLERANCES:
                y, steps = solve(solver, jnp.asarray(rtol), given)
                error = jnp.max(jnp.abs(y - reference) / (jnp.abs(reference) + FLOOR)) / rtol
                cells.append(f"{int(steps)} ({float(error):.2g})")
        print(f"{name:22}" + "".join(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
