"""Rows of a system that are no differential equations: `Eq(0, g)` for the constraint `0 = g`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def constraint(formula: Any) -> Any:
    """The row `0 = formula`."""
    import sympy

    return sympy.Eq(0, formula, evaluate=False)


def is_constraint(row: Any) -> bool:
    """Whether a row reads `0 = g`."""
    import sympy

    return isinstance(row, sympy.Eq) and row.lhs == 0


def map_rows(function: Callable[[Any], Any], rows: Iterable[Any]) -> tuple[Any, ...]:
    """The rows with `function` applied to their formulas."""
    return tuple(
        constraint(function(row.rhs)) if is_constraint(row) else function(row) for row in rows
    )


def refuse_constraints(rows: Sequence[Any], states: Sequence[str]) -> None:
    """Raises `ValueError` if a row is a constraint."""
    for state, row in zip(states, rows, strict=True):
        if is_constraint(row):
            raise ValueError(
                f"The row of {state!r} is a constraint, `0 = {row.rhs}`, and no rate of change. "
                "Differential equations alone are compared and made a vector field; `to_text` and "
                "`to_latex` write both."
            )
