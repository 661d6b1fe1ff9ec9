"""Lyapunov spectra of the chaotic test problems, with their standard errors.

Usage: `python benchmarks/lyapunov_spectra.py [name ...]`, for example `lorenz`.
"""

import sys
import time

import diffrax
import jax
import jax.numpy as jnp

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
# The spread of the starts about `Problem.y0`, how many, and the settings.
CASES = {
    "lorenz": (0.1, 16, {"time": 1500.0, "burn_in": 50.0, "step": 0.02, "interval": 0.2}),
    "roessler": (0.1, 16, {"time": 1500.0, "burn_in": 200.0, "step": 0.05, "interval": 0.2}),
    "hyperchaotic_roessler": (0.01, 16, {"time": 1500.0, "burn_in": 200.0, "interval": 0.2}),
    "hyperchaotic_chen": (0.1, 16, {"time": 400.0, "burn_in": 20.0, "step": 0.01}),
    "kuramoto_sivashinsky": (
        0.05,
        8,
        {
            "time": 600.0,
            "burn_in": 100.0,
            "num_exponents": 8,
            "step": 0.01,
            "interval": 1.0,
            "solver": diffrax.Tsit5(),
        },
    ),
}


def main(names):
    for name in names:
        problem, (spread, count, options) = getattr(srx.problems, name)(), CASES[name]
        noise = jax.random.normal(jax.random.key(0), (count, len(problem.y0)))
        starts = jnp.asarray(problem.y0) + spread * noise
        begin = time.perf_counter()
        spectrum = srx.diagnostics.lyapunov_spectrum(problem.vector_field, starts, **options)
        total = float(spectrum.exponents.sum())
        print(f"{name}: {spectrum}")
        print(
            f"  sum {total:.12f}, dimension {spectrum.kaplan_yorke_dimension:.3f}, "
            f"{int(spectrum.num_failed)} failed, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
