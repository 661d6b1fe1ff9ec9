"""Equations as plain text and LaTeX."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._arguments import check_instance
from ._equations import TIME, as_system, symbol_names
from ._numbers import with_decimal
from ._parse import parse
from ._rows import is_constraint

if TYPE_CHECKING:
    import sympy

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi rho sigma tau upsilon phi chi "
    "psi omega"
).split()


def to_text(
    equations: "Callable[..., Any] | Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    names: Sequence[str] | None = None,
    *,
    digits: int | None = None,
) -> str:
    """Equations as plain text, a line `dy1/dt = ...` for each state, which `from_text` reads back.

    A constraint is a line `0 = ...`, which it does not read, nor a branch that is `nan`.

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

        def _print_exp(self, expr: Any) -> str:
            return f"exp({self._print(with_decimal(expr.args[0]))})"

    rows, states = as_system(equations, names, digits, constraints=True)
    return "\n".join(
        f"0 = {Printer().doprint(row.rhs)}"
        if is_constraint(row)
        else f"d{state}/d{TIME} = {Printer().doprint(row)}"
        for state, row in zip(states, rows, strict=True)
    )


def from_text(text: str) -> "dict[str, sympy.Expr]":
    r"""Equations written by `to_text` or by hand.

    The text is parsed and never run as code.

    **Arguments:**

    - `text`: a line `dNAME/dt = formula` for each state; empty lines and what follows a `#` are
        skipped. A formula is made of numbers, states, `t`, `pi`, `+ - * / **`, parentheses and
        functions under their SymPy names: elementary ones, those of errors and of gamma, `Mod`, and
        `Piecewise((x, x > 1), (0, True))`, with relations and `& | ~ ^` in its conditions.

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

    write = 'from_text("dx/dt = -2*x")'
    check_instance("text", text, str, "the equations of a system, a line for each state", write)
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
    # Python reads the sign of micro as the Greek letter, and other letters likewise.
    states = [unicodedata.normalize("NFKC", state) for _, state, _ in lines]
    symbol_names(states, len(states))
    known = {TIME: sympy.Symbol(TIME), "pi": sympy.pi}
    known = {x: sympy.Symbol(s) for x, (_, s, _) in zip(states, lines, strict=True)} | known
    return {state: parse(formula, known, number) for number, state, formula in lines}


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
        at the end of a name become subscripts, `alpha` a Greek letter, other names of more than one
        letter stand upright.
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
    from sympy.printing.latex import LatexPrinter

    class Printer(LatexPrinter):
        def _print_exp(self, expr: Any, exp: Any = None) -> str:
            power = f"e^{{{self._print(with_decimal(expr.args[0]))}}}"
            return self._do_exponent(power, exp)

    rows, states = as_system(equations, names, digits, constraints=True)
    symbols = {sympy.Symbol(state): latex_symbol(state) for state in states}

    write = Printer({"symbol_names": symbols}).doprint

    lines = (
        rf"0 &= {write(row.rhs)}"
        if is_constraint(row)
        else rf"\frac{{d {latex_symbol(state)}}}{{d {TIME}}} &= {write(row)}"
        for state, row in zip(states, rows, strict=True)
    )
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def latex_symbol(name: str) -> str:
    """A symbol that no other name has; SymPy takes parts of names for accents and Greek letters."""
    found = re.fullmatch(r"([^_]*?)(\d*)", name)
    stem, digits = found.groups() if found else (name, "")
    if stem in _GREEK:
        stem = f"\\{stem}"
    elif len(stem) != 1 or stem == "_":
        stem = "\\mathrm{" + stem.replace("_", r"\_") + "}"
    return f"{stem}_{{{digits}}}" if digits else stem
