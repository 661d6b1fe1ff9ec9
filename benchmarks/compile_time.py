"""What the first call costs: tracing and compiling one adaptive solve, for ours and for Kvaerno5.

Each program is traced and compiled `--repeats` times from scratch; the medians are printed. Run with

    python benchmarks/compile_time.py [--repeats 3]
"""

import argparse
import statistics
import time

import diffrax
import jax
import jax.numpy as jnp
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

PROBLEMS = {
    "ROBER": srx.problems.robertson(),
    "HIRES": srx.problems.hires(),
    "VDPOL": srx.problems.van_der_pol(),
    "POLLU": srx.problems.pollution(),
    "OREGO": srx.problems.oregonator(),
}


def methods():
    newton = diffrax.with_stepsize_controller_tols(optx.Newton)()
    return {
        "Kvaerno5 as released": diffrax.Kvaerno5(),
        "Kvaerno5, corrected": diffrax.Kvaerno5(root_finder=newton),
        "RadauIIA5": srx.RadauIIA5(),
        "RadauIIA9": srx.RadauIIA9(),
        "RadauIIA13": srx.RadauIIA13(),
        "Rodas4P": srx.Rodas4P(),
        "Rodas5P": srx.Rodas5P(),
    }


def seconds(problem, solver):
    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            solver,
            problem.t0,
            problem.t1,
            1e-6,
            y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
            max_steps=100_000,
        ).ys

    y0 = jnp.asarray(problem.y0)
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(solve).lower(y0).compile()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}: seconds to trace and compile")
    print(f"{'':22}" + "".join(f"{name:>8}" for name in PROBLEMS))
    times = {name: {p: [] for p in PROBLEMS} for name in methods()}
    for _ in range(repeats):
        for name, solver in methods().items():
            for problem_name, problem in PROBLEMS.items():
                times[name][problem_name].append(seconds(problem, solver))
    for name, row in times.items():
        print(f"{name:22}" + "".join(f"{statistics.median(row[p]):>8.2f}" for p in PROBLEMS))


if __name__ == "__main__":
    main()
