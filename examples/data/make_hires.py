"""Writes hires.csv: 20 runs of the HIRES reaction, from the 20 initial states of the literature.

Every run is solved to t = 321.8122 by SciPy's Radau at a relative tolerance of 1e-10, and 301 of
the solver's own steps, evenly thinned, are its samples. So each run has its own times, and they are
dense where its state moves fast: in the first transient (rates of about 280; second sample between
4e-4 and 4e-3) and again, at a time that differs from run to run, when y6 is used up.

That is what makes the coefficients identifiable from single steps between neighboring samples. A
Radau step of order 5 misses a sample by at most 4e-9 of its state's range, and by a linear estimate
the quadratic right-hand side that fits the samples best has every coefficient within 1e-6 of the
true one. At 300 times log-spaced from 1e-2, the same for all runs, the step misses the second event
by 9e-5, and the best fit is off by 8e-3; log-spaced from 1e-3, by 7e-1.

Run it from anywhere: `python examples/data/make_hires.py`.
"""

import pathlib

import jax
import numpy as np
from scipy.integrate import solve_ivp

import stiffrax as srx

SAMPLES = 301


def main():
    """Solves the 20 runs and writes the file beside this script."""
    jax.config.update("jax_enable_x64", True)  # data to ten digits need double precision
    problem = srx.problems.hires()
    field = jax.jit(problem.vector_field)
    jacobian = jax.jit(jax.jacfwd(problem.vector_field, argnums=1))

    ts, ys = [], []
    for y0 in srx.problems.hires_initial_states():
        solution = solve_ivp(
            lambda t, y: np.asarray(field(t, y)),
            (problem.t0, problem.t1),
            y0,
            method="Radau",
            jac=lambda t, y: np.asarray(jacobian(t, y)),
            rtol=1e-10,
            atol=1e-14,
        )
        steps = np.linspace(0, len(solution.t) - 1, SAMPLES).round().astype(int)
        ts.append(solution.t[steps])
        ys.append(solution.y.T[steps])

    run_names = [str(run) for run in range(1, len(ts) + 1)]
    data = srx.Trajectories.from_arrays(ts, ys, run_names=run_names)
    path = pathlib.Path(__file__).with_name("hires.csv")
    data.to_csv(path)
    print(f"{path.name}: {data}")


if __name__ == "__main__":
    main()
