"""Large systems: the Brusselator on a line, dense, banded and matrix-free.

The reaction of two species with diffusion, by the method of lines on n / 2 points, as in the
literature: alpha = 0.02, t from 0 to 10, rtol 1e-4. Each row runs in a process of its own, whose
largest resident memory is shown; times are the second run's, without compilation.

Usage: `python benchmarks/large_systems.py` for the table, `... banded 2000` for one row.
"""

import resource
import subprocess
import sys
import time

ROWS = (
    ("dense", 200),
    ("dense", 2000),
    ("banded", 200),
    ("banded", 2000),
    ("banded", 20_000),
    ("matrix-free", 20_000),
    ("matrix-free", 100_000),
)
ALPHA = 0.02


def brusselator(t, y, args):
    """The species alternate, so that the Jacobian has two diagonals on either side."""
    import jax.numpy as jnp

    del t, args
    u, v = y[::2], y[1::2]
    weight = ALPHA * (u.size + 1) ** 2

    def diffusion(x, wall):
        wall = jnp.full(1, wall, x.dtype)
        before, after = jnp.concatenate([wall, x[:-1]]), jnp.concatenate([x[1:], wall])
        return weight * (before - 2 * x + after)

    du = 1 + u**2 * v - 4 * u + diffusion(u, 1.0)
    dv = 3 * u - u**2 * v + diffusion(v, 3.0)
    return jnp.stack([du, dv], axis=1).reshape(-1)


def diffusion_only(t, y, h, shift):
    """Solves for the diffusion alone: a tridiagonal system a species."""
    import jax
    import jax.numpy as jnp

    del t
    n = y.size // 2
    weight = h * ALPHA * (n + 1) ** 2
    beside = jnp.full(n, -weight)
    below, above = beside.at[0].set(0.0), beside.at[-1].set(0.0)
    diagonal = jnp.full(n, shift + 2 * weight)
    return lambda v: jax.lax.linalg.tridiagonal_solve(
        below, diagonal, above, v.reshape(-1, 2)
    ).reshape(-1)


def row(name, n):
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import lineax as lx

    import stiffrax as srx

    jax.config.update("jax_enable_x64", True)
    structure = {
        "dense": srx.Dense(lx.LU()),
        "banded": srx.Banded(2, 2),
        "matrix-free": srx.MatrixFree(diffusion_only, rtol=1e-3),
    }[name]
    x = jnp.arange(1, n // 2 + 1) / (n // 2 + 1)
    u0, v0 = 1 + jnp.sin(2 * jnp.pi * x), jnp.full(n // 2, 3.0)

    @eqx.filter_jit
    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(brusselator),
            srx.RadauIIA5(structure=structure),
            0.0,
            10.0,
            1e-4,
            y0,
            stepsize_controller=srx.PredictiveController(rtol=1e-4, atol=1e-4),
            adjoint=srx.DiscreteAdjoint(),
        )

    y0 = jnp.stack([u0, v0], axis=1).reshape(-1)
    start = time.perf_counter()
    jax.block_until_ready(solve(y0))
    first = time.perf_counter() - start
    start = time.perf_counter()
    sol = jax.block_until_ready(solve(y0))
    seconds = time.perf_counter() - start
    steps = int(sol.stats["num_steps"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:12} {n:7d} {steps:6d} {int(sol.stats['num_jacobians']):5d} "
        f"{int(sol.stats['num_factorizations']):5d} {seconds:9.3f} {seconds / steps * 1e3:9.2f} "
        f"{first - seconds:9.1f} {memory:7.2f}  {float(sol.ys[-1, n // 4 * 2]):.6f}",
        flush=True,
    )


def main():
    print(
        f"{'structure':12} {'n':>7} {'steps':>6} {'J':>5} {'LU':>5} {'s':>9} {'ms/step':>9} "
        f"{'compile s':>9} {'GiB':>7}  u in the middle",
        flush=True,
    )
    for name, n in ROWS:
        subprocess.run([sys.executable, __file__, name, str(n)], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        row(sys.argv[1], int(sys.argv[2]))
    else:
        main()
