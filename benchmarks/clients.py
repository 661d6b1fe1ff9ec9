"""Projects that use diffrax, with a solver of stiffrax in place of theirs and nothing else changed.

Each row runs the function of `tests/clients`: what it finds by the project's own stiff solver
(Kvaerno5, as released and with the termination of its root finder corrected), by `RadauIIA5` and by
`Rodas5P`, at the same tolerances; the first call, which compiles, and the median of twenty more. A call
with `RadauIIA3` goes before, for what a process does once. "difference" is the largest from the values
of Kvaerno5 as released, in parts of the largest.

- catalax: Robertson's reaction to t = 100 at ten times, rtol 1e-8;
- jaxkineticmodel: a cycle of three enzymes and the gradient by its six parameters, rtol 1e-9;
- AMICI's simulator for JAX: the log-likelihood of a published PEtab problem, rtol 1e-8.

Usage: `python benchmarks/clients.py catalax jaxkineticmodel` in the environment of
`make test-clients`, and where AMICI 1.0 is installed
`python benchmarks/clients.py FOLDER_OF_A_PETAB_PROBLEM`.
"""

import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))


class Corrected(diffrax.Kvaerno5):
    """Kvaerno5 whose root finder ends where the tolerance is met."""

    root_finder: optx.AbstractRootFinder = diffrax.with_stepsize_controller_tols(optx.Newton)()


def catalax(solver):
    test = importlib.import_module("test_catalax")
    states = test.prepared(type(solver))
    return lambda: states(jnp.array(list(test.RATES.values())))


def jaxkineticmodel(solver):
    test = importlib.import_module("test_jaxkineticmodel")
    function = test.prepared(solver)
    return lambda: jnp.stack(jax.tree.leaves(function(test.PARAMETERS)))


def amici(folder):
    petab, importers, simulation = map(
        importlib.import_module, ("petab.v2", "amici.importers.petab", "amici.sim.jax")
    )
    problem = petab.Problem.from_yaml(str(next(Path(folder).glob("*.yaml"))))
    out = tempfile.mkdtemp()
    importer = importers.PetabImporter(problem, jax=True, module_name="of_clients", output_dir=out)
    simulator = importer.create_simulator(force_import=True)
    controller = diffrax.PIDController(rtol=1e-8, atol=1e-8)
    run = eqx.filter_jit(simulation.run_simulations)
    return lambda solver: lambda: run(simulator, solver=solver, controller=controller)[0][None]


def row(name, prepared):
    solvers = {
        "Kvaerno5 as released": diffrax.Kvaerno5(),
        "Kvaerno5, corrected": Corrected(),
        "RadauIIA5": srx.RadauIIA5(),
        "Rodas5P": srx.Rodas5P(),
    }
    expected = None
    jax.block_until_ready(prepared(srx.RadauIIA3())())
    for label, solver in solvers.items():
        function, times = prepared(solver), []
        for _ in range(21):
            start = time.perf_counter()
            found = np.asarray(jax.block_until_ready(function()))
            times.append(time.perf_counter() - start)
        expected = found if expected is None else expected
        difference = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
        print(
            f"{name:24} {label:20} {times[0]:8.1f} "
            f"{1e3 * statistics.median(times[1:]):9.2f} {difference:10.1e}",
            flush=True,
        )


def main():
    print(f"{'project':24} {'solver':20} {'first, s':>8} {'ms':>9} {'difference':>10}")
    for name in sys.argv[1:]:
        known = {"catalax": catalax, "jaxkineticmodel": jaxkineticmodel}
        row(Path(name).name, known[name] if name in known else amici(name))


if __name__ == "__main__":
    main()
