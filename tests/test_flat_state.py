"""States as one real vector."""

import jax
import jax.numpy as jnp
import numpy as np

from stiffrax._flat_state import entry_at, flatten_state, magnitudes, parts_of_state, real_dtype

STATE = {"x": jnp.array([1.0, -2.0]), "z": jnp.array([[3 + 4j], [-1j]])}


def test_the_parts_of_a_complex_entry_are_neighbors():
    flat, _ = flatten_state(STATE)
    np.testing.assert_array_equal(flat, [1, -2, 3, 4, 0, -1])
    entry, part = parts_of_state(STATE)
    np.testing.assert_array_equal(entry, [0, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(part, [0, 0, 0, 1, 0, 1])
    assert entry_at(STATE, jnp.asarray(5)) == 3


def test_what_was_flattened_is_restored_with_its_types():
    state = {"x": STATE["x"].astype(jnp.float32), "z": STATE["z"].astype(jnp.complex64)}
    flat, restore = flatten_state(state)
    restored = restore(flat)
    assert flat.dtype == real_dtype(state) == jnp.float32
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_cotangents_of_parts_are_complex_cotangents_of_jax():
    weights = np.arange(1.0, 7.0)
    gradient = jax.grad(lambda y: flatten_state(y)[0] @ weights)(STATE)
    expected = jax.grad(
        lambda y: (
            weights[:2] @ y["x"]
            + weights[2::2] @ jnp.real(y["z"])[:, 0]
            + weights[3::2] @ jnp.imag(y["z"])[:, 0]
        )
    )(STATE)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)
    np.testing.assert_array_equal(gradient["z"][:, 0], [3 - 4j, 5 - 6j])


def test_an_infinite_error_of_two_parts_is_infinite():
    error = magnitudes({"z": jax.lax.complex(jnp.inf, jnp.inf), "x": jnp.asarray(-1.0)})
    assert error["z"] == jnp.inf
    assert error["x"] == -1
