"""A formula as text, read into SymPy without being run."""

import ast
import itertools
import math
import operator
from typing import Any

from ._numbers import exponential, is_real, of_reals

# SymPy works out whole numbers at once, also those of a billion digits.
_MOST_BITS = 4_000
_WORKED_OUT = "digamma gamma loggamma polygamma".split()


def _power(base: Any, exponent: Any) -> Any:
    import sympy

    numbers = base.as_independent(*base.free_symbols, as_Add=False)[0].atoms(sympy.Rational)
    bits = max((math.log2(max(abs(x.p), x.q)) for x in numbers), default=0)
    _check_bits(bits * abs(exponent) if exponent.is_Rational else 0)
    return base**exponent


def _check_bits(bits: Any) -> None:
    if bits > _MOST_BITS:
        raise ArithmeticError("it has a whole number of more than a thousand digits")


_OPERATIONS = {
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}
_RELATIONS = {
    ast.Lt: "Lt",
    ast.LtE: "Le",
    ast.Gt: "Gt",
    ast.GtE: "Ge",
    ast.Eq: "Eq",
    ast.NotEq: "Ne",
}
_CONNECTIVES = {
    ast.And: "And",
    ast.BitAnd: "And",
    ast.Or: "Or",
    ast.BitOr: "Or",
    ast.BitXor: "Xor",
}
_FUNCTIONS = (
    "Abs Heaviside Max Min Mod acos acosh asin asinh atan atan2 atanh besseli ceiling cos cosh "
    "cot coth "
    "csc csch digamma erf erfc erfinv exp floor frac gamma log loggamma polygamma sec sech sign sin "
    "sinc sinh sqrt tan tanh"
).split()


def parse(formula: str, known: dict[str, Any], line: int) -> Any:
    """The formula in the symbols of `known`.

    **Raises:** `ValueError` with the number of the line.
    """
    import sympy

    try:
        expression = of_reals(_build(ast.parse(formula, mode="eval").body, known))
    except (SyntaxError, RecursionError, TypeError, ArithmeticError) as error:
        raise ValueError(f"Line {line}: {formula!r} cannot be read: {error}.") from error
    except _UnknownError as error:
        raise ValueError(
            f"Line {line} holds {str(error)!r}, which is not known: a formula is made of numbers, "
            f"{', '.join(known)}, + - * / ** and {', '.join(_FUNCTIONS)}."
        ) from error
    if expression.has(sympy.nan, sympy.oo, sympy.zoo):
        raise ValueError(f"Line {line}: {formula!r} is not finite.")
    if not is_real(expression):
        raise ValueError(
            f"Line {line}: {formula!r} is not real, for it is {expression}. Write for example `-2` for "
            "the cube root of -8."
        )
    return expression


class _UnknownError(Exception):
    pass


def _build(node: ast.expr, known: dict[str, Any]) -> Any:
    """The formula of a syntax tree; what may stand in a condition alone is refused."""
    import sympy

    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() as value):
            return sympy.Integer(value)
        case ast.Constant(value=float() as value):
            return sympy.Float(value)
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_build(operand, known)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _build(operand, known)
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return _sum(node, known)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_build(left, known), _build(right, known))
        case ast.Call(func=ast.Name(id="Piecewise"), args=[_, *_] as cases, keywords=[]):
            return sympy.Piecewise(*(_case(x, known) for x in cases))
        case ast.Call(func=ast.Name(id=name), args=[*arguments], keywords=[]) if name in _FUNCTIONS:
            function = exponential if name == "exp" else getattr(sympy, name)
            values = [_build(x, known) for x in arguments]
            if name in _WORKED_OUT:
                sizes = [float(abs(x)) for x in values if x.is_Rational]
                _check_bits(max((math.lgamma(x + 1) / math.log(2) for x in sizes), default=0))
            return function(*values)
    raise _UnknownError(ast.unparse(node))


def _sum(node: ast.expr, known: dict[str, Any]) -> Any:
    """All terms at once: a sum of a thousand is a tree as deep, and costs its square term by term."""
    import sympy

    terms = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        term = _build(node.right, known)
        terms.append(term if isinstance(node.op, ast.Add) else -term)
        node = node.left
    return sympy.Add(_build(node, known), *reversed(terms))


def _case(node: ast.expr, known: dict[str, Any]) -> Any:
    match node:
        case ast.Tuple(elts=[value, condition]):
            return _build(value, known), _condition(condition, known)
    raise _UnknownError(ast.unparse(node))


def _condition(node: ast.expr, known: dict[str, Any]) -> Any:
    import sympy

    match node:
        case ast.Constant(value=bool() as value):
            return sympy.true if value else sympy.false
        case ast.Compare(left=left, ops=ops, comparators=rights) if all(
            type(op) in _RELATIONS for op in ops
        ):
            sides = [_build(x, known) for x in (left, *rights)]
            pairs = zip(ops, itertools.pairwise(sides), strict=True)
            return sympy.And(*(getattr(sympy, _RELATIONS[type(op)])(*pair) for op, pair in pairs))
        case ast.Call(func=ast.Name(id=name), args=[left, right], keywords=[]) if (
            name in _RELATIONS.values()
        ):
            return getattr(sympy, name)(_build(left, known), _build(right, known))
        case ast.Call(func=ast.Name(id=name), args=[*parts], keywords=[]) if name in (
            "And",
            "ITE",
            "Not",
            "Or",
            "Xor",
        ):
            return getattr(sympy, name)(*(_condition(x, known) for x in parts))
        case ast.UnaryOp(op=ast.Invert() | ast.Not(), operand=operand):
            return sympy.Not(_condition(operand, known))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _CONNECTIVES:
            name, parts = _CONNECTIVES[type(op)], (left, right)
            return getattr(sympy, name)(*(_condition(x, known) for x in parts))
        case ast.BoolOp(op=op, values=parts):
            return getattr(sympy, _CONNECTIVES[type(op)])(*(_condition(x, known) for x in parts))
    raise _UnknownError(ast.unparse(node))
