"""What every model that is linear in its coefficients does, and a list of functions as one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

COEFFICIENTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
MASK = np.array([[True, False, True], [False, True, False]])


def polynomial(**keywords):
    return srx.Polynomial(2, 1, **keywords)


def library(**keywords):
    functions = [lambda y: 1.0 + 0 * y[0], lambda y: y[0], lambda y: y[1]]
    return srx.Library(functions, 2, **keywords)


both = pytest.mark.parametrize("make", [polynomial, library])


@both
def test_model_starts_at_zero_with_all_terms_active(make):
    assert not make().coefficients.any()
    assert make().active.all()
    assert make().coefficients.shape == (2, 3)


@both
def test_value_is_coefficients_times_features(make):
    y = jnp.array([-0.5, 2.0])
    expected = COEFFICIENTS @ [1.0, -0.5, 2.0]
    np.testing.assert_allclose(make(coefficients=COEFFICIENTS)(0.0, y), expected, rtol=1e-15)


@both
def test_pruned_terms_are_zero_in_coefficients_value_and_gradient(make):
    model = make(coefficients=COEFFICIENTS).with_active(MASK)
    np.testing.assert_array_equal(model.coefficients, COEFFICIENTS * MASK)
    y = jnp.array([3.0, -7.0])
    np.testing.assert_array_equal(model(0.0, y), [1.0 - 21.0, 15.0])
    gradient = eqx.filter_grad(lambda m: jnp.sum(m(0.0, y) ** 2))(model)
    assert not gradient.coefficients[~MASK].any()
    assert gradient.coefficients[MASK].all()


@both
def test_pruned_terms_stay_zero_whatever_is_written_into_the_leaf(make):
    model = make(active=MASK)
    tampered = eqx.tree_at(lambda m: m.coefficients, model, jnp.full((2, 3), 1e9))
    y = jnp.array([3.0, -7.0])
    np.testing.assert_array_equal(tampered(0.0, y), 1e9 * (MASK @ np.array([1.0, 3.0, -7.0])))


@both
def test_with_coefficients_keeps_the_mask(make):
    model = make(active=MASK).with_coefficients(COEFFICIENTS)
    np.testing.assert_array_equal(model.coefficients, COEFFICIENTS * MASK)
    np.testing.assert_array_equal(model.active, MASK)


@both
def test_term_that_is_switched_on_again_starts_at_zero(make):
    model = make(coefficients=COEFFICIENTS).with_active(MASK).with_active(np.ones((2, 3), bool))
    np.testing.assert_array_equal(model.coefficients, COEFFICIENTS * MASK)


@both
def test_another_mask_compiles_nothing_anew(make):
    traces = []

    @eqx.filter_jit
    def value(model, y):
        traces.append(1)
        return model(0.0, y)

    model = make(coefficients=COEFFICIENTS)
    value(model, jnp.ones(2))
    value(model.with_active(MASK), jnp.ones(2))
    assert len(traces) == 1


@both
def test_coefficients_may_be_set_inside_jit(make):
    jacobian = jax.jit(jax.jacfwd(lambda c: make().with_coefficients(c)(0.0, jnp.ones(2))))
    expected = np.einsum("ik,j->ikj", np.eye(2), np.ones(3))
    np.testing.assert_allclose(jacobian(COEFFICIENTS), expected)


@both
def test_only_the_coefficients_are_trained(make):
    trained = eqx.filter(make(), eqx.is_inexact_array)
    assert [leaf.shape for leaf in jax.tree.leaves(trained)] == [(2, 3)]


@both
def test_whole_numbers_become_floats(make):
    assert make(coefficients=COEFFICIENTS.astype(int).tolist()).coefficients.dtype == jnp.float64


@both
def test_outputs_may_differ_from_states(make):
    model = make(num_outputs=1, coefficients=[[0.0, 1.0, 1.0]])
    assert model(0.0, jnp.array([1.0, 2.0])).tolist() == [3.0]
    assert (model.num_outputs, model.num_features, model.num_states) == (1, 3, 2)


@both
@pytest.mark.parametrize("name", ["coefficients", "active"])
def test_wrong_shape_is_refused(make, name):
    with pytest.raises(ValueError, match=rf"`{name}` must have shape \(2, 3\), got \(3, 2\)"):
        make(**{name: np.ones((3, 2), bool)})


@both
def test_wrong_shape_is_refused_on_replacement(make):
    with pytest.raises(ValueError, match="`coefficients` must have shape"):
        make().with_coefficients(np.ones(3))
    with pytest.raises(ValueError, match="`active` must have shape"):
        make().with_active(np.ones((1, 3), bool))


@both
def test_mask_of_numbers_is_refused(make):
    with pytest.raises(ValueError, match="`active` must hold booleans, got float64"):
        make().with_active(np.ones((2, 3)))


@both
def test_complex_coefficients_are_refused(make):
    with pytest.raises(ValueError, match="`coefficients` must be real, got complex"):
        make(coefficients=COEFFICIENTS * 1j)


@both
@pytest.mark.parametrize("shape", [(), (3,), (5, 2)])
def test_state_of_another_shape_is_refused_with_a_hint_at_vmap(make, shape):
    with pytest.raises(ValueError, match=r"one state of shape \(2,\), got shape .*jax.vmap"):
        make()(0.0, jnp.ones(shape))


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
    with pytest.raises(ValueError, match="`num_states=0` was given; it needs a positive integer"):
        srx.Library(FUNCTIONS, 0)


def test_terms_that_are_off_add_nothing_where_they_overflow():
    y, active = jnp.array([1e13], jnp.float32), [[False, True, False, False]]
    coefficients = jnp.array([[0, -1, 0, 0]], jnp.float32)
    model = srx.Polynomial(1, 3, coefficients=coefficients, active=active)
    assert model.features(y)[3] == jnp.inf
    np.testing.assert_array_equal(model(0.0, y), -y)
    np.testing.assert_array_equal(jax.jacfwd(model, 1)(0.0, y), [[-1.0]])
    np.testing.assert_array_equal(jax.jacrev(model, 1)(0.0, y), [[-1.0]])
