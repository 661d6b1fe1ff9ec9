"""From SymPy expressions to functions of JAX."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
    from sympy.printing.numpy import JaxPrinter

    class Printer(JaxPrinter):
        # SymPy would print floats with 15 digits. It would print whole numbers as integers, which
        # JAX takes for an int32 and refuses from 2^31 on, and whole negative powers as float ones,
        # which are slower and have no derivative at negative bases.
        def _print_Float(self, expr: Any) -> str:
            return repr(float(expr))

        _print_Integer = _print_Rational = _print_Float

        def _print_Pow(self, expr: Any, rational: bool = False) -> str:
            if expr.exp.is_Integer:
                return f"({self._print(expr.base)})**({int(expr.exp)})"
            return super()._print_Pow(expr, rational=rational)

    printer = Printer({"fully_qualified_modules": False, "allow_unknown_functions": False})
    everything = [*expressions, *(e for _, e in definitions)]
    # Definitions stand where SymPy's own common subexpressions would.
    shared: Any = (lambda given: (list(definitions), given)) if definitions else False
    try:
        return sympy.lambdify(
            arguments,
            list(expressions),
            "jax",
            printer=printer,
            cse=shared,
        )
    except PrintMethodNotImplementedError as error:
        functions = {str(f.func) for e in everything for f in e.atoms(sympy.Function)}
        raise ValueError(
            f"JAX has not all of the functions in the equations, which are {sorted(functions)}: "
            "write the equations with elementary functions."
        ) from error
