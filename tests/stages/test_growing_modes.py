import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages import grows_unresolved


def powers(x, hJ, gamma=3.6):
    P = gamma * np.linalg.inv(gamma * np.eye(len(hJ)) - hJ)
    return jnp.array(x), jnp.array(P @ x), jnp.array(P @ P @ x)


@pytest.mark.parametrize("z", [4.0, 1e3, 1e15])
def test_a_growing_mode_is_seen_however_large_the_step(z):
    assert grows_unresolved(powers([1.0], np.array([[z]])), 1.0)


@pytest.mark.parametrize("z", [3.0, 0.1, 0.0, -1.0, -1e15])
def test_a_mode_that_is_resolved_or_decays_is_none(z):
    assert not grows_unresolved(powers([1.0], np.array([[z]])), 1.0)


def test_fast_and_slow_modes_close_to_parallel_are_no_growth():
    # The fast part points against what is left of the slow one, and is of opposite sign.
    V = np.array([[1.0, 1.0], [1.0, 0.9]])
    hJ = V @ np.diag([-1e6, -1e-3]) @ np.linalg.inv(V)
    assert not grows_unresolved(powers(V @ [1.0, -1e-3], hJ), 1.0)


def test_a_growing_pair_is_seen():
    assert grows_unresolved(powers([1.0, 0.5], np.array([[9.0, 1.0], [-1.0, 9.0]])), 1.0)


def test_the_units_of_the_components_do_not_matter():
    units = np.array([1e-60, 1.0, 1e60])
    hJ = np.diag([-1e4, 50.0, -1.0]) + np.diag([2.0, 3.0], 1)
    scaled = units[:, None] * hJ / units
    both = []
    for x in ([1e-3, 1.0, 1e-3], [1.0, 1e-9, 1.0]):
        both.append(bool(grows_unresolved(powers(x, hJ), jnp.ones(3))))
        assert grows_unresolved(powers(units * x, scaled), jnp.array(units)) == both[-1]
    assert both == [True, False]


def test_no_estimate_is_no_growth():
    zero = (jnp.zeros(2),) * 3
    assert not grows_unresolved(zero, 1.0)
    assert not grows_unresolved(jax.tree.map(lambda x: x + jnp.nan, zero), 1.0)
