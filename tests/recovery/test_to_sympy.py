"""Every model gives its equations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from hypothesis import given, settings, strategies as st

import stiffrax as srx

y1, y2 = sympy.symbols("y1 y2")
coefficient = st.floats(allow_nan=False, allow_infinity=False)


def random_pi_net(num_states, degree):
    rng = np.random.default_rng(0)
    net = srx.PiNet(num_states, 3, degree, key=jax.random.key(0))
    return jax.tree.map(lambda x: jnp.array(rng.normal(size=x.shape)), net)


@given(st.lists(coefficient, min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_coefficients_of_a_polynomial_come_through_with_every_digit(values):
    model = srx.Polynomial(2, 2, coefficients=[values], outputs=1)
    (expression,) = srx.to_sympy(model)
    terms = expression.as_coefficients_dict()
    monomials = [1, y1, y2, y1**2, y1 * y2, y2**2]
    assert [float(terms[sympy.sympify(m)]) for m in monomials] == values


def test_rates_from_hundredths_to_tens_of_millions_stay_exact():
    problem = srx.problems.robertson()
    expressions = srx.to_sympy(problem.vector_field, problem.names)
    comparison = srx.compare(expressions, problem.true_equations())
    assert comparison.largest_relative_error == 0.0
    assert (comparison.num_found, comparison.num_extra) == (6, 0)


@pytest.mark.parametrize(("num_states", "degree"), [(1, 3), (2, 2), (3, 1)])
def test_pi_net_is_multiplied_out(num_states, degree):
    net = random_pi_net(num_states, degree)
    y = np.linspace(-1.0, 2.0, num_states)
    expressions = srx.to_sympy(net)
    numbers: dict[Any, Any] = {f"y{i + 1}": y[i] for i in range(num_states)}
    values = [float(e.subs(numbers)) for e in expressions]
    np.testing.assert_allclose(values, net(0.0, jnp.array(y)), rtol=1e-12)
    assert [e.expand() for e in expressions] == list(expressions)


def test_pruned_terms_do_not_appear():
    model = srx.Polynomial(1, 1, coefficients=[[1.0, 2.0]], active=[[False, True]])
    assert srx.to_sympy(model) == (2 * y1,)


def test_model_of_zeros_gives_zero():
    assert srx.to_sympy(srx.Polynomial(2, 2)) == (0, 0)


def test_library_gives_its_formulas():
    functions = [lambda y: y[0] / (1 + y[0]), lambda y: jnp.exp(-5.0 / y[0])]
    model = srx.Library(functions, 1, coefficients=[[-1.5, 0.25]])
    x = sympy.Symbol("x")
    expected = -sympy.Float(1.5) * x / (1 + x) + sympy.Float(0.25) * sympy.exp(-5 / x)
    assert srx.to_sympy(model, ["x"]) == (expected,)


def test_partially_known_adds_the_learned_terms_to_the_known_ones():
    learned = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 7.0]])
    model = srx.PartiallyKnown(
        lambda t, y, args: jnp.stack([jnp.sin(t) * y[1], -args * y[0]]),
        learned,
        inputs=(1,),
        outputs=(0,),
        num_states=2,
    )
    expected = (sympy.sin(sympy.Symbol("t")) * y2 + 7 * y2**2, -3 * y1)
    assert srx.to_sympy(model, args=3.0) == expected


def test_known_part_may_be_a_model_itself():
    known = srx.from_sympy((y2, -y1))
    net = random_pi_net(2, 2)
    total = srx.to_sympy(srx.PartiallyKnown(known, net), ["a", "b"])
    learned = srx.to_sympy(net, ["a", "b"])
    a, b = sympy.symbols("a b")
    difference = [sympy.expand(t - e) for t, e in zip(total, learned, strict=True)]
    point = {a: 0.3, b: 0.7}
    np.testing.assert_allclose([float(d.subs(point)) for d in difference], [0.7, -0.3])


def test_symbolic_model_gives_back_its_expressions_under_any_names():
    model = srx.from_sympy((y2, -y1))
    assert srx.to_sympy(model) == (y2, -y1)
    # The names are exchanged at once, not one after the other.
    assert srx.to_sympy(model, ["y2", "y1"]) == (y1, -y2)


def test_any_vector_field_is_traced():
    expressions = srx.to_sympy(lambda t, y, args: jnp.stack([t * y[1], -y[0]]), ["p", "q"])
    p, q, t = sympy.symbols("p q t")
    assert expressions == (t * q, -p)


def test_float32_model_gives_the_decimals_it_was_set_to():
    model = srx.Polynomial(1, 1, coefficients=np.array([[0.43, -1.71]], np.float32))
    assert srx.to_sympy(model) == (sympy.Float(0.43) - sympy.Float(1.71) * y1,)


def test_digits_round_the_coefficients():
    model = srx.Polynomial(1, 1, coefficients=[[123456.0, -1.7100004]])
    assert srx.to_sympy(model, digits=4) == (123500 - sympy.Float(1.71) * y1,)


def test_threshold_leaves_out_coefficients_up_to_it():
    model = srx.Polynomial(1, 2, coefficients=[[1e-9, -1e-8, 2e-8]])
    assert srx.to_sympy(model, threshold=1e-8) == (sympy.Float(2e-8) * y1**2,)


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_digits_below_one_are_refused(bad):
    with pytest.raises((ValueError, TypeError), match="digits"):
        srx.to_sympy(srx.Polynomial(1, 1), digits=bad)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_threshold_that_is_no_size_is_refused(bad):
    with pytest.raises(ValueError, match="`threshold` must be a number of at least 0"):
        srx.to_sympy(srx.Polynomial(1, 1), threshold=bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_coefficient_that_is_not_finite_is_refused_with_its_place(bad):
    model = srx.Polynomial(2, 1, coefficients=[[0, 1, 2], [0, 1, bad]])
    with pytest.raises(ValueError, match="for the term `y2` in output 2: the fit has failed"):
        srx.to_sympy(model)


def test_pruned_coefficient_may_be_anything():
    model = srx.Polynomial(1, 1, coefficients=[[float("nan"), 2.0]], active=[[False, True]])
    assert srx.to_sympy(model) == (2 * y1,)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`names` has 1 names, but there are 2 states"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a"])
    with pytest.raises(ValueError, match="`names` holds 'a' twice"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "a"])
    with pytest.raises(ValueError, match="`names` holds 't', which is the time"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "t"])
    with pytest.raises(ValueError, match="`names` holds 'pi', which is the number pi"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "pi"])


def test_names_are_asked_for_where_the_number_of_states_is_unknown():
    with pytest.raises(ValueError, match="`names` must be given for a function"):
        srx.to_sympy(lambda t, y, args: -y)


@pytest.mark.parametrize("kind", ["Polynomial", "PiNet"])
def test_a_scaled_model_gives_equations_in_the_units_of_the_data(kind):
    net = srx.PiNet(2, 3, 2, key=jax.random.key(0))
    net = net if kind == "PiNet" else net.to_polynomial()
    model = srx.ScaledField(net, y_scale=[1.0, 1e-3], t_scale=10.0, states="scaled")
    equations = srx.to_sympy(model)
    y = np.array([0.7, 2e-3])
    values = [float(e.subs({y1: y[0], y2: y[1]})) for e in equations]
    np.testing.assert_allclose(values, model(0.0, jnp.asarray(y)), rtol=1e-6)
