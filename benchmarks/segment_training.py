"""One training step on stiff data: value and gradient of all one-step predictions of 980 segments.

HIRES, ten runs of 99 samples, a pi-net of degree 2 and width 8 as it is initialized: there every
method can solve its steps. (Near the true equations, single Kvaerno5 steps fail in some lanes, and
then its gradient raises for the whole batch.) Each column predicts every sample from the one before
it by one implicit step of order 5, under one `vmap`. Columns are timed in turn, each by the second
of two calls: a training calls the same program again and again. The first column iterates to
rounding. As released, Kvaerno5 stops its iterations early, so that its stages are off by 2e-2: to be
compared with the second column, whose stages are off by as much.
"""

import platform
import statistics
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
ROUNDS = 25
TS = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-3, 100.0, 98)])


def make_data():
    problem = srx.problems.hires()
    term = diffrax.ODETerm(problem.vector_field)

    def run(y0):
        return diffrax.diffeqsolve(
            term,
            srx.RadauIIA9(),
            0.0,
            TS[-1],
            1e-5,
            y0,
            saveat=diffrax.SaveAt(ts=TS),
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-14),
        ).ys

    return jnp.stack([run(y0) for y0 in jnp.asarray(srx.problems.hires_initial_states()[:10])])


def single_steps(step):
    """Predictions of `ys[:, 1:]` by `step(model, t0, t1, y0)` under one vmap."""

    def predict(model, ys):
        one = lambda t0, t1, y0: step(model, t0, t1, y0)  # noqa: E731
        over_times = jax.vmap(one, in_axes=(0, 0, 0))
        return jax.vmap(lambda y: over_times(TS[:-1], TS[1:], y[:-1]))(ys)

    return predict


def ours(solver):
    def predict(model, ys):
        return srx.segment_predictions(model, jnp.broadcast_to(TS, ys.shape[:2]), ys, solver)

    return predict


def stacked_newton(model, t0, t1, y0):
    """The stage equations of Radau IIA 5 as one stacked system for optimistix."""
    tableau = srx.tableaus.radau_iia(3)
    A, c, h = jnp.asarray(tableau.A), jnp.asarray(tableau.c), t1 - t0

    def residual(Z, args):
        model, y0 = args
        slopes = jax.vmap(lambda t, z: model(t, y0 + z, None))(t0 + c * h, Z)
        return Z - h * A @ slopes

    finder = optx.Newton(rtol=1e-10, atol=1e-10)
    guess = jnp.zeros((3, y0.size))
    solution = optx.root_find(residual, finder, guess, (model, y0), throw=False)
    return y0 + solution.value[-1]


def kvaerno(adjoint, finder):
    def step(model, t0, t1, y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, m: m(t, y, None)),
            diffrax.Kvaerno5(root_finder=finder),
            t0,
            t1,
            t1 - t0,
            y0,
            model,
            adjoint=adjoint,
            max_steps=1,
            throw=False,
        ).ys[-1]

    return step


def largest_error(name, model, ys, predictions):
    """How far predictions are from those of the same method with its stages solved to rounding."""
    if name.startswith("Kvaerno5"):
        exact = kvaerno(diffrax.RecursiveCheckpointAdjoint(), optx.Newton(rtol=1e-13, atol=1e-13))
    else:
        exact = stacked_newton
    solved = eqx.filter_jit(single_steps(exact))(model, ys)
    return float(jnp.nanmax(jnp.abs(predictions - solved)))


def timed(function, *args):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def main():
    ys = make_data()
    model = srx.PiNet(8, 8, 2, key=jax.random.key(0))

    released = diffrax.VeryChord(rtol=1e-10, atol=1e-10, norm=optx.max_norm)
    corrected = optx.Chord(rtol=1e-10, atol=1e-10, norm=optx.max_norm)
    default = diffrax.RecursiveCheckpointAdjoint()
    loose = srx.SimplifiedNewton(rtol=1e-2, atol=1e-2)
    columns = {
        "stiffrax RadauIIA5": ours(srx.RadauIIA5()),
        "the same, stages to 1e-2": ours(srx.RadauIIA5(root_finder=loose)),
        "stacked optx.Newton, implicit": single_steps(stacked_newton),
        "Kvaerno5, as released": single_steps(kvaerno(default, released)),
        "Kvaerno5, corrected": single_steps(kvaerno(default, corrected)),
        "Kvaerno5, DirectAdjoint, corrected": single_steps(
            kvaerno(diffrax.DirectAdjoint(), corrected)
        ),
    }
    functions, failed, norms, errors = {}, {}, {}, {}
    for name, predict in columns.items():

        def loss(model, ys, predict=predict):
            residual = predict(model, ys) - ys[:, 1:]
            return jnp.mean(jnp.where(jnp.isfinite(residual), residual, 0) ** 2)

        functions[name] = eqx.filter_jit(eqx.filter_value_and_grad(loss))
        predictions = eqx.filter_jit(predict)(model, ys)
        failed[name] = int(jnp.sum(~jnp.all(jnp.isfinite(predictions), axis=-1)))
        errors[name] = largest_error(name, model, ys, predictions)
        _, gradient = functions[name](model, ys)
        norms[name] = float(optx.two_norm(eqx.filter(gradient, eqx.is_inexact_array)))

    times = {name: [] for name in columns}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            timed(function, model, ys)
            times[name].append(timed(function, model, ys))
    medians = {name: statistics.median(values) for name, values in times.items()}
    rounding, loosely = list(medians.values())[:2]
    print(f"{ys.shape[0] * (ys.shape[1] - 1)} segments, n = 8, medians of {ROUNDS}, float64;")
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}, {platform.machine()}")
    ratios = f"{'ms':>8} {'to 1st':>7} {'to 2nd':>7}"
    head = f"{ratios} {'failed':>7} {'|gradient|':>11} {'stages off by':>14}"
    print(f"{'value and gradient':36} {head}")
    for name, median in medians.items():
        row = f"{median * 1e3:8.1f} {median / rounding:7.1f} {median / loosely:7.1f}"
        row += f" {failed[name]:7d} {norms[name]:11.3e} {errors[name]:14.1e}"
        print(f"{name:36} {row}")


if __name__ == "__main__":
    main()
