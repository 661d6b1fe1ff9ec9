"""Recovered equations beside the true ones."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from ..models._checks import own_names
from ._equations import TIME, as_system
from ._numbers import to_rationals

if TYPE_CHECKING:
    import sympy


@final
@dataclasses.dataclass(frozen=True)
class ComparisonRow:
    """One term of one equation, as `compare` lists it.

    **Attributes:**

    - `state`: the name of the state whose equation it is.
    - `term`: the term without its coefficient, a SymPy expression.
    - `true`: the true coefficient; `None` for an extra term.
    - `recovered`: the recovered coefficient; `None` for a missing term.

    ```python
    >>> import stiffrax as srx
    >>> system = srx.from_text("dx/dt = -2*x")
    >>> srx.compare(system, system).rows
    (ComparisonRow(state='x', term=x, true=-2.0, recovered=-2.0),)

    ```
    """

    state: str
    term: "sympy.Expr"
    true: "float | sympy.Float | None"
    recovered: "float | sympy.Float | None"

    @property
    def relative_error(self) -> float:
        """`|recovered - true| / |true|`; NaN for a missing or an extra term."""
        if self.true is None or self.recovered is None:
            return math.nan
        return float(abs(self.recovered - self.true) / abs(self.true))


@final
@dataclasses.dataclass(frozen=True)
class Comparison:
    r"""What `compare` found: `print` shows it as a table, `summary` says it in one line.

    **Attributes:**

    - `rows`: a `ComparisonRow` for each term of either system.

    ```python
    >>> import stiffrax as srx
    >>> true = srx.from_text("dx/dt = v\ndv/dt = -4*x")
    >>> recovered = srx.from_text("dx/dt = v\ndv/dt = -4.01*x + 0.02*v")
    >>> print(srx.compare(recovered, true))
    equation  term  true  recovered  relative error
       dx/dt     v     1          1         0.0e+00
       dv/dt     x    -4      -4.01         2.5e-03
       dv/dt     v     -       0.02           extra
    recovered 2 of 2 terms, 1 extra, largest relative error 2.5e-03

    ```
    """

    rows: tuple[ComparisonRow, ...]

    @property
    def num_true(self) -> int:
        """The number of terms of the true equations."""
        return sum(row.true is not None for row in self.rows)

    @property
    def num_found(self) -> int:
        """The number of true terms that were recovered, whatever their coefficients."""
        return self.num_true - self.num_missing

    @property
    def num_missing(self) -> int:
        """The number of true terms that were not recovered."""
        return sum(row.recovered is None for row in self.rows)

    @property
    def num_extra(self) -> int:
        """The number of recovered terms that are not in the true equations."""
        return sum(row.true is None for row in self.rows)

    @property
    def largest_relative_error(self) -> float:
        """The largest relative error among the terms found; NaN if none was found."""
        errors = (row.relative_error for row in self.rows)
        return max((error for error in errors if not math.isnan(error)), default=math.nan)

    def summary(self) -> str:
        """One line: `recovered 24 of 24 terms, 0 extra, largest relative error 3.1e-04`."""
        return (
            f"recovered {self.num_found} of {self.num_true} terms, {self.num_extra} extra, "
            f"largest relative error {self.largest_relative_error:.1e}"
        )

    def __str__(self) -> str:
        """A table with a line for each term, and the summary."""
        head = ("equation", "term", "true", "recovered", "relative error")
        cells = [head, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([*lines, self.summary()])


def compare(
    recovered: "Callable[..., Any] | Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    true: "Callable[..., Any] | Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    *,
    names: Sequence[str] | None = None,
) -> Comparison:
    """Recovered equations beside the true ones, term by term.

    Both sides are first expanded in exact fractions, so that terms add up. Monomials are matched by
    their powers, other terms if SymPy writes them the same way. Where both sides name their states,
    equations are matched by name, in whatever order they stand; else by their place.

    **Arguments:**

    - `recovered`: a model, or one SymPy expression for each state, in a sequence or by its name.
    - `true`: the same for the true system.
    - `names`: the names of the states, in its order, of a side that does not name them; default
        those of the other side (keys, species of a network, names of a `SymbolicModel`), else
        `y1 ... yn`.

    **Returns:** a `Comparison`, in the order of `true`.

    **Raises:** `ValueError` if the two are not systems of the same states, or one has constraints.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.Polynomial(1, degree=2, coefficients=[[0.0, -2.02, 0.0]])
    >>> srx.compare(model, srx.from_text("dx/dt = -2*x")).summary()
    'recovered 1 of 1 terms, 0 extra, largest relative error 1.0e-02'

    ```
    """
    given = None if names is None else tuple(names)
    sides = [("`true`", own_names(true)), ("`recovered`", own_names(recovered)), ("`names`", given)]
    named = [(side, states) for side, states in sides if states is not None]
    for side, states in named[1:]:
        if set(states) != set(named[0][1]):
            raise ValueError(
                f"The states are {named[0][1]} in {named[0][0]} and {states} in {side}; states are "
                "matched by name. Give both the same names: those of a model by "
                "`dict(zip(names, srx.to_sympy(model, names)))`."
            )
    default = given or (named[0][1] if named else None)
    left, states = as_system(recovered, own_names(recovered) or default)
    right, true_states = as_system(true, own_names(true) or default)
    if len(states) != len(true_states):
        raise ValueError(
            f"`recovered` has {len(states)} equations and `true` has {len(true_states)}: compare "
            "systems of the same states."
        )
    found, rows = dict(zip(states, map(_terms, left), strict=True)), []
    for state, expected in zip(true_states, map(_terms, right), strict=True):
        extra = found[state].keys() - expected.keys()
        for term in (*sorted(expected, key=_order), *sorted(extra, key=_order)):
            rows.append(ComparisonRow(state, term, expected.get(term), found[state].get(term)))
    return Comparison(tuple(rows))


def _terms(expression: Any) -> dict[Any, Any]:
    import sympy

    terms: dict[Any, Any] = {}
    # In fractions, because floats would leave 1e-17 of a term that cancels.
    expanded = sympy.expand(to_rationals(expression))
    for addend in sympy.Add.make_args(expanded):
        coefficient, term = addend.as_independent(*expanded.free_symbols, as_Add=False)
        terms[term] = terms.get(term, 0) + coefficient
    # No double is the `exp(-800)` in `exp(x - 800)`.
    return {
        term: number if 0 < abs(number := float(c)) < math.inf else c.n()
        for term, c in terms.items()
        if c != 0
    }


def _order(term: Any) -> tuple[Any, ...]:
    import sympy

    symbols = sorted(term.free_symbols, key=str)
    is_polynomial = term.is_polynomial(*symbols)
    degree = sympy.Poly(term, *symbols).total_degree() if is_polynomial and symbols else 0
    return not is_polynomial, degree, sympy.default_sort_key(term)


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    fault = "missing" if row.recovered is None else "extra"
    return (
        f"d{row.state}/d{TIME}",
        str(row.term),
        "-" if row.true is None else f"{row.true:.8g}",
        "-" if row.recovered is None else f"{row.recovered:.8g}",
        fault if math.isnan(row.relative_error) else f"{row.relative_error:.1e}",
    )
