"""Published models fitted to their measurements from random starts between their bounds.

A search arrives if its negative log-likelihood ends within 0.1 of the best known. Problems are read
as in `petab_problems.py`.

    PETAB_PROBLEMS=... python benchmarks/petab_fits.py [starts] [NAME ...]
"""

import os
import pathlib
import sys
import time
import warnings

import jax
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

NAMES = [
    "Boehm",
    "Crauste",
    "Perelson",
    "Sneyd",
    "Fujita",
    "Elowitz",
    "Bruno",
    "Rahman",
    "Bertozzi",
    "Armistead",
]
# Where the nominal parameters are not the best that is known.
BEST = {"Perelson": 222.281}


def line(folder, starts):
    """One row of the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = srx.petab.load(next(iter(sorted(folder.glob("*.yaml")))))
    name = folder.name.split("_")[0]
    nominal = BEST.get(name, float(problem.loss(problem.system, problem.data)))
    begin = time.perf_counter()
    fit = srx.fit_parameters(
        problem.system,
        problem.data,
        problem.loss,
        starts=starts,
        key=jax.random.key(0),
        progress=False,
    )
    seconds = time.perf_counter() - begin
    costs = np.array([one.cost for one in fit.starts])
    stopped = [one.stopped for one in fit.starts]
    steps = sum(one.steps for one in fit.starts)
    failed = sum(one.num_failed_steps for one in fit.starts)
    arrived = int(np.sum(costs <= nominal + 0.1))
    print(
        f"{name:10}{len(fit.x):4}{nominal:12.3f}{fit.cost:12.3f}{arrived:6}/{starts}"
        f"{stopped.count('converged'):6}{steps:8}{failed:8}{seconds:9.1f}",
        flush=True,
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 20
    root = pathlib.Path(os.environ["PETAB_PROBLEMS"])
    print("problem      p     nominal        best arrived  conv.   steps  failed  seconds")
    for name in arguments or NAMES:
        for folder in sorted(root.glob(f"{name}*")):
            line(folder, count)
