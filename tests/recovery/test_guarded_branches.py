"""Gradients through piecewise formulas at points where a branch that is not taken has no value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from stiffrax.recovery import jax_function

k, B, r, s = sympy.symbols("k B r s")


@pytest.mark.parametrize(
    ("branch", "slope"),
    [
        (k / B, -3.0),
        (sympy.log(k / B) ** 2, -2 * np.log(3.0)),
        (sympy.sqrt(B - sympy.Rational(1, 2)), 0.5**0.5),
        (sympy.acosh(B + 1), 3**-0.5),
        (r * sympy.Piecewise((s, k > 0), (1 / B, True)), -3.0),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_gradient_is_that_of_the_branch_that_is_taken(branch, slope, first):
    other = 2 * k
    above = B > sympy.Rational(1, 2)
    cases = (
        [(branch, above), (other, True)] if first else [(other, sympy.Not(above)), (branch, True)]
    )
    definitions = [(r, k / B), (s, r**2 * B * B / 9)]
    function = jax_function([k, B], [sympy.Piecewise(*cases)], definitions)
    gradient = jax.grad(lambda k, B: function(k, B)[0], (0, 1))
    assert gradient(3.0, 0.0) == (2, 0)
    np.testing.assert_allclose(gradient(3.0, 1.0)[1], slope)


@pytest.mark.parametrize("larger", [True, False])
def test_the_gradient_of_a_limit_is_that_of_the_argument_that_is_reached(larger):
    sign, limit = (-1, sympy.Max) if larger else (1, sympy.Min)
    function = jax_function([k, B], [limit(2 * k * sign, r)], [(r, sign * k / B)])
    gradient = jax.grad(lambda k, B: function(k, B)[0], (0, 1))
    assert gradient(3.0, 0.0) == (2 * sign, 0)
    np.testing.assert_allclose(gradient(3.0, 1.0), (sign, -3 * sign))
    assert jnp.isnan(function(jnp.nan, 1.0)[0])
    assert jnp.isnan(function(1.0, jnp.nan)[0])


def test_a_state_that_is_no_number_stays_none():
    function = jax_function([k, B], [sympy.Piecewise((0, B <= 1), (k / B, True))])
    assert jnp.isnan(function(1.0, jnp.nan)[0])
