"""Reactions over eleven decades at tolerances near rounding, as today's compilers evaluate them."""

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

# Attempts at 1e-9, 1e-10 and 1e-11 by code without fused multiply-adds
# (`XLA_FLAGS=--xla_cpu_max_isa=AVX`).
ATTEMPTS = {
    ("ODE", "RadauIIA5"): (966, 1410, 2099),
    ("ODE", "RadauIIA9"): (185, 230, 286),
    ("ODE", "RadauIIA13"): (102, 112, 132),
    ("ODE", "RadauIIA"): (127, 138, 153),
    ("DAE", "RadauIIA5"): (980, 1447, 2188),
    ("DAE", "RadauIIA9"): (189, 237, 300),
    ("DAE", "RadauIIA13"): (102, 112, 133),
    ("DAE", "RadauIIA"): (132, 145, 179),
}


@eqx.filter_jit
def solve(term, solver, problem, rtol):
    return diffrax.diffeqsolve(
        term,
        solver,
        0.0,
        1e11,
        None,
        jnp.asarray(problem.y0),
        problem.args,
        stepsize_controller=srx.PredictiveController(rtol=rtol, atol=1e-10 * rtol),
        max_steps=20_000,
        throw=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("form", "name"), ATTEMPTS)
def test_rounding_costs_neither_digits_nor_steps(form, name):
    if form == "ODE":
        problem = srx.problems.robertson()
        term = diffrax.ODETerm(problem.vector_field)
    else:
        problem = srx.problems.robertson_dae()
        term = srx.MassMatrixTerm(problem.vector_field, problem.mass)
    for rtol, attempts in zip((1e-9, 1e-10, 1e-11), ATTEMPTS[form, name], strict=True):
        sol = solve(term, getattr(srx, name)(), problem, jnp.asarray(rtol))
        assert sol.result == diffrax.RESULTS.successful
        assert sol.stats["num_steps"] <= 1.3 * attempts
        # One tolerance; a hundred was asked for.
        np.testing.assert_allclose(sol.ys[-1], problem.reference, rtol=rtol)
