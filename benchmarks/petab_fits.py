"""Published models fitted to their measurements from random starts between their bounds.

A search arrives if its negative log-likelihood ends within 0.1 of the best known. Problems are read
as in `petab_problems.py`. Processor seconds are those of all threads, after one step that compiles.
`--hops 2` lets every search go on from its minimum. With `--peer PYTHON`, the Python of an
environment with pyPESTO, fides and AMICI (`petab_fits_peer.py`), both search from the same starts, in
turn; a search of the peer ends after `--limit` seconds.

    PETAB_PROBLEMS=... python benchmarks/petab_fits.py [NAME ...] [--starts 20] [--key 0]
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
import warnings

import jax
import numpy as np

import stiffrax as srx
from stiffrax.training._fit_parameters import draw_starts, random_numbers
from stiffrax.training._parameter_vector import ParameterVector

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


def ours(problem, options):
    """The searches, and processor seconds of compiling and of searching."""
    times = [time.process_time()]
    for max_steps, hops in ((1, 0), (200, options.hops)):
        fit = srx.fit_parameters(
            problem.system,
            problem.data,
            problem.loss,
            starts=options.starts,
            hops=hops,
            key=jax.random.key(options.key),
            max_steps=max_steps,
            progress=False,
        )
        times.append(time.process_time())
    return fit, *np.diff(times)


def peers(path, problem, options):
    """What `petab_fits_peer.py` prints for the same starts."""
    vector = ParameterVector(problem.system)
    rng = random_numbers(vector, options.starts, 0, jax.random.key(options.key))
    points = draw_starts(vector, options.starts, rng)
    ids = [name.split(".")[-1] for name in vector.names]
    values = np.exp(points, out=points.copy(), where=vector.log)
    named = [[dict(zip(ids, x, strict=True)) for x in draws] for draws in values]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(named, file)
        file.flush()
        script = pathlib.Path(__file__).with_name("petab_fits_peer.py")
        command = [options.peer, script, path, file.name, str(options.limit)]
        search = {"PATH": f"{pathlib.Path(options.peer).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            command, env=os.environ | search, capture_output=True, text=True, check=False
        )
    if done.returncode:
        return None
    return json.loads(done.stdout.splitlines()[-1])


def row(name, who, p, best, costs, converged, steps, seconds, compiled):
    arrived = np.sum(np.array(costs) <= best + 0.1)
    print(
        f"{name:10}{who:9}{p:3}{best:10.3f}{min(costs):10.3f}{arrived:6}/{len(costs)}{converged:6}"
        f"{np.sum(~np.isfinite(costs)):7}{steps:8}{seconds / len(costs):9.2f}{compiled:9.1f}",
        flush=True,
    )


def compare(folder, options):
    """The rows of one problem."""
    path = next(iter(sorted(folder.glob("*.yaml"))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = srx.petab.load(path)
    name = folder.name.split("_")[0]
    best = BEST.get(name, float(problem.loss(problem.system, problem.data)))
    fit, compiled, seconds = ours(problem, options)
    costs = [one.cost for one in fit.starts]
    converged = [one.stopped for one in fit.starts].count("converged")
    steps = sum(one.steps for one in fit.starts)
    row(name, "stiffrax", len(fit.x), best, costs, converged, steps, seconds, compiled)
    if options.peer:
        found = peers(path, problem, options)
        if found is None:
            print(f"{name:10}pyPESTO  did not run")
            return
        costs = [one["cost"] for one in found["starts"]]
        converged = sum("TOL" in one["stopped"] for one in found["starts"])
        steps, seconds = (sum(one[key] for one in found["starts"]) for key in ("steps", "cpu"))
        counted = (converged, steps, seconds, found["compiled"])
        row(name, "pyPESTO", len(fit.x), best, costs, *counted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--hops", type=int, default=0)
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--peer", help="a Python with pyPESTO, fides and AMICI")
    parser.add_argument("--limit", type=float, default=300.0)
    options = parser.parse_args()
    print(
        "problem   who        p      best     found arrived  conv. failed   steps  s/start  compile"
    )
    for name in options.names:
        for folder in sorted(pathlib.Path(os.environ["PETAB_PROBLEMS"]).glob(f"{name}*")):
            compare(folder, options)
