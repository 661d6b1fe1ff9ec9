"""The batched solve of transposed stage equations against NumPy's, and its fallback."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints import _linearized_step as block_solve
from stiffrax.adjoints._linearized_step import factor_blocks, stacked, stacked_matrix
from stiffrax.linear_algebra import BlockFactors

RADAU_5 = srx.tableaus.radau_iia(3)
CASES = [(RADAU_5, 1), (RADAU_5, 2), (RADAU_5, 5)]
CASES += [(tableau, 5) for tableau in (srx.tableaus.radau_iia(1), srx.tableaus.gauss(2))]
CASES += [(srx.tableaus.radau_iia(5), 4)]


@eqx.filter_jit
def solve_all(tableau, hJ_T, rhs, used):
    a = jnp.asarray(tableau.A_inverse.T)
    factors = factor_blocks(a, hJ_T)
    wrong = used & block_solve.unsolved(a, hJ_T, factors, rhs)
    rows = block_solve.rows_where(wrong, a, hJ_T)
    return block_solve.solve_all(hJ_T, factors, rows, rhs, wrong)


def stiff(key, tableau, n, k=4):
    """Transposed Jacobians with rates from 1 to 1e5, and columns to solve for."""
    m = tableau.num_stages
    decay = jnp.diag(jnp.logspace(0, 5, n))
    matrices = jax.random.normal(key, (k, m, n, n)) - decay[None, None]
    # Columns for the end of the step, zero at the first stage, and one more that is not.
    ends = tuple(jax.random.normal(key, (m, k, n, n)))
    return matrices, ((None, *ends[1:]) if m > 1 else ends, tuple(jnp.ones((m, k, n, 1))))


def expected(tableau, hJ_T, rhs):
    """`(A^-T x I - blockdiag(h J_i^T))^-1 rhs`, written out."""
    m, n = hJ_T.shape[1:3]
    matrix = np.kron(tableau.A_inverse.T, np.eye(n))[None].repeat(len(hJ_T), 0)
    for i in range(m):
        block = slice(i * n, (i + 1) * n)
        matrix[:, block, block] -= hJ_T[:, i]
    return np.linalg.solve(matrix, stacked(rhs))


@pytest.mark.slow_cases("tableau0-1", "tableau2-5", "tableau3-5", "tableau4-5", "tableau5-4")
@pytest.mark.parametrize(("tableau", "n"), CASES)
def test_every_step_is_solved(tableau, n, getkey):
    hJ_T, rhs = stiff(getkey(), tableau, n)
    solution = solve_all(tableau, hJ_T, rhs, jnp.ones(4, bool))
    np.testing.assert_allclose(solution, expected(tableau, hJ_T, rhs), rtol=1e-10, atol=1e-13)


def test_a_singular_pivot_is_found_and_solved_by_rows_and_leaves_others_alone(getkey):
    tableau = RADAU_5
    hJ_T, rhs = stiff(getkey(), tableau, 2)
    # A growth rate at which the first block vanishes, while the whole matrix is well conditioned.
    singular = hJ_T.at[1].set(tableau.A_inverse[0, 0] * jnp.eye(2))
    by_blocks = jax.jit(
        lambda x: jax.vmap(BlockFactors.solve)(factor_blocks(tableau.A_inverse.T, x), rhs)[1]
    )
    assert not np.all(np.isfinite(by_blocks(singular)))
    solution = solve_all(tableau, singular, rhs, jnp.ones(4, bool))
    np.testing.assert_allclose(solution, expected(tableau, singular, rhs), rtol=1e-10, atol=1e-12)
    healthy = solve_all(tableau, hJ_T, rhs, jnp.ones(4, bool))
    np.testing.assert_array_equal(np.delete(solution, 1, 0), np.delete(healthy, 1, 0))


@pytest.mark.slow
def test_a_step_without_use_may_be_anything(getkey):
    tableau = RADAU_5
    hJ_T, rhs = stiff(getkey(), tableau, 3)
    used = jnp.array([True, True, False, True])
    solution = solve_all(tableau, hJ_T.at[2].set(jnp.nan), rhs, used)
    np.testing.assert_array_equal(solution[used], solve_all(tableau, hJ_T, rhs, used)[used])


@pytest.mark.slow
def test_the_stacked_matrix_is_that_of_the_stage_system(getkey):
    tableau = srx.tableaus.radau_iia(2)
    hJ_T, rhs = stiff(getkey(), tableau, 3)
    solution = np.linalg.solve(stacked_matrix(tableau.A_inverse.T, hJ_T), stacked(rhs))
    np.testing.assert_allclose(solution, expected(tableau, hJ_T, rhs), rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_derivatives_are_those_of_the_inverse(getkey):
    tableau = srx.tableaus.radau_iia(2)
    hJ_T, rhs = stiff(getkey(), tableau, 2)
    tangents = jax.random.normal(getkey(), hJ_T.shape), jax.tree.map(jnp.sin, rhs)
    solve = lambda *x: solve_all(tableau, *x, jnp.ones(4, bool))
    solution, tangent = jax.jvp(solve, (hJ_T, rhs), tangents)
    product = lambda hJ_T, x: stacked_matrix(tableau.A_inverse.T, hJ_T) @ x
    _, change = jax.jvp(product, (hJ_T, solution), (tangents[0], tangent))
    np.testing.assert_allclose(change, stacked(tangents[1]), atol=1e-9)
