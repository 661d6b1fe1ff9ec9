"""Never a wrong number that is called a success: every solver, six stiff problems, all tolerances.

Each cell is the error at the end, relative to `|y| + atol / rtol` in the worst component, in units
of rtol, and the number of steps; or that the result is a failing code. A cell above 100 is marked
`!`. A second table has the correct digits and the work of each solver at one tolerance.

Usage: `python benchmarks/never_wrong.py [solver ...]`, for example `RadauIIA5 GaussLegendre4`.
"""

import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
SOLVERS = (
    "BackwardEuler",
    "Trapezoid",
    "RadauIIA3",
    "RadauIIA5",
    "RadauIIA9",
    "RadauIIA13",
    "RadauIIA",
    "GaussLegendre2",
    "GaussLegendre4",
    "GaussLegendre6",
    "Rosenbrock23",
    "Rodas3P",
    "Rodas4P",
    "Rodas5P",
)
# The problem, its first step, and atol / rtol: where a component stops to count.
PROBLEMS = {
    "HIRES": (srx.problems.hires(), 1e-6, 1e-4),
    "POLLU": (srx.problems.pollution(), 1e-9, 1e-6),
    "ROBER": (srx.problems.robertson(), 1e-6, (1e-6, 1e-12, 1e-6)),
    "VDPOL": (srx.problems.van_der_pol(), 1e-6, 1e-3),
    "VDPOL in slow time": (srx.problems.van_der_pol_scaled(), 1e-9, 1.0),
    "OREGO": (srx.problems.oregonator(), 1e-6, 1.0),
}
TOLERANCES = 10.0 ** -np.arange(3, 13)
MAX_STEPS = 50_000
LARGEST_ERROR = 100.0
# What counts the work.
COUNTING = srx.DiscreteAdjoint()


@eqx.filter_jit
def solve(problem, solver, first_step, rtol, atol, adjoint=diffrax.RecursiveCheckpointAdjoint()):
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        solver,
        problem.t0,
        problem.t1,
        first_step,
        jnp.asarray(problem.y0),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=MAX_STEPS,
        adjoint=adjoint,
        throw=False,
    )
    return sol.ys[-1], sol.result, sol.stats


def cell(problem, solver, first_step, floor, rtol):
    """Error in units of rtol (`None` for a failing code), and what the table shows."""
    y, result, stats = solve(problem, solver, first_step, jnp.asarray(rtol), rtol * floor)
    steps = int(stats["num_steps"])
    if result != diffrax.RESULTS.successful:
        return None, f"fails ({steps})"
    reference = problem.reference
    error = float(np.max(np.abs(y - reference) / (np.abs(reference) + floor))) / rtol
    return error, f"{error:.2g}{' !' if not error <= LARGEST_ERROR else ''} ({steps})"


def work(problem, solver, first_step, floor, rtol):
    y, result, stats = solve(problem, solver, first_step, jnp.asarray(rtol), rtol * floor, COUNTING)
    if result != diffrax.RESULTS.successful:
        return "fails"
    reference = problem.reference
    digits = -np.log10(np.max(np.abs(y - reference) / (np.abs(reference) + floor)))
    counts = ("steps", "rejected_steps", "f_evaluations", "jacobians", "factorizations")
    return f"{digits:8.1f}" + "".join(f"{int(stats['num_' + name]):10d}" for name in counts)


def print_work(names, rtol):
    head = "".join(f"{name:>10}" for name in ("steps", "rejected", "f", "J", "LU"))
    print(f"\ncorrect digits and work at rtol {rtol:g}\n{'':37}  digits{head}")
    for problem_name, (problem, first_step, floor) in PROBLEMS.items():
        floor = np.broadcast_to(floor, problem.y0.shape)
        for name in names:
            row = work(problem, getattr(srx, name)(), first_step, floor, rtol)
            print(f"{problem_name:20}{name:17}{row}", flush=True)


def main(names):
    print(f"error / rtol (steps); at most {MAX_STEPS} steps, atol = rtol * floor")
    for problem_name, (problem, first_step, floor) in PROBLEMS.items():
        print(f"\n{problem_name}, floor {floor}", flush=True)
        floor = np.broadcast_to(floor, problem.y0.shape)
        print(f"{'rtol':16}" + "".join(f"{rtol:>15.0e}" for rtol in TOLERANCES))
        for name in names:
            solver = getattr(srx, name)()
            cells = [cell(problem, solver, first_step, floor, rtol)[1] for rtol in TOLERANCES]
            print(f"{name:16}" + "".join(f"{text:>15}" for text in cells), flush=True)
    print_work(names, 1e-6)


if __name__ == "__main__":
    main(sys.argv[1:] or SOLVERS)
