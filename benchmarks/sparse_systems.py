"""Sparse systems: bands of growing width, reactions on a square, and a signaling network.

- the medical Akzo Nobel problem (400 states, of which the band is two wide), rtol 1e-4, by bands
  declared wider and wider, by its detected pattern, and dense;
- the Brusselator on a square of 16^2 to 64^2 cells, periodic, two species, t from 0 to 2, by the
  pattern and against SciPy's BDF with sparse LU, at equal error;
- a simulated network of 500 species in cascades, dense against sparse: the solve, and the gradient
  of its end by 1,500 rates and 500 starts with `DiscreteAdjoint`; and one of 2,000 species that keeps
  the starts of steps only. Memory is the largest resident set of the process.

Each row runs in a process of its own; times are the least of three runs after the first, BDF's too,
"compile" is tracing and compiling. BDF calls compiled functions of JAX from Python. Errors are from
the mean of both programs' solves at 1e-8, which are `apart` from each other; nan where no row is
beyond 1e-4.

Usage: `python benchmarks/sparse_systems.py` for all, `... akzo 2`, `... square 32`,
`... square "32 Rodas4P"` or `... network sparse` for one row.
"""

import subprocess
import sys
import time

import numpy as np


def measure(field, structure, y0, t1, rtol, atol, solver="RadauIIA5"):
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import stiffrax as srx

    rtol = jnp.asarray(rtol)

    @eqx.filter_jit
    def solve(y0, rtol):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            getattr(srx, solver)(structure=structure),
            0.0,
            t1,
            1e-5,
            y0,
            stepsize_controller=srx.PredictiveController(rtol=rtol, atol=rtol * atol),
            adjoint=srx.DiscreteAdjoint(),
        )

    start = time.perf_counter()
    compiled = solve.lower(y0, rtol[0]).compile()
    compile_time = time.perf_counter() - start
    rows = []
    for tolerance in rtol:
        solution = jax.block_until_ready(compiled(y0, tolerance))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(compiled(y0, tolerance))
            times.append(time.perf_counter() - start)
        rows.append((np.asarray(solution.ys[-1]), min(times), int(solution.stats["num_steps"])))
    return rows, compile_time


def akzo(t, y, args):
    """Antibodies that meet a tumor's tissue, by the method of lines on 200 points."""
    import jax.numpy as jnp

    u, v = y[::2], y[1::2]
    dz = 1 / u.size
    z = jnp.arange(1, u.size + 1) * dz
    inflow = jnp.where(t <= 5, 2.0, 0.0)[None]
    left, right = jnp.concatenate([inflow, u[:-1]]), jnp.concatenate([u[1:], u[-1:]])
    slope, curvature = (right - left) / (2 * dz), (left - 2 * u + right) / dz**2
    reaction = 100 * u * v
    du = (z - 1) ** 3 / 8 * slope + (z - 1) ** 4 / 16 * curvature - reaction
    return jnp.stack([du, -reaction], axis=1).reshape(-1)


def akzo_row(name):
    import jax.numpy as jnp

    import stiffrax as srx

    y0 = jnp.tile(jnp.array([0.0, 1.0]), 200)
    if name == "dense":
        structure = None
    elif name == "detected":
        structure = srx.Sparsity.detect(akzo, y0)
    else:
        structure = srx.Banded(int(name), int(name))
    [(y, seconds, steps)], compile_time = measure(akzo, structure, y0, 20.0, [1e-4], 1.0)
    print(f"akzo {name:10} {steps:5d} {seconds:8.3f} {compile_time:8.1f}  {y[78]:.6f}", flush=True)


