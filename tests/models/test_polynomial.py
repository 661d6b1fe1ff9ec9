"""Polynomial vector fields: values, derivatives, names, errors."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import stiffrax as srx

FEATURES = eqx.filter_jit(lambda model, y: model.features(y))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_features_and_all_derivatives_are_exact_at_zero(degree):
    model = srx.Polynomial(3, degree)
    exponents = model.exponents
    value = model.features

    @jax.jit
    def derivatives(y):
        hessian = jax.jacfwd(jax.jacrev(value))
        return value(y), jax.jacfwd(value)(y), jax.jacrev(value)(y), hessian(y)

    zeroth, forward, reverse, second = derivatives(jnp.zeros(3))
    np.testing.assert_array_equal(zeroth, exponents.sum(1) == 0)
    linear = np.where(exponents.sum(1, keepdims=True) == 1, exponents, 0)
    np.testing.assert_array_equal(forward, linear)
    np.testing.assert_array_equal(reverse, linear)
    hessian = np.einsum("mi,mj->mij", exponents, exponents)
    hessian -= np.einsum("mi,ij->mij", exponents, np.eye(3, dtype=int))
    hessian[exponents.sum(1) != 2] = 0
    np.testing.assert_array_equal(second, hessian)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_features_are_the_powers_of_any_state(y, degree):
    model = srx.Polynomial(3, degree)
    expected = np.prod(np.array(y) ** model.exponents, axis=1)
    features = FEATURES(model, jnp.array(y))
    np.testing.assert_allclose(features, expected, rtol=1e-14, atol=1e-300)


def test_jacobian_is_that_of_the_powers_at_negative_states():
    model = srx.Polynomial(2, 3, coefficients=np.arange(20.0).reshape(2, 10))
    y = np.array([-1.5, -0.25])
    e = model.exponents
    lowered = np.maximum(e[:, None, :] - np.eye(2, dtype=int), 0)
    expected = model.coefficients @ (e * np.prod(y**lowered, axis=2))
    jacobian = jax.jit(jax.jacfwd(model, 1))(0.0, jnp.array(y))
    np.testing.assert_allclose(jacobian, expected, rtol=1e-14)


def test_eight_states_of_degree_two_have_45_monomials():
    assert srx.Polynomial(8, 2).num_features == 45


def test_rates_that_differ_by_nine_orders_keep_their_digits():
    model = srx.Polynomial(3, 2, coefficients=_robertson())
    y = jnp.array([1.0, 3.6e-5, 0.1])
    expected = srx.problems.robertson().vector_field(0.0, y)
    np.testing.assert_allclose(model(0.0, y), expected, rtol=1e-13)


def test_float32_stays_float32():
    model = srx.Polynomial(2, 2, coefficients=np.ones((2, 6), np.float32))
    assert model(0.0, jnp.ones(2, jnp.float32)).dtype == jnp.float32
    assert model.with_coefficients(np.zeros((2, 6), np.float32)).coefficients.dtype == jnp.float32


def test_vmap_and_jit_give_the_single_values():
    model = srx.Polynomial(3, 2, coefficients=np.arange(30.0).reshape(3, 10))
    ys = jnp.linspace(-2, 3, 15).reshape(5, 3)
    batch = jax.jit(jax.vmap(model, in_axes=(None, 0)))(0.0, ys)
    np.testing.assert_allclose(batch, [model(0.0, y) for y in ys], rtol=1e-13)


def test_model_is_a_diffrax_vector_field():
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -1.0]])
    slope = diffrax.ODETerm(model).vf(0.0, jnp.array([2.0]), None)
    np.testing.assert_allclose(slope, [-2.0], rtol=1e-15)


def test_feature_names_follow_the_order_of_the_features():
    expected = ("1", "a", "b", "a^2", "a*b", "b^2")
    assert srx.Polynomial(2, 2).feature_names(["a", "b"]) == expected
    assert srx.Polynomial(1, 3).feature_names() == ("1", "y1", "y1^2", "y1^3")


@pytest.mark.parametrize("names", [["a"], ["a", "a"], "ab"])
def test_names_that_do_not_fit_are_refused(names):
    with pytest.raises(ValueError, match="`names`"):
        srx.Polynomial(2, 1).feature_names(names)


@pytest.mark.parametrize("bad", [0, -1, True])
@pytest.mark.parametrize("name", ["num_states", "degree", "num_outputs"])
def test_count_below_one_is_refused(name, bad):
    arguments = {"num_states": 2, "degree": 2, name: bad}
    with pytest.raises(ValueError, match=f"`{name}={bad}` was given; it needs a positive integer"):
        srx.Polynomial(**arguments)


def test_numpy_counts_are_taken():
    assert srx.Polynomial(np.int64(2), np.int32(3)).num_features == 10


def _robertson():
    coefficients = np.zeros((3, 10))
    names = srx.Polynomial(3, 2).feature_names()
    rates = {"y1": 0.04, "y2^2": 3e7, "y2*y3": 1e4}
    signs = {"y1": (-1, 1, 0), "y2^2": (0, -1, 1), "y2*y3": (1, -1, 0)}
    for name, rate in rates.items():
        coefficients[:, names.index(name)] = rate * np.array(signs[name])
    return coefficients


def test_coefficients_with_a_scale_of_their_own_are_refused():
    with pytest.raises(ValueError, match="`coefficients` is a parameter with a scale or bounds"):
        srx.Polynomial(1, 1, coefficients=srx.positive(np.ones((1, 2))))
