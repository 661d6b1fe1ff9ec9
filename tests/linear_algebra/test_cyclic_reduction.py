"""Narrow bands by cyclic reduction."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.linear_algebra._sparse_matrix import SparseMatrix
from stiffrax.stages import flat_field

SHIFT = np.array([3.0 + 1.0j])


def band(n, width, seed=0):
    """A Jacobian whose diagonal weighs, in units that differ from row to row; a right-hand side."""
    rng = np.random.default_rng(seed)
    J = np.triu(np.tril(rng.uniform(-1, 1, (n, n)), width), -width)
    J -= np.diag(2 * width + 1e3 * rng.uniform(size=n))
    return J, rng.normal(size=n)


def sparse(structure, matrix):
    t, y0 = jnp.array(0.0), jnp.ones(len(matrix))
    pattern = structure.jacobian(flat_field(lambda t, y: y, t, y0)[0], t, y0).pattern
    return SparseMatrix(jnp.asarray(matrix)[pattern.rows, pattern.columns], pattern)


@eqx.filter_jit
def solved(structure, hJ, rhs, mass=None):
    return structure.solve(structure.factor(SHIFT, hJ, mass), rhs.astype(complex)[None])[0]


# Above the rows that are rounds in a loop; fewer are tested below.
@pytest.mark.parametrize(("n", "width"), [(100, 3), (130, 1)])
def test_solutions_are_those_of_dense_matrices(n, width):
    J, rhs = band(n, width)
    structure = srx.Banded(width, width)
    found = solved(structure, sparse(structure, J), jnp.asarray(rhs))
    expected = np.linalg.solve(SHIFT * np.eye(n) - J, rhs)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_lanes_are_solved_as_each_alone():
    J, rhs = band(40, 2)
    structure = srx.Banded(2, 2)
    hJ, steps = sparse(structure, J), jnp.array([1.0, 1e-3])
    lanes = jax.vmap(lambda h: solved(structure, structure.scaled(h, hJ), jnp.asarray(rhs)))(steps)
    for h, lane in zip((1.0, 1e-3), lanes, strict=True):
        expected = np.linalg.solve(SHIFT * np.eye(40) - h * J, rhs)
        np.testing.assert_allclose(lane, expected, rtol=1e-11)


def test_any_two_of_few_rows_may_be_exchanged():
    # As two constraints in each other's place, in two blocks of rows.
    J, rhs = band(10, 2)
    J[[3, 4]] = 0
    J[3, 4], J[4, 3] = -1.0, -2.0
    structure = srx.Banded(2, 2)
    differential = np.ones(10)
    differential[[3, 4]] = 0
    mass = sparse(structure, np.diag(differential))
    found = solved(structure, sparse(structure, J), jnp.asarray(rhs), mass)
    expected = np.linalg.solve(SHIFT * np.diag(differential) - J, rhs)
    np.testing.assert_allclose(found, expected)


def test_an_equation_without_its_own_state_may_stand_in_every_other_row():
    # As constraints that do not hold the state of their row.
    J, rhs = band(30, 1)
    J[::2] = 0
    J[np.arange(0, 30, 2), np.arange(1, 30, 2)] = 1.0
    differential = np.arange(30) % 2
    structure = srx.Banded(1, 1)
    mass = sparse(structure, np.diag(differential.astype(float)))
    found = solved(structure, sparse(structure, J), jnp.asarray(rhs), mass)
    expected = np.linalg.solve(SHIFT * np.diag(differential) - J, rhs)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
