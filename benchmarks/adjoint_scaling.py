"""How the cost of a gradient grows with the number of parameters and of states.

Fixed steps of a system of `n` states with `m` parameters `theta`,

    y_i' = -r_i y_i + sum_k theta_k sin(2 k y_i / m + k + i) / m

However many waves there are, none is faster than `sin(2 y)`: the field is as smooth for any `m`, and
adaptive adjoints have the same to resolve. `off` is the largest distance of a gradient from that of
`DiscreteAdjoint`, in units of its largest entry.

The naive continuous adjoint is one differential equation for state, adjoint and parameter integral
together; an implicit method factorizes its Jacobian of size `2 n + m`: `O((n + m)^3)`. Ours
factorize `n x n` matrices and take parameters by one reverse sweep: `O(n^3 + m)`. Prints times
and the slopes fitted to the largest sizes, and saves `adjoint_scaling.png`. Run with

    python benchmarks/adjoint_scaling.py [--repeats 5]
"""

import argparse
import statistics
import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

STEPS = 20
NAIVE = "naive: BacksolveAdjoint, Kvaerno5"
FIXED_STATES, FIXED_PARAMETERS = 4, 16
PARAMETERS = {NAIVE: (16, 64, 128, 256), None: (16, 256, 4096, 16384)}
STATES = {NAIVE: (4, 16, 32, 64), None: (4, 16, 32, 64, 128)}


def field(t, y, theta):
    rates = jnp.linspace(0.1, 2.0, y.size)
    k = jnp.arange(1, theta.size + 1)
    waves = jnp.sin((2 * k / theta.size)[:, None] * y + k[:, None] + jnp.arange(y.size))
    return -rates * y + theta @ waves / theta.size


def methods():
    newton = optx.Newton(rtol=1e-6, atol=1e-6)
    return {
        "DiscreteAdjoint, RadauIIA5": (srx.RadauIIA5(), srx.DiscreteAdjoint()),
        "GaussAdjoint, RadauIIA5": (srx.RadauIIA5(), srx.GaussAdjoint()),
        NAIVE: (diffrax.Kvaerno5(root_finder=newton), diffrax.BacksolveAdjoint()),
    }


def seconds(solver, adjoint, n, m, repeats):
    """One gradient, compiled; the median."""

    def loss(theta):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            0.0,
            1.0,
            1.0 / STEPS,
            jnp.ones(n),
            theta,
            stepsize_controller=diffrax.ConstantStepSize(),
            adjoint=adjoint,
            max_steps=2 * STEPS,
        )
        return jnp.sum(sol.ys[-1] ** 2)

    gradient, theta, times = jax.jit(jax.grad(loss)), jnp.linspace(0.0, 1.0, m), []
    found = np.asarray(gradient(theta))
    for _ in range(repeats):
        start = time.perf_counter()
        gradient(theta).block_until_ready()
        times.append(time.perf_counter() - start)
    return statistics.median(times), found


def distance(found, exact):
    return np.max(np.abs(found - exact)) / np.max(np.abs(exact))


def slope(sizes, times):
    """Of the last step of the curve in logarithms, where the highest power decides."""
    return np.polyfit(np.log(sizes[-2:]), np.log(times[-2:]), 1)[0]


def measure(sizes_of, system, repeats):
    """Sizes and times of every method; `system` makes `(n, m)` of a size."""
    found, exact = {}, {}
    for name, (solver, adjoint) in methods().items():
        sizes = sizes_of.get(name, sizes_of[None])
        pairs = map(system, sizes)
        rows = [seconds(solver, adjoint, n, m, repeats) for n, m in pairs]
        times, gradients = zip(*rows, strict=True)
        exact = exact or dict(zip(sizes, gradients, strict=True))
        off = [distance(g, exact[s]) for s, g in zip(sizes, gradients, strict=True) if s in exact]
        shown = "  ".join(f"{s}: {t * 1e3:.2f}" for s, t in zip(sizes, times, strict=True))
        print(
            f"{name:34} slope {slope(sizes, times):5.2f}   ms at {shown}   off {max(off):.0e}",
            flush=True,
        )
        found[name] = (sizes, times)
    return found


def draw(tables):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for ax, (label, table) in zip(axes, tables.items(), strict=True):
        for (name, (sizes, times)), marker in zip(table.items(), "osx", strict=True):
            text = f"{name}, slope {slope(sizes, times):.1f}"
            ax.loglog(sizes, 1e3 * np.asarray(times), marker + "-", label=text)
        ax.set(xlabel=label)
        ax.legend(fontsize=7)
    axes[0].set(ylabel="one gradient [ms]")
    figure.savefig("adjoint_scaling.png", dpi=150)
    print("saved adjoint_scaling.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}, {STEPS} steps, float64")
    print(f"\nagainst the number of parameters m, n = {FIXED_STATES}")
    by_parameters = measure(PARAMETERS, lambda m: (FIXED_STATES, m), repeats)
    print(f"\nagainst the number of states n, m = {FIXED_PARAMETERS}")
    by_states = measure(STATES, lambda n: (n, FIXED_PARAMETERS), repeats)
    draw({"parameters m": by_parameters, "states n": by_states})


if __name__ == "__main__":
    main()
