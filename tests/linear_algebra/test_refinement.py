"""Solutions by factors of another matrix, corrected by the equations' own products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.linear_algebra import LARGEST_LEFT, refine, units_left
from stiffrax.stages import (
    Banded,
    SimplifiedNewton,
    StageMethod,
    StageSystem,
    factorize,
    flat_field,
    rounding_rule,
    solve_stages,
)
from stiffrax.tableaus import radau_iia


@jax.jit
def refined(matrix, rhs):
    """By the diagonal of a matrix alone."""

    def corrected(state):
        x, rest = state
        change = rest / jnp.diag(matrix)
        return x + change, rest - matrix @ change

    def left(state):
        return units_left(state[1], jnp.abs(matrix) @ jnp.abs(state[0]) + jnp.abs(rhs))

    return refine(corrected, left, (jnp.zeros_like(rhs), rhs))


@pytest.mark.parametrize("coupling", [1e-3, 0.1, 0.4])
def test_a_solution_is_corrected_until_it_is_right(coupling):
    matrix = np.eye(4) + coupling * np.eye(4, k=1) + coupling * np.eye(4, k=-3)
    rhs = np.array([1.0, 1e-8, 3.0, 1e8])
    (x, _), left = refined(matrix, rhs)
    assert left <= LARGEST_LEFT
    np.testing.assert_allclose(x, np.linalg.solve(matrix, rhs), rtol=1e-13)


def test_what_is_not_solved_is_known():
    matrix = np.array([[1.0, 2.0], [-2.0, 1.0]])
    assert not refined(matrix, np.ones(2))[1] <= LARGEST_LEFT


@pytest.mark.slow
def test_the_derivative_of_stages_has_what_a_structure_leaves_out():
    flow = 1e4 * (np.eye(3, k=1) + np.eye(3, k=-1) - np.diag([1, 2, 1]))
    matrix = jnp.asarray(flow).at[0, 2].set(0.8)
    tableau, structure, t, h = radau_iia(1), Banded(1, 1), jnp.array(0.0), jnp.array(1.0)

    def end(y0):
        field, flat, _ = flat_field(lambda t, y: matrix @ y, t, y0)
        system = StageSystem(tableau, field, t, h, h, flat, None)
        hJ = jax.lax.stop_gradient(structure.jacobian(field, t, flat))
        factors, rule = factorize(tableau.transform, hJ, structure), rounding_rule(flat)
        method = StageMethod(
            SimplifiedNewton(), rule, factors, None, 50, False, structure=structure
        )
        return y0 + solve_stages(system, jnp.zeros((1, 3)), method).Z[0]

    found = jax.jit(jax.jacrev(end))(jnp.ones(3))
    np.testing.assert_allclose(found, np.linalg.inv(np.eye(3) - matrix), rtol=1e-10)
