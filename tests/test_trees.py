"""A choice of one of two trees, and flags for rows of arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax._trees import along_rows, select


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
