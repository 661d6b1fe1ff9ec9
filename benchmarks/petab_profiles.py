"""Which parameters of a published model its measurements tell: profile likelihoods.

Problems are read as in `petab_problems.py`; fits begin at the nominal parameters.

    PETAB_PROBLEMS=... python benchmarks/petab_profiles.py [NAME] [FIGURE]
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


def main(name="Boehm", figure=None):
    """Prints a row for each parameter, and draws all profiles if a file is named."""
    folder = next(iter(sorted(pathlib.Path(os.environ["PETAB_PROBLEMS"]).glob(f"{name}*"))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = srx.petab.load(next(iter(sorted(folder.glob("*.yaml")))))
    fit = srx.fit_parameters(problem.system, problem.data, problem.loss)
    begin = time.perf_counter()
    found = fit.profile(progress=False)
    print(f"cost {fit.cost:.3f}, profiles in {time.perf_counter() - begin:.0f} s")
    print(
        f"{'parameter':22} {'value':>10} {'std.err':>8} {'lower':>10} {'upper':>10} points  verdict"
    )
    for key, one in found.items():
        own = fit.estimates[key]
        print(
            f"{key.removeprefix('parameters.'):22} {own.value:10.4g} {own.standard_error:8.2g} "
            f"{one.lower:10.4g} {one.upper:10.4g} {len(one.values):6}  {one.verdict}"
        )
    if figure is not None:
        import matplotlib.pyplot as plt

        columns = 3
        rows = -(-len(found) // columns)
        picture, axes = plt.subplots(
            rows, columns, figsize=(10, 2.4 * rows), constrained_layout=True
        )
        named = {key.removeprefix("parameters."): one for key, one in found.items()}
        srx.plots.profiles(named, np.ravel(axes)[: len(named)])
        picture.savefig(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
