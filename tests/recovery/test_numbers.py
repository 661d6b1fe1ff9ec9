"""Numbers keep every digit on their way to SymPy."""

import numpy as np
import pytest
import sympy
from hypothesis import given, strategies as st

from stiffrax.recovery._numbers import round_numbers, to_exponent, to_number, to_rationals

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite)
def test_float64_keeps_every_digit(value):
    assert float(to_number(value)) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_keeps_its_digits_and_gains_none(value):
    single = np.float32(value)
    number = to_number(single)
    assert np.float32(float(number)) == single
    if number.is_Float and abs(single) > 1e-37:
        assert len(f"{float(number)!r}".partition("e")[0].strip("-0.").replace(".", "")) <= 9


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_decimal_stays_the_decimal_it_was_written_as(kind):
    assert to_number(kind(0.1)) == sympy.Float(0.1)
    assert to_number(kind(3e7)) == sympy.Integer(30_000_000)


@given(finite, st.integers(1, 17))
def test_rounding_keeps_the_digits_asked_for(value, digits):
    assert float(to_number(value, digits)) == float(f"{value:.{digits - 1}e}")


def test_huge_whole_number_stays_a_float():
    assert to_number(1e300).is_Float
    assert to_number(2**60) == sympy.Integer(2**60)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_exponent_becomes_the_ratio_it_stands_for(kind):
    assert to_exponent(kind(0.5)) == sympy.Rational(1, 2)
    assert to_exponent(kind(-1 / 3)) == sympy.Rational(-1, 3)
    assert to_exponent(kind(2)) == sympy.Integer(2)
    assert to_exponent(kind(1.2345)) == sympy.Float(1.2345)


def test_rationals_are_those_of_the_decimals():
    x = sympy.Symbol("x")
    assert to_rationals(0.1 * x + x**1.5) == x / 10 + x ** sympy.Rational(3, 2)
    cancels = 0.1 * x * (x + 1) + 0.2 * x * (x + 2) - 0.3 * x**2 - 0.5 * x
    assert sympy.expand(to_rationals(cancels)) == 0


def test_rounding_reaches_every_number_of_an_expression():
    x = sympy.Symbol("x")
    expression = sympy.Float(1.23456) * x / (x + sympy.Float(0.98765))
    assert round_numbers(expression, 3) == sympy.Float(1.23) * x / (x + sympy.Float(0.988))
    assert round_numbers(expression, None) is expression
    whole = 12345 * x + sympy.Piecewise((x, x > -98765), (10**300 + 7, True))
    expected = 12300 * x + sympy.Piecewise((x, x > -98800), (10**300, True))
    assert round_numbers(whole, 3) == expected


def test_rounding_leaves_whole_exponents_and_fractions():
    x = sympy.Symbol("x")
    expression = x**1234 + sympy.Rational(1234, 567) * x
    assert round_numbers(expression, 1) == expression