def square(t, y, args):
    import jax.numpy as jnp

    side = int((y.size // 2) ** 0.5)
    u, v = y.reshape(side, side, 2)[..., 0], y.reshape(side, side, 2)[..., 1]

    def diffusion(x):
        return (
            0.02
            * side**2
            * (
                jnp.roll(x, 1, 0)
                + jnp.roll(x, -1, 0)
                + jnp.roll(x, 1, 1)
                + jnp.roll(x, -1, 1)
                - 4 * x
            )
        )

    du = 1 + u**2 * v - 4.4 * u + diffusion(u)
    dv = 3.4 * u - u**2 * v + diffusion(v)
    return jnp.stack([du, dv], axis=-1).reshape(-1)


def square_pattern(side):
    from scipy.sparse import csr_matrix, diags_array, eye_array, kron

    ring = diags_array([1.0] * 5, offsets=[-side + 1, -1, 0, 1, side - 1], shape=(side, side))
    cells = kron(ring, eye_array(side)) + kron(eye_array(side), ring)
    reactions = kron(eye_array(side**2), np.ones((2, 2)))
    return csr_matrix(kron(cells, eye_array(2)) + reactions)


def at_error(rows, reference, error):
    """Seconds at which an error is reached, between the rows in logarithms."""
    errors = [np.sqrt(np.mean((y - reference) ** 2)) for y, *_ in rows]
    if not min(errors) <= error <= max(errors):
        return float("nan")
    order = np.argsort(errors)
    log_errors = np.log([errors[i] for i in order])
    return float(np.exp(np.interp(np.log(error), log_errors, np.log([rows[i][1] for i in order]))))


def square_row(name):
    side, _, solver = name.partition(" ")
    side, solver = int(side), solver or "RadauIIA5"
    import jax
    import jax.numpy as jnp
    from scipy.integrate import solve_ivp
    from scipy.sparse import csc_matrix

    import stiffrax as srx

    x = np.arange(side) / side
    u0 = 22 * x[None] * (1 - x[None]) ** 1.5 + 0 * x[:, None]
    v0 = 27 * x[:, None] * (1 - x[:, None]) ** 1.5 + 0 * x[None]
    y0 = jnp.asarray(np.stack([u0, v0], axis=-1).reshape(-1))
    structure = srx.Sparsity(square_pattern(side))
    start = time.perf_counter()
    levels = structure.pattern.levels
    plan = time.perf_counter() - start
    tolerances = [1e-2, 1e-3, 1e-4, 1e-5, 1e-8]
    found, compile_time = measure(square, structure, y0, 2.0, tolerances, 1.0, solver)
    *rows, (ours_tight, *_) = found
    field = jax.jit(lambda y: square(0.0, y, None))
    pattern = structure.pattern
    groups = jnp.arange(pattern.num_groups)[:, None] == pattern.groups[None]

    @jax.jit
    def values(y):
        products = jax.vmap(lambda s: jax.jvp(field, (y,), (s,))[1])(groups.astype(y.dtype))
        return products[pattern.groups[pattern.columns], pattern.rows]

    def jacobian(t, y):
        at = (pattern.rows, pattern.columns)
        return csc_matrix((np.asarray(values(y)), at), shape=(y.size, y.size))

    jax.block_until_ready((field(y0), values(y0)))
    peer = []
    for rtol in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8):
        times = []
        for _ in range(4):
            start = time.perf_counter()
            solution = solve_ivp(
                lambda t, y: np.asarray(field(y)), (0, 2), np.asarray(y0), "BDF",
                jac=jacobian, rtol=rtol, atol=rtol,
            )  # fmt: skip
            times.append(time.perf_counter() - start)
        peer.append((solution.y[:, -1], min(times[1:]), len(solution.t)))
    *peer, (peer_tight, *_) = peer
    reference = (ours_tight + peer_tight) / 2
    apart = np.sqrt(np.mean((ours_tight - peer_tight) ** 2))
    y, seconds, steps = rows[2]
    ours, theirs = at_error(rows, reference, 1e-4), at_error(peer, reference, 1e-4)
    cost = sum(level.cost for level in levels) / 1e6
    print(
        f"square {side:3d}^2 {solver:9} {y.size:6d} {steps:5d} {seconds / steps * 1e3:9.1f} "
        f"{compile_time:8.1f} {plan:6.2f} {cost:8.1f} {ours:9.2f} {theirs:9.2f} {theirs / ours:6.2f} "
        f"{apart:8.1e}",
        flush=True,
    )


def network(n, seed=0):
    """Cascades of activation and decay: each species is driven by two others, mostly near ones."""
    rng = np.random.default_rng(seed)
    near = (np.arange(n)[:, None] - rng.integers(1, 12, (n, 2))) % n
    sources = np.where(rng.uniform(size=(n, 2)) < 0.95, near, rng.integers(0, n, (n, 2)))
    rates, decays = 10.0 ** rng.uniform(-1, 3, (n, 2)), 10.0 ** rng.uniform(-1, 4, n)

    def field(t, y, args):
        import jax.numpy as jnp

        rates, decays = args
        driven = jnp.sum(rates * y[sources] / (1 + y[sources]), axis=1)
        return driven * (1 - y) - decays * y

    return field, (rates, decays)


def network_row(name):
    """`sparse`, `dense`, or the number of states of a network that keeps the starts of steps."""
    import resource

    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import stiffrax as srx

    n = int(name) if name.isdigit() else 500
    adjoint = srx.DiscreteAdjoint(memory="steps" if name.isdigit() else "full")
    field, args = network(n)
    y0 = jnp.full(n, 0.1).at[::7].set(1.0)
    args = jax.tree.map(jnp.asarray, args)
    structure = None if name == "dense" else srx.Sparsity.detect(field, y0, args)

    def solve(inputs):
        y0, args = inputs
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.RadauIIA5(structure=structure),
            0.0,
            10.0,
            1e-5,
            y0,
            args,
            stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-9),
            adjoint=adjoint,
            max_steps=1024,
        )

    def timed(function):
        start = time.perf_counter()
        compiled = eqx.filter_jit(function).lower((y0, args)).compile()
        compile_time = time.perf_counter() - start
        times = []
        for _ in range(3):
            start = time.perf_counter()
            out = jax.block_until_ready(compiled((y0, args)))
            times.append(time.perf_counter() - start)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return out, min(times), compile_time, memory

    solution, seconds, compile_time, memory = timed(solve)
    gradient, *of_gradient = timed(jax.grad(lambda inputs: jnp.sum(solve(inputs).ys[-1] ** 2)))
    steps, y = int(solution.stats["num_steps"]), solution.ys[-1]
    values = np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(gradient)])
    print(
        f"network {name:7} {n:5d} {steps:5d} {seconds:8.3f} {compile_time:8.1f} {memory:5.2f}"
        + "{:10.3f} {:8.1f} {:5.2f}".format(*of_gradient)
        + f"  {y[0]:.8f} {np.linalg.norm(values):.8f}",
        flush=True,
    )


ROWS = {
    "akzo": ("2", "4", "8", "16", "detected", "dense"),
    "square": ("16", "16 Rodas4P", "32", "32 Rodas4P", "64", "64 Rodas4P"),
    "network": ("sparse", "dense", "2000"),
}
HEADS = {
    "akzo": f"{'structure':15} {'steps':>5} {'s':>8} {'compile':>8}  u",
    "square": f"{'cells':22} {'n':>6} {'steps':>5} {'ms/step':>9} {'compile':>8} {'plan':>6} "
    f"{'Mflop':>8} {'s at 1e-4':>9} {'BDF':>9} {'ratio':>6} {'apart':>8}",
    "network": f"{'structure':15} {'n':>5} {'steps':>5} {'s':>8} {'compile':>8} {'GiB':>5}"
    f"{'gradient':>10} {'compile':>8} {'GiB':>5}  y, norm",
}


def main():
    for kind, names in ROWS.items():
        print(HEADS[kind], flush=True)
        for name in names:
            subprocess.run([sys.executable, __file__, kind, name], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        import jax

        jax.config.update("jax_enable_x64", True)
        kind, name = sys.argv[1:]
        {"akzo": akzo_row, "network": network_row, "square": square_row}[kind](name)
    else:
        main()
