"""Solves past a singularity behind which there is no solution: none may end with success.

Seven fields, tolerances 1e-2 to 1e-6, ends at 1.01, 1.1, 2 and 10 times the time of the singularity,
two controllers: 280 solves a solver, and the steps that solves to 0.9 of that time take.

Usage: `python benchmarks/singularities.py [solver ...]`.
"""

import itertools
import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
SOLVERS = (
    *("BackwardEuler", "RadauIIA3", "RadauIIA5", "RadauIIA9", "RadauIIA13", "RadauIIA"),
    *("Rosenbrock23", "Rodas3P", "Rodas4P", "Rodas5P"),
)
# The field, its start, the time of the singularity.
FIELDS = {
    "choked flow": (lambda y: 0.28 * y**3 * (1 + 0.2 * y**2) / (1 - y**2), 0.3, 13.248),
    "1 / (1 - y)": (lambda y: 1 / (1 - y), 0.0, 0.5),
    "-1 / y": (lambda y: -1 / y, 1.0, 0.5),
    "1 / (1 - y^2)": (lambda y: 1 / (1 - y**2), 0.0, 2 / 3),
    "1 / (1 - y)^3": (lambda y: 1 / (1 - y) ** 3, 0.0, 0.25),
    "y^2": (lambda y: y**2, 1.0, 1.0),
    "exp(y)": (jnp.exp, 0.0, 1.0),
}
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
ENDS = (1.01, 1.1, 2.0, 10.0)
CONTROLLERS = (diffrax.PIDController, srx.PredictiveController)


def field(t, y, index):
    del t
    return lax.switch(index, [f for f, _, _ in FIELDS.values()], y)


@eqx.filter_jit
def solve(solver, controller, index, y0, t1, rtol):
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        t1,
        None,
        y0,
        args=index,
        stepsize_controller=controller(rtol=rtol, atol=rtol),
        throw=False,
    )
    return sol.result == diffrax.RESULTS.successful, sol.stats["num_steps"]


def main(names):
    print(f"{'':16}{'controller':22}{'false success':>14}{'of':>5}{'steps before':>14}")
    for name, controller in itertools.product(names, CONTROLLERS):
        solver, false, before = getattr(srx, name)(), 0, 0
        fields = enumerate(FIELDS.values())
        for (index, (_, y0, end)), rtol in itertools.product(fields, TOLERANCES):
            given = (solver, controller, jnp.asarray(index), jnp.asarray(y0))
            for factor in ENDS:
                good, _ = solve(*given, jnp.asarray(factor * end), jnp.asarray(rtol))
                false += int(good)
            _, steps = solve(*given, jnp.asarray(0.9 * end), jnp.asarray(rtol))
            before += int(steps)
        number = len(FIELDS) * len(TOLERANCES) * len(ENDS)
        print(f"{name:16}{controller.__name__:22}{false:14d}{number:5d}{before:14d}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or SOLVERS)
