"""Formulas of one form, such as the rates of a large network, evaluated together on arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..recovery import guard_branches, jax_function
from ._mathml import symbol

# A step of an evaluation: a function of columns with the places of its arguments, and whether
# derivatives go through it.
_Step = tuple[Callable[..., Any], np.ndarray, bool]


def grouped_function(
    given: Sequence[Any],
    definitions: dict[Any, Any],
    expressions: Sequence[Any],
    constants: frozenset[Any] = frozenset(),
) -> Callable[..., Any]:
    """The expressions as a function of the array of what is given.

    Program and compilation grow with the number of forms, not with that of formulas: six hundred
    reactions written one by one compile for minutes. Each definition stands after those that it needs.
    """
    expressions, guarded = guard_branches(expressions, list(definitions.items()))
    definitions = dict(guarded)
    results = [symbol(f"(result {k})") for k in range(len(expressions))]
    formulas = definitions | dict(zip(results, expressions, strict=True))
    depth: dict[Any, int] = dict.fromkeys(given, 0)
    for x, formula in formulas.items():
        depth[x] = 1 + max((depth[y] for y in formula.free_symbols), default=0)
    place = {x: k for k, x in enumerate(given)}
    differentiated = _differentiated(formulas, results)
    levels: list[list[_Step]] = []
    for level in range(1, 1 + max(depth[x] for x in formulas)):
        forms: dict[Any, list[tuple[Any, list[Any]]]] = {}
        for x, formula in formulas.items():
            if depth[x] == level:
                form, own = _form(formula, constants)
                forms.setdefault((form, x in differentiated), []).append((x, own))
        steps: list[_Step] = []
        for (form, smooth), members in forms.items():
            steps.append((*_step(form, members, formulas, place, constants), smooth))
            place |= {x: len(place) + k for k, (x, _) in enumerate(members)}
        levels.append(steps)
    wanted = np.array([place[x] for x in results])

    def function(values: Any) -> Any:
        for steps in levels:
            new = [_evaluate(step, values) for step in steps]
            values = jnp.concatenate([values, *new])
        return values[wanted]

    return function


def plain_name(k: int, is_constant: bool) -> Any:
    """What generated code calls a variable: an identifier may be a word of Python.

    SymPy writes products in the order of names, and rate constants have to come first: a product of
    two amounts of 1e-21 leaves single precision, and a rate constant of 1e21 times the first does not.
    """
    return symbol(f"{'v' if is_constant else 'w'}{k}")


def _form(formula: Any, constants: frozenset[Any]) -> tuple[Any, list[Any]]:
    """The formula with its symbols numbered, and these; of a sum of multiples how many they are."""
    if formula.is_Add and all(_multiple(term) for term in formula.args):
        terms = formula.as_coefficients_dict()
        return ("sum", len(terms)), list(terms)
    order: dict[Any, Any] = {}
    stack = [formula]
    while stack:
        node = stack.pop()
        if node.is_Symbol:
            order.setdefault(node, plain_name(len(order), node in constants))
        stack.extend(reversed(node.args))
    return formula.xreplace(order), list(order)


def _multiple(term: Any) -> bool:
    return (
        term.is_Symbol
        or term.is_Mul
        and len(term.args) == 2
        and (term.args[0].is_Number and term.args[1].is_Symbol)
    )


def _differentiated(formulas: dict[Any, Any], results: Sequence[Any]) -> set[Any]:
    """Those that results need other than in conditions.

    One array holds them all, and sends back zeros for the others: times infinity, NaN.
    """
    from sympy.logic.boolalg import Boolean

    found = set(results)
    for x in reversed(formulas):
        stack = [formulas[x]] if x in found else []
        while stack:
            node = stack.pop()
            if node.is_Symbol:
                found.add(node)
            elif not isinstance(node, Boolean):
                stack.extend(node.args)
    return found


def _step(
    form: Any, members: Any, formulas: Any, place: Any, constants: frozenset[Any]
) -> tuple[Any, np.ndarray]:
    first = members[0][1]
    table = np.array([[place[y] for y in own] for _, own in members], int)
    table = table.reshape(len(members), len(first))
    if not isinstance(form, tuple):
        names = [plain_name(k, x in constants) for k, x in enumerate(first)]
        return jax_function([names], [form]), table
    terms = (formulas[x].as_coefficients_dict() for x, _ in members)
    factors = np.array([[float(x) for x in one.values()] for one in terms])
    # A product with a matrix would make zero times infinity of what is in no sum.
    return (lambda values: [jnp.sum(jnp.asarray(factors.T, values.dtype) * values, axis=0)]), table


def _evaluate(step: _Step, values: Any) -> Any:
    function, table, smooth = step
    (value,) = function(values[table.T])
    value = value if smooth else jax.lax.stop_gradient(value)
    return jnp.broadcast_to(jnp.asarray(value, values.dtype), table.shape[:1])
