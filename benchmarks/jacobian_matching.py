"""What Jacobians and Lyapunov exponents a network learns of Lorenz-63, by what it is trained on.

Every way of training starts from the same networks, sees the same samples of one noise-free series
for each seed and takes the same number of steps. Printed are the relative
error of the Jacobians on another series and the Lyapunov exponents of the trained models, mean and
standard deviation over seeds, and how many models had exponents (others left the attractor).

`bend` is a penalty that needs nothing but the samples: the mean square of `J(y + d) - 2 J(y) +
J(y - d)`, with `J` the Jacobian of the model and `d` random displacements off the attractor, of half
a standard deviation. It is zero for quadratic fields.

Usage: `python benchmarks/jacobian_matching.py [seeds=5] [steps=500] [spacing=0.02] [name ...]`.
"""

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
BEND = 1e-4
CENTER, SCALE = np.array([0.0, 0.0, 23.5]), np.array([7.9, 9.0, 8.6])


class Standardized(eqx.Module):
    """A network whose inputs and outputs are of order one on the attractor."""

    net: eqx.nn.MLP

    def __call__(self, t, y, args=None):
        return self.net((y - CENTER) / SCALE) * SCALE * 10


class Bend(eqx.Module):
    """How much the Jacobians change across the attractor other than linearly."""

    displacements: jax.Array
    weight: float

    def __call__(self, model, data):
        jacobian = jax.vmap(jax.jacfwd(lambda y: model(0.0, y, None) / SCALE * SCALE.mean()))
        y, d = data.ys[0], self.displacements
        change = jacobian(y + d) - 2 * jacobian(y) + jacobian(y - d)
        return self.weight * jnp.mean(change**2)


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


def losses(substeps):
    """The ways of training, by name: functions of the data."""
    samples = srx.SegmentLoss(diffrax.Tsit5(), substeps=substeps)
    exponents = srx.InvariantLoss(TRUE, time=1.0, interval=0.05, starts=12, substeps=2)

    def true(data):
        return srx.JacobianLoss(jacobians(PROBLEM.vector_field, data)[None])

    def estimated(data):
        return srx.JacobianLoss(srx.diagnostics.estimate_jacobians(data, 12, theiler=20))

    def neighbors(number, order=1, steps=1):
        # Radau IIA: derivatives of explicit steps take three to six times as long.
        solver = srx.RadauIIA3()
        return srx.NeighborhoodLoss(
            number, order=order, steps=steps, solver=solver, substeps=substeps, theiler=20
        )

    def bend(weight=BEND):
        displacements = jax.random.normal(jax.random.key(0), (SAMPLES, 3)) * SCALE / 2
        return Bend(displacements, weight)

    return {
        "samples alone": lambda data: samples,
        "Jacobians, true": lambda data: samples + 1e-4 * true(data),
        "Jacobians, estimated": lambda data: samples + 1e-5 * estimated(data),
        "4 neighbors": lambda data: samples + neighbors(4),
        "12 neighbors": lambda data: samples + neighbors(12),
        "4 neighbors, order 2": lambda data: samples + neighbors(4, order=2),
        "4 neighbors, 3 steps": lambda data: samples + neighbors(4, steps=3),
        "exponents": lambda data: samples + 1e-4 * exponents,
        "bend": lambda data: samples + bend(),
        "4 neighbors, bend": lambda data: samples + neighbors(4) + bend(),
        "12 neighbors, bend": lambda data: samples + neighbors(12) + bend(),
    }


def stacked(trees):
    """One tree whose arrays have the seeds as their first axis."""
    is_array = lambda x: isinstance(x, (jax.Array, np.ndarray))  # noqa: E731
    return jax.tree.map(lambda *x: np.stack(x) if is_array(x[0]) else x[0], *trees)


@eqx.filter_jit
def train(model, loss, data, steps):
    rate = optax.cosine_decay_schedule(5e-3, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def step(carry, _):
        parameters, state = carry
        value = lambda p: loss.evaluate(eqx.combine(p, static), data).value  # noqa: E731
        updates, state = optimizer.update(jax.grad(value)(parameters), state)
        return (optax.apply_updates(parameters, updates), state), None

    start = parameters, optimizer.init(parameters)
    (parameters, _), _ = jax.lax.scan(step, start, length=steps)
    return eqx.combine(parameters, static)


@eqx.filter_jit
def judge(models, test):
    true = jacobians(PROBLEM.vector_field, test)

    @eqx.filter_vmap
    def each(model):
        error = jnp.linalg.norm(jacobians(model, test) - true, axis=(1, 2))
        spectrum = srx.diagnostics.lyapunov_spectrum(
            model, test.ys[0, ::40], time=40.0, burn_in=5.0, interval=0.1, step=0.02
        )
        return jnp.median(error / jnp.linalg.norm(true, axis=(1, 2))), spectrum.exponents

    return each(models)


def network(seed):
    net = eqx.nn.MLP(3, 3, 32, 2, activation=jax.nn.gelu, key=jax.random.key(seed))
    return Standardized(net)


def main(seeds=5, steps=500, spacings=(0.02, 0.1), only=()):
    models, test = [network(seed) for seed in range(seeds)], series(100, 0.05)
    for fraction, substeps in ((0.02, 1), (0.1, 2)):
        if fraction not in spacings:
            continue
        datas = [series(seed, fraction * LYAPUNOV_TIME) for seed in range(seeds)]
        print(f"\n{SAMPLES} samples {fraction} Lyapunov times apart, {seeds} seeds, {steps} steps")
        heads = "".join(f"{f'lambda_{i} ({x:g})':>22}" for i, x in enumerate(TRUE, 1))
        print(f"{'trained on':22}{'Jacobian error':>22}{heads}  of      s", flush=True)
        for name, make in losses(substeps).items():
            if only and name not in only:
                continue
            start = time.perf_counter()
            trained = [
                train(model, make(data).for_data(data), data, steps)
                for model, data in zip(models, datas, strict=True)
            ]
            error, exponents = (np.asarray(x) for x in judge(stacked(trained), test))
            good = np.isfinite(exponents).all(axis=1)
            columns = [error, *exponents[good].T]
            cells = (f"{f'{np.mean(x):.4f} +- {np.std(x):.4f}':>22}" for x in columns)
            seconds = time.perf_counter() - start
            # The weight of `bend` was chosen on the first two seeds of this sampling.
            mark = " *" if "bend" in name and fraction == 0.02 else ""
            print(f"{name + mark:22}{''.join(cells)}{good.sum():4}{seconds:7.0f}", flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    given = dict(word.split("=") for word in words if "=" in word)
    main(
        int(given.get("seeds", 5)),
        int(given.get("steps", 500)),
        (float(given["spacing"]),) if "spacing" in given else (0.02, 0.1),
        [word for word in words if "=" not in word],
    )
