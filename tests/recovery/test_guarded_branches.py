"""Gradients through piecewise formulas at points where a branch that is not taken has no value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from stiffrax.recovery import guard_branches, jax_function

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


def links(number):
    """Definitions that each take one of two formulas of the one before, by a condition on it."""
    formulas, p = [], B
    for j in range(number):
        d = sympy.Symbol(f"d{j}")
        formulas.append((d, sympy.Piecewise((1 / (p - 1) + 1, p > 1), (sympy.log(p) + 2, True))))
        p = d
    return formulas, p


def test_a_chain_of_branches_grows_by_as_much_with_each_link():
    sizes = [len(guard_branches([last], chain)[1]) for chain, last in map(links, (10, 20, 40))]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    assert sizes[2] < 300


def test_values_and_derivatives_of_a_chain_are_those_of_what_is_taken():
    chain, last = links(12)
    function = jax_function([B], [last], chain)

    @jax.jit
    def derivatives(x):
        value, pull = jax.vjp(lambda x: function(x)[0], x)
        ones = jnp.ones(x.shape)
        return value, pull(ones)[0], jax.jvp(lambda x: function(x)[0], (x,), (ones,))[1]

    at = np.array([0.5, 1.0, 3.0])
    value, slope = at, np.ones(3)
    with np.errstate(divide="ignore"):
        for _ in chain:
            high = value > 1
            slope = slope * np.where(high, -1 / (value - 1) ** 2, 1 / value)
            value = np.where(high, 1 / (value - 1) + 1, np.log(value) + 2)
    found, reverse, forward = derivatives(jnp.asarray(at))
    np.testing.assert_allclose(found, value, rtol=1e-12)
    np.testing.assert_allclose(reverse, slope, rtol=1e-10)
    np.testing.assert_allclose(forward, slope, rtol=1e-10)


def test_the_largest_of_many_is_of_few_definitions():
    many = [sympy.Symbol(f"x{j}") for j in range(8)]
    formula = sympy.Max(*(r / x for x in many))
    assert len(guard_branches([formula], [])[1]) < 60
    function = jax_function([r, many], [formula])
    gradient = jax.jit(jax.grad(lambda x: function(1.0, x)[0]))
    assert gradient(jnp.arange(1.0, 9.0)).tolist() == [-1, *[0] * 7]
