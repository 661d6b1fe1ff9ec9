"""Numbers between JAX and SymPy without losing a digit, alone and in arrays."""

import fractions
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._arguments import check_count


def shortest(value: Any) -> float:
    """The shortest decimal that rounds to `value` in its precision."""
    return float(np.format_float_scientific(value))


def to_number(value: Any, digits: int | None = None) -> Any:
    """A SymPy number for a real scalar: `Integer` if it is whole, else the `shortest` as `Float`.

    **Arguments:**

    - `value`: a finite real scalar.
    - `digits`: significant digits to round to; default all.
    """
    import sympy

    value = np.asarray(value)[()]
    if value.dtype.kind in "iu":
        return sympy.Integer(int(value))
    number = shortest(value)
    if digits is not None:
        number = float(f"{number:.{digits - 1}e}")
    # From 2^53 on every double is whole, which then says nothing.
    if number.is_integer() and abs(number) < 2**53:
        return sympy.Integer(int(number))
    return sympy.Float(number)


def to_exponent(value: Any) -> Any:
    """A SymPy number for an exponent: 1/2 and 1/3, as rationals, for 0.5 and 0.333..."""
    import sympy

    value = np.asarray(value)[()]
    ratio = fractions.Fraction(float(value)).limit_denominator(12)
    if value.dtype.type(float(ratio)) == value:
        return sympy.Rational(ratio.numerator, ratio.denominator)
    return to_number(value)


def to_rationals(expression: Any) -> Any:
    """The expression with every float replaced by the fraction that its shortest decimal says."""
    import sympy

    floats = expression.atoms(sympy.Float)
    return expression.xreplace({x: sympy.Rational(repr(float(x))) for x in floats})


def exponential(argument: Any) -> Any:
    """`exp` of it. Of a sum SymPy makes a float a factor, which may be no double: not a fraction."""
    import sympy

    constant, rest = argument.as_coeff_Add()
    return sympy.exp(to_rationals(constant) + rest if rest else constant)


def of_reals(expression: Any) -> Any:
    """The expression of real states. To SymPy they are complex: `exp(re(x))`."""
    import sympy

    if not expression.has(sympy.re, sympy.im):
        return expression
    return expression.replace(sympy.re, lambda z: z).replace(sympy.im, lambda _: sympy.S.Zero)


def with_decimal(argument: Any) -> Any:
    """An argument as `exponential` took it, to be printed or rounded."""
    constant, rest = argument.as_coeff_Add()
    decimal = to_number(float(constant))
    return rest + decimal if to_rationals(decimal) == constant else argument


def round_numbers(expression: Any, digits: int | None) -> Any:
    """The expression with its numbers rounded, but not whole exponents and fractions.

    **Raises:** `ValueError` for numbers that no double is.
    """
    import sympy

    for number in expression.atoms(sympy.Number):
        if number and number.is_finite and float(number) in (0, math.inf, -math.inf):
            raise ValueError(
                f"The equations hold {sympy.Float(number):.3}, which is outside double precision: "
                "write states in other units, and what is added in an exponent as a fraction, "
                '`sympy.exp(sympy.Rational("1000.5") - x)`.'
            )
    return expression if digits is None else _rounded(expression, digits)


def _rounded(expression: Any, digits: int) -> Any:
    import sympy

    if expression.is_Float:
        return to_number(float(expression), digits)
    if expression.is_Integer:
        number = int(expression)
        return sympy.Integer(round(number, digits - len(str(abs(number)))))
    if expression.is_Pow and expression.exp.is_Integer:
        return _rounded(expression.base, digits) ** expression.exp
    if not expression.args:
        return expression
    if isinstance(expression, sympy.exp):
        return exponential(_rounded(with_decimal(expression.args[0]), digits))
    return expression.func(*(_rounded(x, digits) for x in expression.args))


def drop_small_terms(expression: Any, threshold: float) -> Any:
    """The sum without terms whose numeric factor is at most the threshold in size."""
    import sympy

    if not threshold or not is_finite(expression):
        return expression
    symbols = expression.free_symbols
    return sympy.Add(
        *(
            term
            for term in sympy.Add.make_args(expression)
            if abs(complex(term.as_independent(*symbols, as_Add=False)[0])) > threshold
        )
    )


def is_finite(expression: Any) -> bool:
    """Whether no infinity and no NaN is a part of it, but in branches of a `Piecewise`."""
    import sympy

    parts = sympy.preorder_traversal(expression)
    for part in parts:
        if part in (sympy.nan, sympy.oo, -sympy.oo, sympy.zoo):
            return False
        if isinstance(part, sympy.Piecewise):
            parts.skip()
    return True


def is_real(expression: Any) -> bool:
    """Whether no imaginary unit and no root of a negative number is a part of it."""
    import sympy

    roots = (p for p in expression.atoms(sympy.Pow) if p.base.is_negative)
    return not expression.has(sympy.I) and not any(p.exp.is_integer is False for p in roots)


def check_digits(digits: int | None) -> None:
    """Raises `ValueError` unless `digits` is `None` or at least 1."""
    if digits is not None:
        check_count("digits", digits, write="digits=4")


def is_symbolic(value: Any) -> bool:
    """Whether `value` is an array of expressions and not one of numbers."""
    return isinstance(value, np.ndarray) and value.dtype == object


def to_symbolic(value: Any) -> np.ndarray:
    """`value` as an array of expressions; numbers and truth values become those of SymPy."""
    import sympy

    if is_symbolic(value):
        return value
    value = np.asarray(value)
    if value.dtype == bool:
        return map_elements(lambda x: sympy.true if x else sympy.false, value)
    return map_elements(to_number, value)


def map_elements(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """The results of `function` on the elements of the arrays, which are broadcast."""
    # Not `np.frompyfunc`: it hands out the elements as Python numbers, which no longer tell that a
    # float32 has fewer digits.
    broadcast = np.broadcast_arrays(*arrays)
    result = np.empty(broadcast[0].shape, dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = function(*(array[place] for array in broadcast))
    return result
