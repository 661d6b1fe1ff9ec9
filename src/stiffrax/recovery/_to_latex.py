"""Equations as LaTeX."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._equations import as_system
from ._names import TIME

if TYPE_CHECKING:
    import sympy


def to_latex(
    equations: "Callable[..., Any] | Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    names: Sequence[str] | None = None,
    *,
    digits: int | None = None,
) -> str:
    r"""Equations as a LaTeX `aligned` block, to be put in math mode.

    **Arguments:**

    - `equations`: a model, or one SymPy expression for each state, in a sequence or by its name.
    - `names`: the names of the states; default the names in `equations`, else `y1 ... yn`. Numbers
        at the end of a name become subscripts.
    - `digits`: significant digits to which coefficients are rounded; default all that SymPy prints,
        which is 15.

    **Returns:** the LaTeX source.

    **Raises:** `ValueError` for names that do not fit and for other symbols than states and `t`.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.Polynomial(1, degree=1, coefficients=[[0, -2.5]])
    >>> print(srx.to_latex(model))
    \begin{aligned}
    \frac{d y_{1}}{d t} &= - 2.5 y_{1}
    \end{aligned}

    ```
    """
    import sympy

    expressions, states = as_system(equations, names, digits)
    lines = (
        rf"\frac{{d {sympy.latex(sympy.Symbol(state))}}}{{d {TIME}}} &= {sympy.latex(expression)}"
        for state, expression in zip(states, expressions, strict=True)
    )
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"
