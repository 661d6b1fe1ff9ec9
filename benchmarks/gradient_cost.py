"""Value and gradient of an adaptive solve of a stiff neural ODE: stiffrax against diffrax.

The neural ODE is `y' = rates * (MLP(y) - y)` with rates from 1 to 1e5, solved to T = 50 with 20
saved points at rtol 1e-6, atol 1e-8; the loss is the mean square of all saved values, the gradient
is with respect to the initial state and all parameters of the network. The gradient's distance is
to that of RadauIIA13 at rtol 1e-12; memory is what the compiled program needs for itself, with
room for 4096 steps.

All methods run in one process, in turn, and the medians of `--repeats` rounds are compared. `of CPU` is
the ratio to the forward solve once more, in the least processor times of those rounds; `compile` the
processor time, in seconds, to trace and compile value and gradient. Both are of all threads together.

The second table is for a field that costs next to nothing: a reaction of three species with nine
parameters, 48 residuals, and their Jacobian in both modes. Each program runs 25 times without a
break, in `--repeats` rounds, and the shortest time counts: beside other programs the median says more
about those. Run with

    python benchmarks/gradient_cost.py [--repeats 15] [--states 3 10 40] [--ours]
"""

import argparse
import statistics
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

RTOL, ATOL, T, POINTS = 1e-6, 1e-8, 50.0, 20


class NeuralODE(eqx.Module):
    network: eqx.nn.MLP
    rates: jax.Array

    def __call__(self, t, y, args):
        return self.rates * (self.network(y) - y)


def neural_ode(n, key):
    network = eqx.nn.MLP(n, n, width_size=50, depth=2, activation=jnp.tanh, key=key)
    return NeuralODE(network, jnp.logspace(0, 5, n))


def make_loss(solver, adjoint, tighter=1.0):
    def loss(differentiated):
        model, y0 = differentiated
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            solver,
            0.0,
            T,
            None,
            y0,
            saveat=diffrax.SaveAt(ts=jnp.linspace(0, T, POINTS)),
            stepsize_controller=diffrax.PIDController(rtol=tighter * RTOL, atol=tighter * ATOL),
            adjoint=adjoint,
        )
        return jnp.mean(solution.ys**2), solution.stats["num_accepted_steps"]

    return loss


def methods():
    checkpoint = diffrax.RecursiveCheckpointAdjoint()
    newton = diffrax.with_stepsize_controller_tols(optx.Newton)()
    return {
        "RadauIIA5, DiscreteAdjoint": (srx.RadauIIA5(), srx.DiscreteAdjoint()),
        "RadauIIA5, DiscreteAdjoint('steps')": (srx.RadauIIA5(), srx.DiscreteAdjoint("steps")),
        "RadauIIA9, DiscreteAdjoint": (srx.RadauIIA9(), srx.DiscreteAdjoint()),
        "Rodas5P, DiscreteAdjoint": (srx.Rodas5P(), srx.DiscreteAdjoint()),
        "RadauIIA5, RecursiveCheckpoint": (srx.RadauIIA5(), checkpoint),
        "Kvaerno5 as released": (diffrax.Kvaerno5(), checkpoint),
        "Kvaerno5, corrected termination": (diffrax.Kvaerno5(root_finder=newton), checkpoint),
    }


def seconds(function, *args):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def inputs_of(n):
    return neural_ode(n, jax.random.key(0)), jnp.linspace(0.5, 1.5, n)


def measure(n, repeats, ours):
    inputs = inputs_of(n)
    programs, rows = {}, {}
    chosen = dict(list(methods().items())[:5]) if ours else methods()
    for name, (solver, adjoint) in chosen.items():
        loss = make_loss(solver, adjoint)
        forward = eqx.filter_jit(loss)
        start = time.process_time()
        both = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True)).lower(inputs).compile()
        compiling = time.process_time() - start
        value, steps = forward(inputs)
        _, gradient = both(inputs)
        programs[name] = (forward, both)
        rows[name] = {"steps": int(steps), "value": float(value), "gradient": gradient}
        rows[name]["compile"] = compiling
        rows[name]["memory"] = both.compiled.memory_analysis().temp_size_in_bytes / 1e6
    times = {name: ([], []) for name in programs}
    for _ in range(repeats):
        for name, pair in programs.items():
            for kind, program in zip(times[name], pair, strict=True):
                start = time.process_time()
                kind.append((seconds(program, inputs), time.process_time() - start))
    for name, pair in times.items():
        (forward, of_forward), (both, of_both) = (zip(*kind, strict=True) for kind in pair)
        rows[name]["forward"] = statistics.median(forward) * 1e3
        rows[name]["both"] = statistics.median(both) * 1e3
        rows[name]["processor"] = min(of_both) / min(of_forward)
    return rows


