import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.stages import Dense, factorize
from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia

TABLEAUS = [*map(radau_iia, (1, 2, 3, 5, 7)), *map(gauss, (1, 2, 3)), lobatto_iiia(2)]
every_tableau = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)


def stiff_matrix(n, dtype=float):
    """Eigenvalues from -1 to -1e6, far from normal."""
    upper = np.triu(np.random.default_rng(n).normal(size=(n, n)), 1)
    return jnp.asarray(upper - np.diag(10.0 ** np.linspace(0, 6, n)), dtype)


def stacked(tableau, hJ):
    n = hJ.shape[0]
    return np.kron(tableau.A_inverse, np.eye(n)) - np.kron(np.eye(tableau.num_stages), hJ)


# How they are solved does not depend on the number of systems: one, pairs alone, and both.
@pytest.mark.slow_cases(
    "*IIA 1-LU", "*IIA 3-LU", "*IIA 9-LU", "*IIA 13-LU", "*Gauss 2-LU", "*Gauss 6-LU"
)
@pytest.mark.parametrize("linear_solver", [None, lx.LU()], ids=["inverse", "LU"])
@every_tableau
def test_split_systems_solve_the_stacked_one(tableau, linear_solver):
    hJ = stiff_matrix(4)
    R = jnp.asarray(np.random.default_rng(0).normal(size=(tableau.num_stages, 4)))
    Z = jax.jit(lambda: factorize(tableau.transform, hJ, Dense(linear_solver)).solve(R))()
    expected = np.linalg.solve(stacked(tableau, hJ), R.reshape(-1)).reshape(R.shape)
    # The transformation of seven stages costs three digits.
    tolerance = 1e-11 if tableau.num_stages < 7 else 1e-9
    np.testing.assert_allclose(Z, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow_cases("Radau IIA 5")
@pytest.mark.parametrize("tableau", [radau_iia(3), gauss(1)], ids=lambda t: t.name)
def test_float32_systems_are_solved_in_float32(tableau):
    hJ = stiff_matrix(3, "float32")
    R = jnp.ones((tableau.num_stages, 3), "float32")
    Z = factorize(tableau.transform, hJ, Dense()).solve(R)
    assert Z.dtype == jnp.float32
    expected = np.linalg.solve(stacked(tableau, hJ), R.reshape(-1)).reshape(R.shape)
    np.testing.assert_allclose(Z, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("linear_solver", [None, lx.LU()], ids=["inverse", "LU"])
def test_the_real_system_is_solved_on_its_own(linear_solver):
    tableau, hJ = radau_iia(5), stiff_matrix(3)
    matrix = tableau.gamma * np.eye(3) - hJ
    x = factorize(tableau.transform, hJ, Dense(linear_solver)).solve_real(jnp.ones(3))
    np.testing.assert_allclose(matrix @ x, 1.0, rtol=1e-9)


def test_without_a_real_eigenvalue_the_system_of_the_error_estimate_is_factored_where_asked():
    tableau, hJ = radau_iia(2), stiff_matrix(3)
    matrix = tableau.gamma * np.eye(3) - hJ
    factors = factorize(tableau.transform, hJ, Dense(), gamma=tableau.gamma)
    np.testing.assert_allclose(matrix @ factors.solve_real(jnp.ones(3)), 1.0, rtol=1e-9)
    assert len(factorize(tableau.transform, hJ, Dense()).real) == 0


@pytest.mark.slow
def test_a_step_of_length_zero_has_an_invertible_system():
    tableau = radau_iia(3)
    R = jnp.ones((3, 2))
    Z = factorize(tableau.transform, jnp.zeros((2, 2)), Dense()).solve(R)
    np.testing.assert_allclose(tableau.A_inverse @ Z, R, rtol=1e-13)


def test_a_singular_system_gives_no_finite_solution():
    tableau = radau_iia(1)
    hJ = jnp.eye(2)
    Z = factorize(tableau.transform, hJ, Dense(srx.SmallInverse())).solve(jnp.ones((1, 2)))
    assert not jnp.any(jnp.isfinite(Z))
