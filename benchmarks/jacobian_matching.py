"""What Jacobians and Lyapunov exponents a network learns of Lorenz-63, by what it is trained on.

Every way of training starts from the same network, sees the same samples of one noise-free series
and takes the same number of steps. Printed are the relative error of the Jacobians on another series
and the Lyapunov exponents of the trained model, mean and standard deviation over seeds.

Usage: `python benchmarks/jacobian_matching.py [number of seeds] [steps] [name ...]`.
"""

import functools
import sys
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
PROBLEM = srx.problems.lorenz()
LYAPUNOV_TIME = 1 / 0.9056
SAMPLES = 300
TRUE = (0.9056, 0.0, -14.5723)


class Standardized(eqx.Module):
    """A network whose inputs and outputs are of order one on the attractor."""

    net: eqx.nn.MLP

    def __call__(self, t, y, args=None):
        center, scale = np.array([0.0, 0.0, 23.5]), np.array([7.9, 9.0, 8.6])
        return self.net((y - center) / scale) * scale * 10


def series(seed, spacing, samples=SAMPLES):
    """Equally spaced samples on the attractor."""
    start = jnp.asarray(PROBLEM.y0) + jax.random.normal(jax.random.key(seed), (3,))
    ts = 20.0 + jnp.arange(samples) * spacing
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        diffrax.Dopri8(),
        0.0,
        ts[-1],
        0.01,
        start,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        max_steps=None,
    )
    return srx.Trajectories.from_arrays(np.asarray(ts), np.asarray(solution.ys))


def jacobians(field, data):
    return jax.vmap(jax.jacfwd(lambda y: field(0.0, y, None)))(jnp.asarray(data.ys[0]))


def losses(data, substeps):
    """The ways of training, by name; what they need of the data is made on use."""
    solver = diffrax.Tsit5()
    samples = srx.SegmentLoss(solver, substeps=substeps)
    exponents = srx.InvariantLoss(TRUE, time=1.0, interval=0.05, starts=12, substeps=2)

    def true():
        return srx.JacobianLoss(jacobians(PROBLEM.vector_field, data)[None])

    def estimated():
        return srx.JacobianLoss(srx.diagnostics.estimate_jacobians(data, 12, theiler=20))

    def neighbors(order):
        # Radau IIA: the second derivatives of explicit steps took six times as long.
        return srx.NeighborhoodLoss(
            12, order=order, solver=srx.RadauIIA3(), substeps=substeps, theiler=20
        )

    return {
        "samples alone": lambda: samples,
        "Jacobians, true": lambda: samples + 1e-4 * true(),
        "Jacobians, estimated": lambda: samples + 1e-5 * estimated(),
        "neighbors, order 1": lambda: samples + neighbors(1),
        "neighbors, order 2": lambda: samples + neighbors(2),
        "exponents": lambda: samples + 1e-4 * exponents,
        "neighbors 2, exponents": lambda: samples + neighbors(2) + 1e-4 * exponents,
    }


@functools.cache
def make_optimizer(steps):
    """One object for all seeds, so that nothing compiles twice."""
    rate = optax.cosine_decay_schedule(5e-3, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def train(loss, data, seed, steps):
    net = eqx.nn.MLP(3, 3, 32, 2, activation=jax.nn.gelu, key=jax.random.key(seed))
    model = Standardized(net)
    return srx.fit(model, loss, data, optimizer=make_optimizer(steps), steps=steps, progress=False)


def judge(model, test):
    true, found = jacobians(PROBLEM.vector_field, test), jacobians(model, test)
    error = jnp.linalg.norm(found - true, axis=(1, 2)) / jnp.linalg.norm(true, axis=(1, 2))
    spectrum = srx.diagnostics.lyapunov_spectrum(
        model, test.ys[0, ::40], time=40.0, burn_in=5.0, interval=0.1, step=0.02
    )
    return float(jnp.median(error)), *np.asarray(spectrum.exponents)


def main(seeds=5, steps=3000, only=()):
    for fraction, substeps in ((0.02, 1), (0.1, 3)):
        spacing = fraction * LYAPUNOV_TIME
        print(f"\n{SAMPLES} samples {fraction} Lyapunov times apart, {seeds} seeds, {steps} steps")
        print(f"{'trained on':24}{'Jacobian error':>20}", end="")
        print(
            "".join(f"{f'lambda_{i} ({x:g})':>22}" for i, x in enumerate(TRUE, 1)), "    s a seed"
        )
        for name in losses(series(0, spacing), substeps):
            if only and name not in only:
                continue
            rows, start = [], time.perf_counter()
            for seed in range(seeds):
                data, test = series(seed, spacing), series(100, 0.05)
                result = train(losses(data, substeps)[name](), data, seed, steps)
                rows.append(judge(result.model, test))
            mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            cells = (f"{f'{m:.4f} +- {s:.4f}':>22}" for m, s in zip(mean, spread, strict=True))
            seconds = (time.perf_counter() - start) / seeds
            print(f"{name:22}" + "".join(cells) + f"{seconds:10.0f}", flush=True)


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:3]), only=sys.argv[3:])
