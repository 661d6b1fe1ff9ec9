import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.linear_algebra._elimination_by_pairs import eliminate_pairs

inverse_of = jax.jit(eliminate_pairs)
each_type = pytest.mark.parametrize("dtype", [float, complex])


def dominant_matrix(n, dtype):
    rng = np.random.default_rng(n)
    matrix = 2 * n * np.eye(n) + rng.normal(size=(n, n))
    return matrix + 1j * rng.normal(size=(n, n)) if dtype is complex else matrix


@each_type
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_odd_and_even_sizes_agree_with_numpy(n, dtype):
    matrix = dominant_matrix(n, dtype)
    found = inverse_of(matrix)
    assert found.dtype == matrix.dtype
    np.testing.assert_allclose(found, np.linalg.inv(matrix), rtol=1e-12, atol=1e-14)


@each_type
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_nothing_overflows_in_single_precision(size, dtype):
    matrix = dominant_matrix(5, dtype)
    single = np.complex64 if dtype is complex else np.float32
    found = np.asarray(inverse_of((size * matrix).astype(single)))
    assert found.dtype == single
    np.testing.assert_allclose(found * size, np.linalg.inv(matrix), rtol=1e-4, atol=1e-7)


@each_type
def test_units_of_equations_and_unknowns_change_no_digit(dtype):
    matrix = dominant_matrix(6, dtype)
    rows, columns = 2.0 ** np.arange(-60, 60, 20), 2.0 ** np.arange(90, -90, -30)
    found = inverse_of(rows[:, None] * matrix * columns)
    expected = np.asarray(inverse_of(matrix)) / rows / columns[:, None]
    np.testing.assert_array_equal(found, expected)


@each_type
@pytest.mark.parametrize("column", [0, 1, 4])
def test_a_pivot_of_zero_gives_no_finite_inverse(column, dtype):
    matrix = dominant_matrix(5, dtype)
    matrix[:, column] = 0
    assert not jnp.all(jnp.isfinite(inverse_of(matrix)))
