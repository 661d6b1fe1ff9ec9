import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages._stacked_solve import solve_stacked, stacked_matrix
from stiffrax.tableaus import gauss, radau_iia

TABLEAUS = [radau_iia(1), radau_iia(2), radau_iia(3), radau_iia(5), gauss(2)]
one = jax.jit(solve_stacked)
batch = jax.jit(jax.vmap(solve_stacked, (None, 0, 0)))


def stiff(tableau, n, lanes=5, seed=0):
    """Jacobians with rates from 1 to 1e5, and right-hand sides."""
    rng, m = np.random.default_rng(seed), tableau.num_stages
    hJ = rng.normal(size=(lanes, m, n, n)) - np.logspace(0, 5, n) * np.eye(n)
    rhs = rng.normal(size=(lanes, m, n))
    return jnp.asarray(tableau.A_inverse), jnp.asarray(hJ), jnp.asarray(rhs)


def expected(a, hJ, rhs):
    return np.linalg.solve(stacked_matrix(a, hJ), rhs.reshape(-1)).reshape(rhs.shape)


@pytest.mark.slow
@pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_stage_equations_hold_alone_and_in_a_batch(tableau, n):
    a, hJ, rhs = stiff(tableau, n)
    found = batch(a, hJ, rhs)
    for k in range(len(hJ)):
        right = expected(a, hJ[k], rhs[k])
        np.testing.assert_allclose(one(a, hJ[k], rhs[k]), right, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(found[k], right, rtol=1e-9, atol=1e-14)


@pytest.mark.slow
def test_a_singular_pivot_is_found_and_leaves_the_other_lanes_alone():
    tableau = radau_iia(3)
    a, hJ, rhs = stiff(tableau, 4)
    # A growth rate at which the first block vanishes, while the whole matrix is well conditioned.
    singular = hJ.at[1].set(a[0, 0] * jnp.eye(4))
    found, healthy = batch(a, singular, rhs), batch(a, hJ, rhs)
    np.testing.assert_allclose(found[1], expected(a, singular[1], rhs[1]), rtol=1e-10)
    np.testing.assert_array_equal(np.delete(found, 1, 0), np.delete(healthy, 1, 0))


def test_lanes_that_are_not_finite_spoil_no_other():
    a, hJ, rhs = stiff(radau_iia(3), 4)
    healthy = batch(a, hJ, rhs)
    hJ, rhs = hJ.at[2].set(jnp.nan), rhs.at[3].set(jnp.inf)
    found = batch(a, hJ, rhs)
    assert not jnp.any(jnp.isfinite(found[2]))
    np.testing.assert_array_equal(found[jnp.array([0, 1, 4])], healthy[jnp.array([0, 1, 4])])


@pytest.mark.slow
def test_many_right_hand_sides_of_one_lane_are_solved_with_one_factorization():
    a, hJ, rhs = stiff(radau_iia(3), 4)
    many = jax.vmap(solve_stacked, (None, None, 0))
    np.testing.assert_allclose(many(a, hJ[0], rhs)[2], expected(a, hJ[0], rhs[2]), rtol=1e-9)
    program = str(jax.make_jaxpr(many)(a, hJ[0], rhs))
    assert "f64[5,12,12]" not in program
    assert "f64[5,4,4]" not in program