def distance(gradient, reference):
    leaves = zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in leaves)


def accurate_gradient(n):
    loss = make_loss(srx.RadauIIA13(), srx.DiscreteAdjoint(), tighter=1e-6)
    return eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(inputs_of(n))[0]


def show(n, rows):
    ours, reference = rows["RadauIIA5, DiscreteAdjoint"], accurate_gradient(n)
    print(f"\nneural ODE, n = {n}, MLP 50x2, rates 1..1e5, T = {T:g}, rtol {RTOL:g}, atol {ATOL:g}")
    print(f"{'method':36}{'steps':>6}{'forward':>10}{'value+grad':>12}{'ratio':>8}", end="")
    print(f"{'/ forward':>11}{'of CPU':>8}{'gradient off by':>17}{'memory':>10}{'compile':>9}")
    for name, row in rows.items():
        print(
            f"{name:36}{row['steps']:>6}{row['forward']:>8.2f}ms{row['both']:>10.2f}ms"
            f"{row['both'] / ours['both']:>8.2f}{row['both'] / row['forward']:>11.2f}"
            f"{row['processor']:>8.2f}"
            f"{distance(row['gradient'], reference):>17.1e}{row['memory']:>8.2f}MB"
            f"{row['compile']:>8.1f}s"
        )


def residuals(parameters):
    """Robertson's reaction with outflows, at 16 times."""

    def field(t, y, parameters):
        k = jnp.exp(parameters)
        first, second, third = (
            k[0] * y[0] * k[6],
            k[1] * y[1] * y[2] * k[7],
            k[2] * y[1] ** 2 * k[8],
        )
        flows = jnp.stack([second - first, first - second - third, third])
        return flows - 1e-3 * k[3:6] * y

    ys = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        100.0,
        None,
        jnp.array([1.0, 0.0, 0.0]),
        parameters,
        saveat=diffrax.SaveAt(ts=jnp.linspace(0, 100, 17)[1:]),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=512,
    ).ys
    return jnp.ravel(ys)


def show_reaction(repeats):
    parameters = jnp.log(jnp.array([0.04, 1e4, 3e7, 1e-3, 1e-3, 1e-3, 1.0, 1.0, 1.0]))
    functions = {
        "value": residuals,
        "value and gradient": jax.value_and_grad(lambda p: jnp.sum(residuals(p) ** 2)),
        "Jacobian by jax.jacfwd": jax.jacfwd(residuals),
        "Jacobian by jax.jacrev": jax.jacrev(residuals),
    }
    programs = {name: jax.jit(f).lower(parameters).compile() for name, f in functions.items()}
    times = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            times[name] += [seconds(program, parameters) for _ in range(25)]
    one, other = (programs[f"Jacobian by jax.{mode}"](parameters) for mode in ("jacfwd", "jacrev"))
    print(
        "\nreaction of 3 species, 9 parameters, 48 residuals, rtol 1e-06, atol 1e-09: least times"
    )
    for name, row in times.items():
        print(f"{name:36}{min(row) * 1e3:>8.3f}ms{min(row) / min(times['value']):>8.2f}", end="")
        print(f"   (medians {statistics.median(row) / statistics.median(times['value']):.1f})")
    print(f"modes differ by {float(jnp.max(jnp.abs(one - other)) / jnp.max(jnp.abs(one))):.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--states", type=int, nargs="*", default=[3, 10, 40])
    parser.add_argument("--ours", action="store_true", help="without Kvaerno5")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}, {jax.devices()[0]}")
    for n in given.states:
        show(n, measure(n, given.repeats, given.ours))
    show_reaction(given.repeats)


if __name__ == "__main__":
    main()
