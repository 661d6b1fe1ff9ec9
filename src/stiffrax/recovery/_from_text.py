"""Equations from plain text."""

import ast
import operator
import re
from typing import TYPE_CHECKING, Any

from ._names import TIME, state_names

if TYPE_CHECKING:
    import sympy

_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS = (
    "Abs Max Min acos acosh asin asinh atan atan2 atanh ceiling cos cosh erf exp floor log sign "
    "sin sinh sqrt tan tanh"
).split()


def from_text(text: str) -> "dict[str, sympy.Expr]":
    r"""Equations written by `to_text` or by hand.

    The text is parsed and never run as code.

    **Arguments:**

    - `text`: a line `dNAME/dt = formula` for each state; empty lines and what follows a `#` are
        skipped. A formula is made of numbers, states, `t`, `pi`, `+ - * / **`, parentheses and
        functions under their SymPy names.

    **Returns:** the SymPy expressions by the name of the state, as `from_sympy` and `compare` take
    them.

    **Raises:** `ValueError` with the number of the line that cannot be read.

    ```python
    >>> import stiffrax as srx
    >>> srx.from_text("dx/dt = 1e4*y - 0.04*x  # reversible\ndy/dt = 0.04*x - 1e4*y")
    {'x': -0.04*x + 10000.0*y, 'y': 0.04*x - 10000.0*y}

    ```
    """
    import sympy

    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = re.fullmatch(rf"d(\w+)\s*/\s*d{TIME}\s*=\s*(.+)", content)
        if match is None:
            raise ValueError(f"Line {number} must read `dNAME/dt = formula`, got {line!r}.")
        lines.append((number, *match.groups()))
    if not lines:
        raise ValueError("The text holds no equation: write lines such as `dx/dt = -2*x`.")
    states = state_names([state for _, state, _ in lines], len(lines))
    known = {name: sympy.Symbol(name) for name in (*states, TIME)} | {"pi": sympy.pi}
    return {state: _parse(formula, known, number) for number, state, formula in lines}


def _parse(formula: str, known: dict[str, Any], line: int) -> Any:
    import sympy

    try:
        expression = _build(ast.parse(formula, mode="eval").body, known)
    except (SyntaxError, RecursionError, TypeError) as error:
        raise ValueError(f"Line {line}: {formula!r} cannot be read: {error}.") from error
    except _UnknownError as error:
        raise ValueError(
            f"Line {line} holds {str(error)!r}, which is not known: a formula is made of numbers, "
            f"{', '.join(known)}, + - * / ** and {', '.join(_FUNCTIONS)}."
        ) from error
    if expression.has(sympy.nan, sympy.oo, sympy.zoo):
        raise ValueError(f"Line {line}: {formula!r} is not finite.")
    return expression


class _UnknownError(Exception):
    pass


def _build(node: ast.expr, known: dict[str, Any]) -> Any:
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
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_build(left, known), _build(right, known))
        case ast.Call(func=ast.Name(id=name), args=[*arguments], keywords=[]) if name in _FUNCTIONS:
            return getattr(sympy, name)(*(_build(x, known) for x in arguments))
    raise _UnknownError(ast.unparse(node))
