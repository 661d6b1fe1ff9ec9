"""Formulas of SBML as SymPy expressions."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from ..recovery._numbers import exponential


def load_package(name: str) -> Any:
    """A module of the package `petab`, or of one that comes with it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "`srx.petab` needs the package petab: run `pip install 'stiffrax[petab]'`."
        ) from error


@functools.cache
def time_symbol() -> Any:
    """The time. No identifier of SBML is written like it."""
    import sympy

    return sympy.Symbol("(time)")


def symbol(name: str) -> Any:
    """The symbol of an identifier."""
    import sympy

    return sympy.Symbol(name)


def read_formula(node: Any) -> Any:
    """The expression of a syntax tree of libsbml."""
    import sympy

    libsbml = load_package("libsbml")
    if node is None:
        raise ValueError("The model has a rule, reaction or event without a formula.")
    kind = node.getType()
    if kind == libsbml.AST_INTEGER:
        return sympy.Integer(node.getInteger())
    if kind == libsbml.AST_RATIONAL:
        return sympy.Rational(node.getNumerator(), node.getDenominator())
    if kind in (libsbml.AST_REAL, libsbml.AST_REAL_E):
        return sympy.Float(node.getReal())
    if kind == libsbml.AST_NAME:
        return symbol(node.getName())
    if kind in _constants():
        return _constants()[kind]
    if kind not in _functions():
        name = node.getName() or libsbml.formulaToL3String(node)
        raise ValueError(
            f"The model uses `{name}`, which is not read: delays, `rateOf`, random numbers and "
            "functions without a formula are refused. Write the model without it."
        )
    children = [read_formula(node.getChild(k)) for k in range(node.getNumChildren())]
    return _functions()[kind](*children)


def read_number(node: Any) -> Any:
    """The expression as a number: a truth value counts as one or zero."""
    return _number(read_formula(node))


@functools.cache
def _constants() -> dict[int, Any]:
    import sympy

    libsbml = load_package("libsbml")
    return {
        libsbml.AST_CONSTANT_E: sympy.E,
        libsbml.AST_CONSTANT_FALSE: sympy.false,
        libsbml.AST_CONSTANT_PI: sympy.pi,
        libsbml.AST_CONSTANT_TRUE: sympy.true,
        libsbml.AST_NAME_AVOGADRO: sympy.Float(6.02214179e23),
        libsbml.AST_NAME_TIME: time_symbol(),
    }


@functools.cache
def _functions() -> dict[int, Callable[..., Any]]:
    import sympy as sp

    libsbml = load_package("libsbml")

    def quotient(a: Any, b: Any) -> Any:
        return sp.sign(a / b) * sp.floor(sp.Abs(a / b))

    found: dict[int, Callable[..., Any]] = {
        libsbml.AST_DIVIDE: _on_numbers(lambda a, b: a / b),
        libsbml.AST_FUNCTION_LN: _on_numbers(sp.log),
        libsbml.AST_FUNCTION_LOG: _on_numbers(_log),
        libsbml.AST_FUNCTION_MAX: _on_numbers(sp.Max),
        libsbml.AST_FUNCTION_MIN: _on_numbers(sp.Min),
        libsbml.AST_FUNCTION_PIECEWISE: piecewise,
        libsbml.AST_FUNCTION_POWER: _on_numbers(lambda a, b: a**b),
        libsbml.AST_FUNCTION_QUOTIENT: _on_numbers(quotient),
        libsbml.AST_FUNCTION_REM: _on_numbers(lambda a, b: a - b * quotient(a, b)),
        libsbml.AST_FUNCTION_ROOT: _on_numbers(_root),
        libsbml.AST_LOGICAL_AND: sp.And,
        libsbml.AST_LOGICAL_IMPLIES: sp.Implies,
        libsbml.AST_LOGICAL_NOT: sp.Not,
        libsbml.AST_LOGICAL_OR: sp.Or,
        libsbml.AST_LOGICAL_XOR: sp.Xor,
        libsbml.AST_MINUS: _on_numbers(_minus),
        libsbml.AST_PLUS: _on_numbers(lambda *x: sp.Add(*x)),
        libsbml.AST_POWER: _on_numbers(lambda a, b: a**b),
        libsbml.AST_RELATIONAL_EQ: _chain(sp.Eq),
        libsbml.AST_RELATIONAL_GEQ: _chain(sp.Ge),
        libsbml.AST_RELATIONAL_GT: _chain(sp.Gt),
        libsbml.AST_RELATIONAL_LEQ: _chain(sp.Le),
        libsbml.AST_RELATIONAL_LT: _chain(sp.Lt),
        libsbml.AST_RELATIONAL_NEQ: _chain(sp.Ne),
        libsbml.AST_TIMES: _on_numbers(lambda *x: sp.Mul(*x)),
    }
    plain = {"ABS": sp.Abs, "CEILING": sp.ceiling, "EXP": exponential, "FLOOR": sp.floor}
    for name in ("sin", "cos", "tan", "sec", "csc", "cot"):
        for end in ("", "h"):
            plain[(name + end).upper()] = getattr(sp, name + end)
            plain[f"ARC{name}{end}".upper()] = getattr(sp, f"a{name}{end}")
    for name, function in plain.items():
        found[getattr(libsbml, f"AST_FUNCTION_{name}")] = _on_numbers(function)
    return found


def _number(x: Any) -> Any:
    """A truth value in place of a number counts as one or zero."""
    import sympy
    from sympy.logic.boolalg import Boolean

    is_truth = isinstance(x, Boolean) and not isinstance(x, sympy.Symbol)
    return sympy.Piecewise((1, x), (0, True)) if is_truth else x


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *children: function(*map(_number, children))


def _chain(relation: Callable[..., Any]) -> Callable[..., Any]:
    import sympy

    def chained(*children: Any) -> Any:
        children = tuple(map(_number, children))
        pairs = zip(children, children[1:], strict=False)
        return sympy.And(*(relation(a, b) for a, b in pairs))

    return chained


def piecewise(*children: Any) -> Any:
    """Values and conditions in turn, and the value otherwise."""
    import sympy

    pairs = zip(children[0::2], children[1::2], strict=False)
    cases = [(_number(value), _truth(condition)) for value, condition in pairs]
    if len(children) % 2:
        cases.append((_number(children[-1]), sympy.true))
    return sympy.Piecewise(*cases)


def _truth(x: Any) -> Any:
    import sympy
    from sympy.logic.boolalg import Boolean

    return x if isinstance(x, Boolean) and not isinstance(x, sympy.Symbol) else sympy.Ne(x, 0)


def _minus(*children: Any) -> Any:
    return -children[0] if len(children) == 1 else children[0] - children[1]


def _log(*children: Any) -> Any:
    import sympy

    base = children[0] if len(children) == 2 else sympy.Integer(10)
    return sympy.log(children[-1]) / sympy.log(base)


def _root(*children: Any) -> Any:
    import sympy

    degree = children[0] if len(children) == 2 else sympy.Integer(2)
    return children[-1] ** (1 / degree)
