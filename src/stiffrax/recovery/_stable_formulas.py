"""Formulas by functions that do not overflow or cancel where what they stand for does not."""

import functools
from typing import Any


@functools.cache
def _functions() -> dict[str, Any]:
    import sympy

    return {name: type(name, (sympy.Function,), {}) for name in ("expm1", "log1p", "sigmoid")}


def stable(expression: Any) -> Any:
    """The expression with `sigmoid(x)` for `1/(1 + exp(-x))`, and the like."""
    import sympy as sp

    exp: Any = sp.exp
    functions = _functions()

    def written(part: Any) -> Any:
        if isinstance(part, sp.log):
            one, rest = part.args[0].as_coeff_Add()
            gamma = part.args[0].args[0] if isinstance(part.args[0], sp.Abs) else None
            if isinstance(gamma, sp.gamma):
                return sp.loggamma(*gamma.args)
            return functions["log1p"](rest) if float(one) == 1 else part
        if part.is_Pow:
            one, rest = part.base.as_coeff_Add()
            if float(one) == 1 and isinstance(rest, exp) and part.exp.is_negative:
                return functions["sigmoid"](-rest.args[0]) ** -part.exp
            return part
        constant, _ = part.as_coeff_Add()
        for term in part.args if constant else ():
            factor, power = term.as_coeff_Mul()
            if factor == -constant and isinstance(power, exp):
                return part - term - constant + factor * functions["expm1"](*power.args)
        return part

    if not expression.has(sp.exp, sp.log):
        return expression
    return expression.replace(lambda e: e.is_Add or e.is_Pow or isinstance(e, sp.log), written)
