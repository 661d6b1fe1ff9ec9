"""Formulas evaluated together, at points where some of them have no value."""

import jax
import jax.numpy as jnp
import sympy

from stiffrax.petab._grouped import grouped_function

x, y, r, g = sympy.symbols("x y r g")


def test_what_a_formula_does_not_use_may_be_infinite_or_not_differentiable():
    definitions = {r: y / x, g: sympy.Piecewise((r, x > 0), (0, True))}
    function = grouped_function([x, y], definitions, [g + 2 * y, -y + x])
    at = jnp.array([0.0, 1.0])
    assert function(at).tolist() == [2, -1]
    assert jax.jacrev(function)(at).tolist() == [[0, 2], [1, -1]]
    also = grouped_function([x, y], {r: y / x}, [r + y, y - x])
    assert also(at).tolist() == [jnp.inf, 1]
