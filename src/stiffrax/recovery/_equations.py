"""The forms in which equations are handed over: a model, a mapping by state, a sequence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._names import TIME, state_names
from ._numbers import check_digits, round_floats
from ._to_sympy import to_sympy


def as_system(
    equations: Any, names: Sequence[str] | None, digits: int | None = None
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The SymPy expressions of a vector field, one for each state, and the names of the states.

    Symbols are taken by name, so that `Symbol("x", real=True)` and `Symbol("x")` are one state.
    """
    import sympy

    check_digits(digits)
    if isinstance(equations, Mapping):
        if names is not None and tuple(names) != tuple(equations):
            raise ValueError(
                f"`names` are {tuple(names)}, but the equations are those of {tuple(equations)}: "
                "leave `names` out."
            )
        names = tuple(equations)
        equations = as_expressions(equations.values())
    if callable(equations):
        expressions = to_sympy(equations, names, digits=digits)
        states = state_names(names, getattr(equations, "num_states", len(names or ())))
    else:
        expressions = as_expressions(equations)
        states = state_names(names, len(expressions) if names is None else len(names))
    if len(expressions) != len(states):
        raise ValueError(
            f"One equation a state is needed, got {len(expressions)} equations for the states "
            f"{states}."
        )
    unknown = {str(s) for e in expressions for s in e.free_symbols} - {*states, TIME}
    if unknown:
        raise ValueError(
            f"The equations hold {sorted(unknown)}, which are not among the states {states}: give "
            "the names of the states as `names`, and put numbers in for parameters with "
            "`expression.subs(...)`."
        )
    renamed = (e.xreplace({s: sympy.Symbol(str(s)) for s in e.free_symbols}) for e in expressions)
    return tuple(round_floats(e, digits) for e in renamed), states


def as_expressions(values: Any) -> tuple[Any, ...]:
    """A sequence of SymPy expressions as a tuple; numbers are converted, text is refused."""
    import sympy

    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(
            f"The equations must be a sequence of SymPy expressions, got {values!r}: write "
            "`(expression,)` for a single one, and read text with `from_text`."
        )
    values = tuple(values)
    if not values:
        raise ValueError("The equations must be one or more SymPy expressions, got none.")
    for value in values:
        # Text is not handed to `sympify`, which would run it.
        if isinstance(value, bool) or not isinstance(value, int | float | sympy.Expr):
            raise ValueError(
                f"The equations must be SymPy expressions, got {value!r}: read text with "
                "`from_text`."
            )
    return tuple(map(sympy.sympify, values))
