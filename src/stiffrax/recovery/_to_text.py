"""Equations as plain text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._equations import as_system
from ._names import TIME

if TYPE_CHECKING:
    import sympy


def to_text(
    equations: "Callable[..., Any] | Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    names: Sequence[str] | None = None,
    *,
    digits: int | None = None,
) -> str:
    """Equations as plain text, a line `dy1/dt = ...` for each state, which `from_text` reads back.

    **Arguments:**

    - `equations`: a model, or one SymPy expression for each state, in a sequence or by its name.
    - `names`: the names of the states; default the names in `equations`, else `y1 ... yn`.
    - `digits`: significant digits to which coefficients are rounded; default all, so that nothing
        is lost.

    **Returns:** the lines, without a line break at the end.

    **Raises:** `ValueError` for names that do not fit and for other symbols than states and `t`.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.Polynomial(2, degree=1, coefficients=[[0, 0, 1], [0.5, -4, 0]])
    >>> print(srx.to_text(model, names=["x", "v"]))
    dx/dt = v
    dv/dt = 0.5 - 4*x

    ```
    """
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):
        # SymPy would print floats with 15 digits, and Euler's number as `E`, which may be a state.
        def _print_Float(self, expr: Any) -> str:
            return repr(float(expr))

        def _print_Exp1(self, expr: Any) -> str:
            return "exp(1)"

    expressions, states = as_system(equations, names, digits)
    return "\n".join(
        f"d{state}/d{TIME} = {Printer().doprint(expression)}"
        for state, expression in zip(states, expressions, strict=True)
    )
