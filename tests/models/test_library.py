"""Vector fields from a list of functions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

FUNCTIONS = {
    "uptake": lambda y: y[0] / (0.5 + y[0]),
    "arrhenius": lambda y: y[0] * jnp.exp(-1e3 / y[1]),
    "root": lambda y: jnp.sqrt(y[1]),
}


class Saturation(eqx.Module):
    """A term with a constant that is trained too."""

    km: jax.Array

    def __call__(self, y):
        return y[0] / (self.km + y[0])


def test_value_is_the_weighted_sum():
    model = srx.Library(FUNCTIONS, 2, coefficients=[[1.0, 0.0, 2.0], [0.0, 1e10, -1.0]])
    uptake, arrhenius, root = 3.0 / 3.5, 3.0 * np.exp(-2.5), 20.0
    expected = [uptake + 2 * root, 1e10 * arrhenius - root]
    np.testing.assert_allclose(model(0.0, jnp.array([3.0, 400.0])), expected, rtol=1e-13)


def test_names_are_those_of_the_mapping_or_numbers():
    assert srx.Library(FUNCTIONS, 2).feature_names() == ("uptake", "arrhenius", "root")
    assert srx.Library(tuple(FUNCTIONS.values()), 2).feature_names() == ("f1", "f2", "f3")


def test_arrays_in_a_function_are_trained():
    model = srx.Library([Saturation(jnp.array(0.5))], 1, coefficients=[[2.0]])
    gradient = eqx.filter_grad(lambda m: m(0.0, jnp.array([1.5]))[0])(model)
    np.testing.assert_allclose(gradient.coefficients, [[0.75]])
    np.testing.assert_allclose(gradient.functions[0].km, -2.0 * 1.5 / 2.0**2)


def test_jacobian_under_vmap_and_jit_is_the_closed_form():
    model = srx.Library(FUNCTIONS, 2, coefficients=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    ys = jnp.array([[1.0, 4.0], [0.0, 9.0]])
    jacobian = jax.jit(jax.vmap(jax.jacfwd(model, 1), in_axes=(None, 0)))(0.0, ys)
    expected = [[[0.5 / 1.5**2, 0], [0, 0.25]], [[0.5 / 0.5**2, 0], [0, 1 / 6]]]
    np.testing.assert_allclose(jacobian, expected, rtol=1e-12)


def test_function_that_returns_no_scalar_is_refused_by_name():
    model = srx.Library({"whole": lambda y: y}, 2)
    with pytest.raises(ValueError, match=r"Function `whole` must return a scalar, got shape"):
        model(0.0, jnp.ones(2))


@pytest.mark.parametrize("bad", [(), {}])
def test_library_without_functions_is_refused(bad):
    with pytest.raises(ValueError, match="`functions` must be one or more functions of the state"):
        srx.Library(bad, 2)


def test_count_below_one_is_refused():
    with pytest.raises(ValueError, match="`num_states` must be an integer of at least 1, got 0"):
        srx.Library(FUNCTIONS, 0)
