"""POLLU: what its chemistry conserves, and how stiff it is."""

import jax
import numpy as np

import stiffrax as srx


def test_sulfur_is_conserved():
    problem = srx.problems.pollution()
    y = np.random.default_rng(0).uniform(size=20)
    slope = dict(zip(problem.names, jax.jit(problem.vector_field)(0.0, y), strict=True))
    assert slope["SO2"] + slope["SO4"] == 0


def test_nitrogen_is_conserved():
    problem = srx.problems.pollution()
    atoms = {"NO2": 1, "NO": 1, "PAN": 1, "HNO3": 1, "NO3": 1, "N2O5": 2}
    y = np.random.default_rng(0).uniform(size=20)
    slope = dict(zip(problem.names, jax.jit(problem.vector_field)(0.0, y), strict=True))
    flow = [count * float(slope[name]) for name, count in atoms.items()]
    assert abs(sum(flow)) < 1e-14 * max(map(abs, flow))


def test_fastest_rate_at_the_start():
    problem = srx.problems.pollution()
    jacobian = jax.jit(jax.jacfwd(problem.vector_field, argnums=1))(0.0, problem.y0)
    np.testing.assert_allclose(np.linalg.eigvals(jacobian).real.min(), -4.441e11, rtol=1e-4)
