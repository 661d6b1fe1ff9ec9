import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.linear_algebra import scaled_inverse


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_solutions_do_not_depend_on_the_units_of_equations_and_unknowns(n):
    rng = np.random.default_rng(n)

    @jax.jit
    def solutions(S, b):
        inverse = scaled_inverse(S)
        return inverse.solve(b), inverse.T.solve(b), inverse.as_matrix()

    for _ in range(20):
        # Some entries are zero, as in Jacobians.
        S = (rng.normal(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.6)) + 3 * np.eye(n)
        b = rng.normal(size=(n, 2))
        rows, columns = 10.0 ** rng.integers(-60, 61, (2, n))
        S_unit = rows[:, None] * S * columns
        x, _, _ = map(np.asarray, solutions(S_unit, rows[:, None] * b))
        _, x_T, _ = map(np.asarray, solutions(S_unit, columns[:, None] * b))
        inverse = np.asarray(solutions(S_unit, b)[2])
        np.testing.assert_allclose(columns[:, None] * x, np.linalg.solve(S, b), rtol=1e-9)
        np.testing.assert_allclose(rows[:, None] * x_T, np.linalg.solve(S.T, b), rtol=1e-9)
        in_units = columns[:, None] * inverse * rows
        np.testing.assert_allclose(in_units, np.linalg.inv(S), rtol=1e-9, atol=1e-13)


@pytest.mark.slow
def test_a_singular_matrix_has_no_finite_solution_and_raises_nothing():
    for S in (jnp.zeros((2, 2)), jnp.array([[1.0, 1e60], [1.0, 1e60]]), jnp.full((4, 4), jnp.nan)):
        assert not jnp.all(jnp.isfinite(scaled_inverse(S).solve(jnp.ones((len(S), 1)))))


def test_scales_are_powers_of_two_so_that_nothing_is_rounded():
    S = jnp.array([[3e-7, 5e11], [7e3, 0.0]])
    inverse = scaled_inverse(S)
    exponents = np.log2(jnp.concatenate([inverse.rows, inverse.columns]))
    np.testing.assert_array_equal(exponents, np.round(exponents))
    largest = jnp.max(jnp.abs(inverse.scaled), axis=1)
    assert jnp.all((largest > 0.2) & (largest < 5))
