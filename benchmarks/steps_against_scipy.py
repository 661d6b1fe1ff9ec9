"""Steps and work of `RadauIIA5` beside those of SciPy's `Radau`, at one convention of tolerances.

SciPy asks its error estimate for the tolerance itself, RADAU5 and stiffrax for the transformed one
`0.1 rtol^(2/3)`, so that SciPy is given that. Both have the exact Jacobian and the same first step;
ours runs under `PredictiveController`. Run with

    python benchmarks/steps_against_scipy.py
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# The problem, the first step, and atol as a multiple of rtol.
PROBLEMS = {
    "HIRES": (srx.problems.hires(), 1e-6, 1e-4),
    "POLLU": (srx.problems.pollution(), 1e-9, 1e-6),
    "VDPOL": (srx.problems.van_der_pol(), 1e-6, 1e-3),
    "OREGO": (srx.problems.oregonator(), 1e-6, 1.0),
}
TOLERANCES = (1e-4, 1e-6, 1e-8)


def ours(problem, rtol, atol, first_step):
    stats = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.RadauIIA5(),
        problem.t0,
        problem.t1,
        first_step,
        jnp.asarray(problem.y0),
        stepsize_controller=srx.PredictiveController(rtol=rtol, atol=atol),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=20_000,
    ).stats
    names = ("num_accepted_steps", "num_f_evaluations", "num_jacobians", "num_factorizations")
    return [int(stats[name]) for name in names]


def scipys(problem, rtol, atol, first_step):
    field = jax.jit(problem.vector_field)
    jacobian = jax.jit(jax.jacfwd(lambda y: problem.vector_field(0.0, y)))
    found = solve_ivp(
        lambda t, y: np.asarray(field(t, y)),
        (problem.t0, problem.t1),
        problem.y0,
        method="Radau",
        jac=lambda t, y: np.asarray(jacobian(y)),
        rtol=0.1 * rtol ** (2 / 3),
        atol=0.1 * rtol ** (2 / 3) * atol / rtol,
        first_step=first_step,
    )
    # Its factorizations are counted one by one, a real and a complex one each time.
    return [len(found.t) - 1, found.nfev, found.njev, found.nlu // 2]


def main():
    print(f"{'':14}{'steps':>16}{'f':>18}{'J':>16}{'LU':>16}     ours / SciPy: steps, f")
    for name, (problem, first_step, floor) in PROBLEMS.items():
        for rtol in TOLERANCES:
            options = (problem, rtol, rtol * floor, first_step)
            a, b = ours(*options), scipys(*options)
            pairs = "".join(f"{x:8d} {y:8d}" for x, y in zip(a, b, strict=True))
            print(f"{name:6}{rtol:8.0e}{pairs}     {a[0] / b[0]:.2f} {a[1] / b[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
