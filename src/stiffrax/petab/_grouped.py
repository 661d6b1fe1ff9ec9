"""Formulas of one form, such as the rates of a large network, evaluated together on arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..recovery import jax_function
from ._mathml import symbol

# Steps of an evaluation: a function of columns with the places of its arguments, or a matrix.
_Step = tuple[Callable[..., Any] | None, np.ndarray]


def grouped_function(
    given: Sequence[Any], definitions: dict[Any, Any], expressions: Sequence[Any]
) -> Callable[..., Any]:
    """The expressions as a function of the array of what is given.

    Program and compilation grow with the number of forms, not with that of formulas: six hundred
    reactions written one by one compile for minutes.

    **Arguments:**

    - `given`: symbols of the array.
    - `definitions`: what else stands in the expressions, each after those that it needs.
    - `expressions`: what is returned, as an array.
    """
    results = [symbol(f"(result {k})") for k in range(len(expressions))]
    formulas = definitions | dict(zip(results, expressions, strict=True))
    depth: dict[Any, int] = dict.fromkeys(given, 0)
    for x, formula in formulas.items():
        depth[x] = 1 + max((depth[y] for y in formula.free_symbols), default=0)
    place = {x: k for k, x in enumerate(given)}
    levels: list[list[_Step]] = []
    for level in range(1, 1 + max(depth[x] for x in formulas)):
        forms: dict[Any, list[tuple[Any, list[Any]]]] = {}
        for x, formula in formulas.items():
            if depth[x] == level:
                form, own = _form(formula)
                forms.setdefault(form, []).append((x, own))
        steps: list[_Step] = []
        known = len(place)
        for form, members in forms.items():
            steps.append(_step(form, members, formulas, place, known))
            place |= {x: len(place) + k for k, (x, _) in enumerate(members)}
        levels.append(steps)
    wanted = np.array([place[x] for x in results])

    def function(values: Any) -> Any:
        for steps in levels:
            new = [_evaluate(step, values) for step in steps]
            values = jnp.concatenate([values, *new])
        return values[wanted]

    return function


def _form(formula: Any) -> tuple[Any, list[Any]]:
    """The formula with its symbols numbered, and these; None for a sum of multiples of symbols."""
    if formula.is_Add and all(_multiple(term) for term in formula.args):
        return None, []
    order: dict[Any, Any] = {}
    stack = [formula]
    while stack:
        node = stack.pop()
        if node.is_Symbol:
            order.setdefault(node, symbol(f"v{len(order)}"))
        stack.extend(reversed(node.args))
    return formula.xreplace(order), list(order)


def _multiple(term: Any) -> bool:
    return (
        term.is_Symbol
        or term.is_Mul
        and len(term.args) == 2
        and (term.args[0].is_Number and term.args[1].is_Symbol)
    )


def _step(form: Any, members: Any, formulas: Any, place: Any, known: int) -> _Step:
    if form is None:
        matrix = np.zeros((len(members), known))
        for row, (x, _) in zip(matrix, members, strict=True):
            for y, factor in formulas[x].as_coefficients_dict().items():
                row[place[y]] = float(factor)
        return None, matrix
    count = len(members[0][1])
    function = jax_function([[symbol(f"v{k}") for k in range(count)]], [form])
    table = [[place[y] for y in own] for _, own in members]
    return function, np.array(table, int).reshape(len(members), count)


def _evaluate(step: _Step, values: Any) -> Any:
    function, table = step
    if function is None:
        return jnp.asarray(table, values.dtype) @ values
    (value,) = function(list(values[table.T]))
    return jnp.broadcast_to(jnp.asarray(value, values.dtype), table.shape[:1])
