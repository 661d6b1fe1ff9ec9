"""The transposed equations of one step against JAX's own derivative of the step."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints._block_solve import stacked_matrix
from stiffrax.adjoints._linearized_step import linearize
from stiffrax.solvers import stage_system

# One stage and three, not stiffly accurate, and with an explicit first stage.
SOLVERS = [srx.BackwardEuler(), srx.RadauIIA5(), srx.GaussLegendre4(), srx.Trapezoid()]
FIELD = diffrax.ODETerm(
    lambda t, y, args: jnp.array([-300 * y[0] * y[1], jnp.sin(t * y[0]) - y[1]])
)
Y0 = jnp.array([1.0, 0.5])


def step(solver, y0):
    """End, polynomial and increments of a step from 0.1 to 0.3."""
    state = solver.init(FIELD, 0.1, 0.3, y0, None)
    y1, _, info, _, result = solver.step(FIELD, 0.1, 0.3, y0, None, state, made_jump=False)
    assert result == diffrax.RESULTS.successful
    return y1, info["coefficients"]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_cotangents_of_end_and_polynomial_are_pulled_to_the_start(solver, getkey):
    (_, coefficients), pull = jax.vjp(lambda y0: step(solver, y0), Y0)
    y1_bar = jax.random.normal(getkey(), (2,))
    p_bar = jax.random.normal(getkey(), coefficients.shape)
    system, _ = stage_system(solver.tableau, FIELD, 0.1, 0.3, Y0, None)
    powers = solver.tableau.nodes[:, None] ** np.arange(1, len(coefficients) + 1)
    linearized = linearize(system, powers @ coefficients)
    G = linearized.from_end(y1_bar) + linearized.from_polynomial(p_bar)
    V = jnp.linalg.solve(stacked_matrix(solver.tableau, linearized.hJ_T), G)
    start = linearized.start_cotangent(y1_bar, G, V, p_bar)
    np.testing.assert_allclose(start, pull((y1_bar, p_bar))[0], rtol=1e-10)
