"""A choice of one of two trees, sizes, and flags for rows of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax._trees import along_rows, euclidean_norm, select


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_flags_of_rows_choose_whole_rows(shape):
    chosen = np.where(along_rows(np.array([True, False]), np.ones(shape)), np.ones(shape), 0)
    np.testing.assert_array_equal(chosen.reshape(2, -1).mean(axis=1), [1, 0])


def test_flags_of_numpy_stay_in_numpy():
    assert isinstance(along_rows(np.ones(2), np.ones((2, 3))), np.ndarray)


@pytest.mark.parametrize("use", [True, False])
def test_every_leaf_is_of_the_tree_chosen(use):
    new, old = {"a": jnp.ones(2), "b": jnp.ones(())}, {"a": jnp.zeros(2), "b": jnp.zeros(())}
    chosen = select(jnp.asarray(use), new, old)
    assert all(np.all(leaf == float(use)) for leaf in (chosen["a"], chosen["b"]))


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_a_norm_in_single_precision_is_that_of_numbers_of_any_size(unit):
    x = jnp.asarray(np.array([[3.0, 0.0], [4.0, 0.0]]) * unit, jnp.float32)
    np.testing.assert_allclose(euclidean_norm(x, 0), [5 * unit, 0.0], rtol=1e-6)
    slopes = jax.grad(lambda x: jnp.sum(euclidean_norm(x, 0)))(x)
    np.testing.assert_allclose(slopes, [[0.6, 0.0], [0.8, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_of_what_is_not_finite_is_not_finite(bad):
    assert not np.isfinite(euclidean_norm(jnp.array([bad, 1.0])))
