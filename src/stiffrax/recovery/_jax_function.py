"""From SymPy expressions to functions of JAX."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._guarded_branches import guard_branches
from ._numbers import of_reals

if TYPE_CHECKING:
    import sympy


def jax_function(
    arguments: Sequence[Any],
    expressions: "Sequence[sympy.Expr]",
    definitions: "Sequence[tuple[sympy.Symbol, sympy.Expr]]" = (),
) -> Callable[..., Any]:
    """The expressions as a function of the arguments that returns a list of JAX arrays.

    **Arguments:**

    - `arguments`: symbols, and lists of symbols for arrays.
    - `expressions`: what is returned.
    - `definitions`: symbols that stand for expressions, each of symbols that are defined before it.

    **Raises:** `ValueError` for functions that JAX has not.
    """
    import sympy
    from sympy.printing.codeprinter import PrintMethodNotImplementedError

    # Names that no generated code uses: a state `e` would take the place of Euler's number.
    def renamed(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return [renamed(part) for part in x]
        new[x] = sympy.Symbol(f"_{x}")
        return new[x]

    new: dict[Any, Any] = {}
    arguments = [renamed(x) for x in arguments]
    symbols = renamed([x for x, _ in definitions])
    given: Any = [stable(e.xreplace(new)) for e in expressions]
    formulas: Any = [stable(e.xreplace(new)) for _, e in definitions]
    expressions, definitions = guard_branches(given, list(zip(symbols, formulas, strict=True)))
    everything = [*expressions, *(e for _, e in definitions)]
    # Definitions stand where SymPy's own common subexpressions would.
    shared: Any = (lambda given: (list(definitions), given)) if definitions else False
    fault: Exception | None = None
    try:
        made = sympy.lambdify(
            arguments,
            list(expressions),
            [_special_functions(), "jax"],
            printer=_printer(),
            cse=shared,
        )
    except PrintMethodNotImplementedError as error:
        fault = error
    else:
        scope = (made.__globals__.get(name) for name in made.__code__.co_names)
        if not any(getattr(value, "__module__", None) == "math" for value in scope):
            return made
    used = {str(f.func) for e in everything for f in e.atoms(sympy.Function)}
    raise ValueError(
        f"JAX has not all of the functions in the equations, which are {sorted(used)}: "
        "write the equations with elementary functions."
    ) from fault


def _special_functions() -> dict[str, Any]:
    import jax.numpy as jnp
    from jax.scipy import special

    names = "erf erfc erfinv gamma digamma polygamma".split()
    functions = {name: getattr(special, name) for name in names}
    return functions | {
        "expm1": jnp.expm1,
        "log1p": jnp.log1p,
        "sigmoid": special.expit,
        "i0e": special.i0e,
        "i1e": special.i1e,
        "loggamma": special.gammaln,
    }


def _printer() -> Any:
    from sympy import nan
    from sympy.printing.numpy import JaxPrinter

    class Printer(JaxPrinter):
        # SymPy would print floats with 15 digits. It would print whole numbers as integers, which
        # JAX takes for an int32 and refuses from 2^31 on, and whole negative powers as float ones,
        # which are slower and have no derivative at negative bases.
        def _print_Float(self, expr: Any) -> str:
            return repr(float(expr))

        _print_Integer = _print_Rational = _print_Float

        def _print_ComplexInfinity(self, expr: Any) -> str:
            return self._print(nan)

        def _print_Pow(self, expr: Any, rational: bool = False) -> str:
            if expr.exp.is_Integer:
                return f"({self._print(expr.base)})**({int(expr.exp)})"
            return super()._print_Pow(expr, rational=rational)

        # SymPy knows no functions of JAX for these, and takes those of `math`, which are no good
        # for arrays.
        def _print_special(self, expr: Any) -> str:
            arguments = ", ".join(self._print(x) for x in expr.args)
            return f"{type(expr).__name__}({arguments})"

        _print_expm1 = _print_log1p = _print_sigmoid = _print_i0e = _print_i1e = _print_special
        _print_erf = _print_erfc = _print_erfinv = _print_special
        _print_gamma = _print_loggamma = _print_digamma = _print_special

        def _print_polygamma(self, expr: Any) -> str:
            order, argument = expr.args
            if order == 0:
                return f"digamma({self._print(argument)})"
            if order.is_Integer:
                return f"polygamma({int(order)}, {self._print(argument)})"
            return super()._print_Function(expr)

    return Printer({"fully_qualified_modules": False, "allow_unknown_functions": False})


@functools.cache
def _functions() -> dict[str, Any]:
    import sympy

    names = "expm1 i0e i1e log1p sigmoid".split()
    return {name: type(name, (sympy.Function,), {}) for name in names}


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

    sizes = {}

    def scaled(order: Any, argument: Any) -> Any:
        if order not in (0, 1):
            return sp.besseli(order, argument)
        size = of_reals(sp.Abs(argument))
        sizes[size] = argument * sp.sign(argument)
        # The exponential cancels with that of other factors, none of which then overflows.
        return functions[f"i{order}e"](argument) * exp(size)

    if expression.has(sp.besseli):
        expression = expression.replace(sp.besseli, scaled)
        # What is left has the slope zero at zero, where `abs` has the slope one.
        expression = expression.replace(exp, lambda power: exp(power.xreplace(sizes)))
    if not expression.has(sp.exp, sp.log):
        return expression
    return expression.replace(lambda e: e.is_Add or e.is_Pow or isinstance(e, sp.log), written)
