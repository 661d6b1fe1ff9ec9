"""Formulas evaluated together, at points where some of them have no value."""

import jax
import jax.numpy as jnp
import sympy

from stiffrax.petab._grouped import grouped_function

x, y, r, g, k = sympy.symbols("x y r g k")


def test_what_a_formula_does_not_use_may_be_infinite_or_not_differentiable():
    definitions = {r: y / x, g: sympy.Piecewise((r, x > 0), (0, True))}
    function = grouped_function([x, y], definitions, [g + 2 * y, -y + x])
    at = jnp.array([0.0, 1.0])
    assert function(at).tolist() == [2, -1]
    assert jax.jit(jax.jacrev(function))(at).tolist() == [[0, 2], [1, -1]]
    also = grouped_function([x, y], {r: y / x}, [r + y, y - x])
    assert also(at).tolist() == [jnp.inf, 1]


def test_a_condition_may_see_what_is_infinite():
    limited = [sympy.Piecewise((2 * y, r > 100), (r, True)), sympy.Max(-y, -r)]
    function = grouped_function([x, y], {r: y / x}, limited)
    at = jnp.array([0.0, 1.0])
    assert jax.jit(function)(at).tolist() == [2, -1]
    both = jax.jit(lambda x: (jax.jacrev(function)(x), jax.jacfwd(function)(x)))(at)
    assert jnp.stack(both).tolist() == 2 * [[[0, 2], [0, -1]]]


def test_a_number_has_not_the_form_of_a_sum_of_as_many_terms():
    function = grouped_function([x, y, g], {r: sympy.Integer(3), k: x + y + g}, [r * k])
    assert function(jnp.array([1.0, 2.0, 4.0])).tolist() == [21]
