"""Differential-algebraic equations: orders, correct digits, and what a mass of one costs.

    python benchmarks/differential_algebraic.py [orders] [digits] [overhead]

prints the tables of `docs/benchmarks/dae.md`.
"""

import statistics
import sys
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)


def index_1(t, x, args):
    """Solved by y = exp(sin t), z = y^2."""
    y, z = x
    return jnp.stack([jnp.cos(t) * z / y, z**3 + z - y**6 - y**2])


def pendulum(t, x, args):
    """Index 2: the constraint of the velocity determines the tension."""
    p, q, u, v, tension = x
    return jnp.stack([u, v, -tension * p, -tension * q - 1, p * u + q * v])


INDEX_1 = srx.MassMatrixTerm(index_1, np.array([1.0, 0.0]))
PENDULUM = srx.MassMatrixTerm(pendulum, np.array([1.0, 1, 1, 1, 0]), index=(1, 1, 1, 1, 2))


@eqx.filter_jit
def march(solver, term, n, y0, t1=2.0):
    """`n` equal steps by hand: one program for any number of them."""
    h = t1 / n

    def body(k, carry):
        y, state = carry
        y, _, _, state, _ = solver.step(term, k * h, k * h + h, y, None, state, False)
        return y, state

    first = y0, solver.init(term, 0.0 * h, h, y0, None)
    return jax.lax.fori_loop(0, n, body, first)[0]


# Solver, and the two numbers of steps for index 1, and for state and tension of index 2 (Rosenbrock
# methods solve index 1 only): errors are far above rounding.
WINDOWS = (
    (srx.BackwardEuler(), (400, 800), (400, 800), (400, 800)),
    (srx.RadauIIA3(), (40, 80), (40, 80), (40, 80)),
    (srx.RadauIIA5(), (20, 40), (20, 40), (80, 160)),
    (srx.RadauIIA9(), (5, 7), (10, 14), (40, 80)),
    (srx.RadauIIA13(), (3, 4), (4, 6), (20, 30)),
    (srx.Rodas3P(), (1280, 2560), None, None),
    (srx.Rodas4P(), (320, 640), None, None),
    (srx.Rodas5P(), (160, 320), None, None),
)


def orders():
    print("orders to t = 2 | index 1: y, z (theory) | index 2, pendulum: y, z (theory)")
    y = np.exp(np.sin(2.0))
    start = jnp.array([1.0, 0, 0, 0, 0])
    end = march(srx.RadauIIA13(), PENDULUM, jnp.array(200), start)
    for solver, one, two, tension in WINDOWS:
        found = []
        for steps, term, y0, exact, part in (
            (one, INDEX_1, jnp.ones(2), np.array([y, y**2]), slice(0, 1)),
            (one, INDEX_1, jnp.ones(2), np.array([y, y**2]), slice(1, 2)),
            (two, PENDULUM, start, end, slice(0, 4)),
            (tension, PENDULUM, start, end, slice(4, 5)),
        ):
            if steps is None:
                continue
            errors = [np.abs(march(solver, term, jnp.array(n), y0) - exact) for n in steps]
            ratio = errors[0][part].max() / errors[1][part].max()
            found.append(np.log(ratio) / np.log(steps[1] / steps[0]))
        s, p = solver.tableau.num_stages, solver.tableau.order
        shown = f"{type(solver).__name__:14} | {found[0]:5.2f} {found[1]:5.2f} ({p}, {p}) |"
        print(shown + (f" {found[2]:5.2f} {found[3]:5.2f} ({p}, {s})" if found[2:] else ""))


def digits():
    print("problem, solver, rtol | steps (rejected) | correct digits, worst component")
    for make, smallest in (
        (srx.problems.robertson_dae, 1e-8),
        (srx.problems.transistor_amplifier, 1.0),
    ):
        problem = make()
        term = srx.MassMatrixTerm(problem.vector_field, problem.mass)
        for solver in (srx.RadauIIA5(), srx.RadauIIA9(), srx.RadauIIA13()):

            @eqx.filter_jit
            def solve(tolerance):
                return diffrax.diffeqsolve(
                    term,  # noqa: B023
                    solver,  # noqa: B023
                    problem.t0,  # noqa: B023
                    problem.t1,  # noqa: B023
                    None,
                    jnp.array(problem.y0),  # noqa: B023
                    problem.args,  # noqa: B023
                    stepsize_controller=srx.PredictiveController(
                        rtol=tolerance,
                        atol=tolerance * smallest,  # noqa: B023
                    ),
                    max_steps=20_000,
                    throw=False,
                )

            for tolerance in (1e-6, 1e-8, 1e-10):
                sol = solve(tolerance)
                error = np.max(np.abs(np.asarray(sol.ys[-1]) / problem.reference - 1))
                solved = sol.result == diffrax.RESULTS.successful
                print(
                    f"{problem.name}, {type(solver).__name__}, {tolerance:.0e}"
                    f" | {sol.stats['num_steps']} ({sol.stats['num_rejected_steps']})"
                    f" | {-np.log10(error):.1f}" + ("" if solved else " (failed)")
                )


def program(term, solver, problem, t1):
    @jax.jit
    def solve(y0):
        return diffrax.diffeqsolve(
            term,
            solver,
            problem.t0,
            t1,
            None,
            y0,
            problem.args,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-12),
            max_steps=20_000,
        ).ys

    return solve


def overhead():
    print("adaptive solves, ms, medians of 201 | no term, M = 1, ones(n), eye(n) | ratios")
    for make in (srx.problems.robertson, srx.problems.van_der_pol, srx.problems.hires):
        problem = make()
        n, t1 = len(problem.y0), min(problem.t1, 1e5)
        terms = [diffrax.ODETerm(problem.vector_field)]
        masses = (1.0, jnp.ones(n), jnp.eye(n))
        terms += [srx.MassMatrixTerm(problem.vector_field, mass) for mass in masses]
        for solver in (srx.RadauIIA5(), srx.RadauIIA9()):
            programs = [program(term, solver, problem, t1) for term in terms]
            times, y0 = [[] for _ in programs], jnp.array(problem.y0)
            for repeat in range(202):
                for solve, ms in zip(programs, times, strict=True):
                    begin = time.perf_counter()
                    jax.block_until_ready(solve(y0))
                    if repeat:
                        ms.append(1e3 * (time.perf_counter() - begin))
            medians = [statistics.median(ms) for ms in times]
            shown = ", ".join(f"{ms:.2f}" for ms in medians)
            ratios = ", ".join(f"{ms / medians[0]:.3f}" for ms in medians[1:])
            print(f"{problem.name}, {type(solver).__name__} | {shown} | {ratios}")


if __name__ == "__main__":
    tables = {"orders": orders, "digits": digits, "overhead": overhead}
    for name in sys.argv[1:] or tables:
        tables[name]()
