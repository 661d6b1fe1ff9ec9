"""Lyapunov spectra of the chaotic test problems, and how far they are from known ones.

The distance of an exponent from a reference is in units of the combined standard error of both.
That of a reference is its own where it is known, and otherwise that of our local exponents over the
reference's time: `s sqrt(T / T_reference)`, with `s` ours over a total time `T`. References without a
time are values from the literature that are exact to their last digit.

Usage: `python benchmarks/lyapunov_spectra.py [name ...]`, for example `lorenz`.
"""

import sys
import time
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)


class Reference(NamedTuple):
    """Exponents, and the total time they were measured over."""

    name: str
    exponents: tuple
    time: float = np.inf
    errors: dict = {}  # noqa: RUF012  known standard errors, by place

    def distances(self, spectrum, total):
        """In combined standard errors, of the exponents the reference has."""
        k = len(self.exponents)
        ours = np.asarray(spectrum.standard_errors)[:k]
        theirs = ours * np.sqrt(total / self.time)
        for place, error in self.errors.items():
            theirs[place] = error
        return (np.asarray(spectrum.exponents)[:k] - self.exponents) / np.hypot(ours, theirs)


class Case(NamedTuple):
    spread: float  # of the starts about `Problem.y0`
    starts: int
    options: dict
    references: tuple[Reference, ...]


KS_LITERATURE = (0.048, 0.0, 0.0, -0.003, -0.189, -0.256, -0.290, -0.310)
KS_RUN = (0.0496, 0.0001, 0.0, -0.0027, -0.1892, -0.2562, -0.2903, -0.3108)
CASES = {
    "lorenz": Case(
        0.1,
        16,
        {"time": 4000.0, "burn_in": 50.0, "step": 0.02, "interval": 0.2},
        (
            Reference("literature", (0.9056, 0.0, -14.572)),
            Reference("60 runs", (0.9047, -0.0006, -14.5707), 90_000, {0: 0.0005, 2: 0.0005}),
        ),
    ),
    "roessler": Case(
        0.1,
        16,
        {"time": 4000.0, "burn_in": 200.0, "step": 0.05, "interval": 0.2},
        (
            Reference("literature", (0.0714, 0.0, -5.393)),
            Reference("60 runs", (0.0705, 0.0008, -5.402), 60_000, {0: 0.0006, 2: 0.001}),
        ),
    ),
    "hyperchaotic_roessler": Case(
        0.01,
        16,
        {"time": 4000.0, "burn_in": 200.0, "interval": 0.2},
        (
            Reference("literature", (0.112, 0.02, 0.0)),
            Reference("40 runs", (0.1132, 0.0203, -0.0021), 36_000, {0: 0.0012, 1: 0.0008}),
        ),
    ),
    "hyperchaotic_chen": Case(
        0.1,
        16,
        {"time": 2000.0, "burn_in": 20.0, "step": 0.01},
        (
            Reference("one run", (0.5552, 0.1434, -0.0418, -26.0768), 100),
            Reference("any flow: lambda_3 = 0", (np.nan, np.nan, 0.0)),
        ),
    ),
    "kuramoto_sivashinsky": Case(
        0.05,
        8,
        {
            "time": 6000.0,
            # Two exponents are zero: differences between two such directions grow like the time,
            # and the exponent that adds to fades only with the logarithm of it over it.
            "burn_in": 8000.0,
            "num_exponents": 8,
            "step": 0.01,
            "interval": 1.0,
            "solver": diffrax.Tsit5(),
        },
        (
            Reference("literature", KS_LITERATURE),
            Reference("one run", KS_RUN, 20_000),
        ),
    ),
}


def main(names):
    for name in names:
        problem, case = getattr(srx.problems, name)(), CASES[name]
        noise = jax.random.normal(jax.random.key(0), (case.starts, len(problem.y0)))
        starts = jnp.asarray(problem.y0) + case.spread * noise
        begin = time.perf_counter()
        spectrum = srx.diagnostics.lyapunov_spectrum(problem.vector_field, starts, **case.options)
        total = float(spectrum.exponents.sum())
        cells = (
            f"{x:.4f} +- {s:.4f}"
            for x, s in zip(spectrum.exponents, spectrum.standard_errors, strict=True)
        )
        print(f"{name}, {case.starts} x {case.options['time']:g}: {', '.join(cells)}")
        for reference in case.references:
            far = reference.distances(spectrum, case.starts * case.options["time"])
            words = ("-" if np.isnan(x) else f"{x:+.1f}" for x in far)
            print(f"  from {reference.name}: {', '.join(words)} standard errors")
        print(
            f"  sum {total:.12f}, dimension {spectrum.kaplan_yorke_dimension:.3f}, "
            f"{int(spectrum.num_failed)} failed, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
