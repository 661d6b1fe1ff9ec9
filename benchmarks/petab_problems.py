"""Published models in PEtab's format: what is read, against the simulations that come with them.

Problems are read from the folder that the environment variable PETAB_PROBLEMS names, one folder
each: Benchmarking-Initiative/Benchmark-Models-PEtab, commit 4d20850.

    PETAB_PROBLEMS=... python benchmarks/petab_problems.py [NAME ...]
"""

import os
import pathlib
import sys
import time
import warnings

import equinox as eqx
import jax
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# Negative log-likelihoods at the nominal parameters, of other programs.
KNOWN = {
    "Boehm": 138.222,
    "Brannmark": 141.889,
    "Crauste": 190.964,
    "Fujita": -53.084,
    "Sneyd": -319.792,
}
# Faults of the simulations that come with the problems: parameters to which one belongs, and
# conditions that are exchanged.
OTHER_VALUES = {"Perelson": {"c": 1.864, "delta": 0.658}}
EXCHANGED = {
    "Ca_dose_response__5": "Ca_dose_response__6",
    "Ca_dose_response__6": "Ca_dose_response__5",
}


def simulated(folder):
    """The simulation that comes with a problem, or None."""
    import petab.v1 as petab

    found = [*folder.glob("simulatedData*.tsv"), *folder.glob("simulations*.tsv")]
    return petab.get_simulation_df(str(found[0])) if found else None


def deviation(table, given):
    """The largest deviation over the range of its observable, and how many rows have no partner."""
    value = "simulation" if "simulation" in given else "measurement"
    given = given.replace({"simulationConditionId": EXCHANGED})
    names = ["observableId", "preequilibrationConditionId", "simulationConditionId", "time"]
    names = [name for name in names if name in table and table[name].notna().all()]
    if set(table["simulationConditionId"]).isdisjoint(given["simulationConditionId"]):
        # Conditions have other names: the rows are in the same order.
        same = (
            table[["observableId", "time"]].values == given[["observableId", "time"]].values
        ).all()
        assert same, "rows of simulation and measurements cannot be paired"
        given = given.assign(simulationConditionId=table["simulationConditionId"].to_numpy())
    # Times are printed with fewer digits in some of the files.
    given, table = (x.assign(time=[f"{t:.6g}" for t in x["time"]]) for x in (given, table))
    partners = {}
    for *key, number in given[[*names, value]].itertuples(index=False, name=None):
        partners.setdefault(tuple(key), []).append(float(number))
    ranges = given.groupby("observableId")[value].agg(lambda x: np.ptp(x) or np.max(np.abs(x)))
    worst, alone = 0.0, 0
    for *key, number in table[[*names, "simulation"]].itertuples(index=False, name=None):
        found = partners.get(tuple(key), [])
        alone += not found
        # Of one time there are several where the parameters of the observable differ.
        for_key = [abs(number - x) / ranges[key[0]] for x in found]
        worst = max(worst, min(for_key, default=0.0))
    return worst, alone


def line(folder):
    """One row of the table."""
    begin = time.perf_counter()
    name = folder.name.split("_")[0]
    try:
        files = sorted(folder.glob("*.yaml"))
        problem = srx.petab.load(files[0], rtol=1e-8, max_steps=20000)
    except ValueError as error:
        return f"{name:14} refused: {error}"
    read = time.perf_counter() - begin
    simulate = eqx.filter_jit(lambda system: problem.likelihood.evaluate(system, problem.data))
    found = simulate(problem.system)
    given, worst, alone = simulated(folder), np.nan, int(problem.data.mask.sum())
    if given is not None:
        system = problem.system
        for parameter, value in OTHER_VALUES.get(name, {}).items():
            new = srx.positive(value, 1e-5, 1e5)
            system = eqx.tree_at(
                lambda s, p=parameter: s.parameters[p],
                system,
                new,
                is_leaf=lambda x: isinstance(x, srx.Parameter),
            )
        worst, alone = deviation(problem.simulation_table(system), given)
    known = KNOWN.get(name)
    return (
        f"{name:14} {len(problem.system.states):3} {len(problem.data):3} "
        f"{int(problem.data.mask.sum()):4} {int(found.num_failed):3} {alone:5} {worst:9.1e} "
        f"{float(found.value):14.4f} {'' if known is None else f'{known:10.3f}':10} {read:5.1f} "
        f"{time.perf_counter() - begin:6.1f}"
    )


def main(names):
    root = os.environ.get("PETAB_PROBLEMS")
    if root is None:
        print("Set PETAB_PROBLEMS to the folder of the problems.")
        return
    folders = [x for x in sorted(pathlib.Path(root).iterdir()) if x.is_dir()]
    print(
        f"{'problem':14} {'n':>3} {'run':>3} {'rows':>4} {'bad':>3} {'alone':>5} {'deviation':>9} "
        f"{'likelihood':>14} {'known':>10} {'read':>5} {'all s':>6}"
    )
    for folder in folders:
        if not names or any(name in folder.name for name in names):
            print(line(folder), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    main(sys.argv[1:])
