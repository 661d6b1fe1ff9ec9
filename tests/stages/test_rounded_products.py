"""Values of vector fields to the last bit: NumPy rounds every product, compilers do not."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np

from stiffrax.stages import flat_field
from stiffrax.stages._rounded_products import round_cotangents, round_products


def reactions(t, y):
    """Robertson's reactions, and two that are fast both ways."""
    del t
    a, b, c = y[..., 0], y[..., 1], y[..., 2]
    slow, fast, back = 0.04 * a, 1e4 * b * c, 3e7 * b**2
    both = 1e9 * a * b - 1e9 * (c * a)
    return (-slow + fast + both, slow - fast - back - both, back)


def stacked(t, y):
    return jnp.stack(reactions(t, y), axis=-1)


def near_equilibrium(count):
    """States at which gain and loss agree to nine digits, so that little else is left."""
    a = np.geomspace(1e-9, 1, count) * np.sqrt(2)
    return np.stack([a, 0.04 * a / (1e4 * (1 - a / 2)) * (1 + 1e-9), 1 - a / 2], axis=-1)


def test_values_are_those_of_numpy_to_the_last_bit():
    y = near_equilibrium(200)
    value = jax.jit(jax.vmap(round_products(stacked), (None, 0)))(jnp.asarray(1.0), y)
    np.testing.assert_array_equal(value, np.stack(reactions(1.0, y), axis=-1))


def test_a_field_on_flat_states_is_evaluated_so():
    y = near_equilibrium(50)

    @jax.jit
    def value(t, y):
        field, flat, _ = flat_field(lambda t, y: {"y": stacked(t, y["y"])}, t, {"y": y})
        return field(t, flat)

    for row in y:
        np.testing.assert_array_equal(value(1.0, row), reactions(1.0, row))


def test_jacobians_are_those_of_one_operation_after_the_other():
    @jax.jit
    def jacobian(t, y):
        field, flat, _ = flat_field(stacked, t, y)
        return field.jacobian(t, flat)

    for y in jnp.asarray(near_equilibrium(5)):
        one_by_one = jax.jacfwd(lambda y: stacked(1.0, y))(y)
        np.testing.assert_array_equal(jacobian(jnp.asarray(1.0), y), one_by_one)


def test_derivatives_of_any_order_and_direction_go_through():
    field, y = round_products(stacked), jnp.array([0.3, 2.0, 0.7])
    plain = lambda y: stacked(1.0, y)
    rounded = lambda y: field(jnp.asarray(1.0), y)
    for derivative in (jax.jacfwd, jax.jacrev, lambda f: jax.jacfwd(jax.jacrev(f))):
        found, expected = jax.jit(derivative(rounded))(y), jax.jit(derivative(plain))(y)
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-6)


def test_loops_branches_and_functions_with_their_own_derivative_keep_their_values():
    def field(t, y):
        branch = jax.lax.cond(t > 0, lambda y: y * y, lambda y: -y, y)
        loop, _ = jax.lax.scan(lambda c, x: (c * x + 1, None), y, jnp.arange(3.0))
        return branch + jax.nn.relu(y) * loop + jax.nn.silu(y) + jnp.where(y > 1, y * t, t * t)

    y = jnp.array([-1.0, 0.5, 2.0])
    found = jax.jit(round_products(field))(jnp.asarray(2.0), y)
    np.testing.assert_allclose(found, field(jnp.asarray(2.0), y), rtol=1e-15)
    slope = jax.jacfwd(round_products(field), argnums=1)(jnp.asarray(2.0), y)
    np.testing.assert_allclose(slope, jax.jacfwd(field, argnums=1)(jnp.asarray(2.0), y), rtol=1e-14)


def test_single_precision_and_signs_of_zero_are_kept():
    y = jnp.array([-0.0, 0.0, 2.0], jnp.float32)
    value = jax.jit(round_products(lambda t, y: 1.0 * y * y * t + 0 * y))(jnp.float32(1), y)
    assert value.dtype == jnp.float32
    negative = jax.jit(round_products(lambda t, y: -1.0 * y))(jnp.float32(1), y)
    np.testing.assert_array_equal(np.signbit(negative), [False, True, True])


def test_a_rate_written_twice_has_one_cotangent_the_difference_of_theirs():
    forms = {
        "literal": lambda k, y: jnp.stack([-1e12 * y * y, y * 1e12 * y]),
        "constant": lambda k, y: jnp.stack([-k * y * y, k * y * y]),
        "negative": lambda k, y: jnp.stack([-(k * y) * y, -(y * -k) * y]),
    }
    t, k, y, V = jnp.asarray([0.0, 1e12, 3.0, 1 / 3])
    V = jnp.stack([V, V + 1e-12])
    for form in forms.values():
        rounded = round_products(lambda t, k, y, form=form: form(k, y))
        value, pull = jax.vjp(ft.partial(rounded, t, k), y)
        np.testing.assert_array_equal(value, [-9e12, 9e12])
        np.testing.assert_allclose(pull(V)[0], 6e12 * (V[1] - V[0]), rtol=1e-15)


def test_cotangents_of_a_rounded_value_are_those_of_the_value():
    rounded = lambda t, y: round_cotangents(t, y * jnp.arange(3.0))
    y, V = jnp.array([1.0, 2.0, 3.0]), jnp.array([-1.0, 0.5, 2.0])
    value, pull = jax.vjp(jax.vmap(rounded, (None, 0)), jnp.asarray(1.0), y[None])
    np.testing.assert_array_equal(value[0], y * jnp.arange(3.0))
    np.testing.assert_array_equal(pull(V[None])[1][0], V * jnp.arange(3.0))
