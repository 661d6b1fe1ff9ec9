"""One published problem fitted by pyPESTO: fides over AMICI, as both are released.

`petab_fits.py` runs this with the Python of an environment that has them (`pip install pypesto fides
amici petab`, with `swig`, `cmake` and a C++ compiler on the path) and hands it the starts.

    python benchmarks/petab_fits_peer.py PROBLEM.yaml STARTS.json SECONDS_PER_START
"""

import json
import logging
import pathlib
import sys
import tempfile
import time

import fides  # pyright: ignore[reportMissingImports]
import numpy as np
import petab.v1 as petab
import pypesto.optimize  # pyright: ignore[reportMissingImports]
import pypesto.petab  # pyright: ignore[reportMissingImports]
import yaml


def read(path, folder):
    """The problem of pyPESTO, its model compiled; drawings, which may be absent, are left out."""
    description = yaml.safe_load(path.read_text())
    for part in description["problems"]:
        part.pop("visualization_files", None)
    tables = petab.Problem.from_yaml(description, base_path=str(path.parent))
    name = path.parent.name.split("_")[0]
    importer = pypesto.petab.PetabImporter(tables, output_folder=folder, model_name=name)
    return tables, importer.create_problem(verbose=False)


def scaled(tables, start):
    """A start on the scales of the parameter table."""
    values = [start[name] for name in tables.x_free_ids]
    scales = [tables.parameter_df.parameterScale[name] for name in tables.x_free_ids]
    pairs = zip(values, scales, strict=True)
    return np.array([{"log10": np.log10, "log": np.log, "lin": float}[s](v) for v, s in pairs])


def fit(problem, optimizer, draws):
    """Cost, processor time, evaluations of a search from the first draw that can be solved."""
    begin = time.process_time()
    costs = [problem.objective(x) for x in draws[:1]]
    while not np.isfinite(costs[-1]) and len(costs) < len(draws):
        costs.append(problem.objective(draws[len(costs)]))
    full = problem.get_full_vector(draws[len(costs) - 1], problem.x_fixed_vals)
    problem.set_x_guesses(full[None])
    found = pypesto.optimize.minimize(problem, optimizer, n_starts=1, progress_bar=False)
    (one,) = found.optimize_result.list
    return {
        "cost": float(one.fval),
        "cpu": time.process_time() - begin,
        "steps": int(one.n_fval),
        "stopped": str(one.exitflag),
    }


if __name__ == "__main__":
    path, starts, limit = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    logging.disable(logging.CRITICAL)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tables, problem = read(path, folder)
        compiled = time.perf_counter() - begin
        options = {fides.Options.MAXTIME: limit}
        optimizer = pypesto.optimize.FidesOptimizer(verbose=logging.ERROR, options=options)
        nominal = float(problem.objective(np.array(tables.x_nominal_free_scaled)))
        with open(starts) as file:
            points = [[scaled(tables, x) for x in draws] for draws in json.load(file)]
        rows = [fit(problem, optimizer, draws) for draws in points]
    print(json.dumps({"compiled": compiled, "nominal": nominal, "starts": rows}))
