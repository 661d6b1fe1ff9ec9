"""The formula of a JAX function: its jaxpr, evaluated on arrays of SymPy expressions.

A user writes a known term or a library function once, as JAX code, and still gets equations.
Calling the function on symbols would not do: `jnp.stack` and `jnp.exp` refuse them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.flatten_util import ravel_pytree

from .._flat_state import inexact
from .._trees import unequal_weights
from ._formulas import FORMULAS, choose, elementwise, refuse_whole_numbers
from ._numbers import is_symbolic, map_elements, to_symbolic

# Primitives that only move elements, and which of their operands hold these (None: all of them).
_MOVES = {
    "broadcast_in_dim": (0,),
    "concatenate": None,
    "copy": (0,),
    "copy_p": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "expand_dims": (0,),
    "gather": (0,),
    "pad": (0, 1),
    "reshape": (0,),
    "rev": (0,),
    "scatter": (0, 2),
    "slice": (0,),
    "split": (0,),
    "squeeze": (0,),
    "stack": None,
    "tile": (0,),
    "transpose": (0,),
    "unstack": (0,),
}


def trace(function: Callable[..., Any], *arguments: Any) -> np.ndarray:
    """The result of a JAX function on SymPy expressions, in the shapes that it takes and returns.

    **Raises:** `ValueError` if the function uses an operation without a formula, such as a loop.
    """
    inputs = [np.asarray(x, dtype=object) for x in arguments]
    dummies = [jax.ShapeDtypeStruct(x.shape, jnp.result_type(float)) for x in inputs]
    # Truths are no numbers to SymPy.
    closed = jax.make_jaxpr(lambda *xs: inexact(function(*xs)))(*dummies)
    (output,) = _evaluate(closed.jaxpr, closed.consts, inputs)
    return to_symbolic(output)


def _evaluate(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], wanted: Sequence[bool] | None = None
) -> list[Any]:
    """The outputs; `None` for those that are not `wanted`."""
    outputs = itertools.compress(jaxpr.outvars, wanted or itertools.repeat(True))
    needed, steps = {v for v in outputs if not isinstance(v, Literal)}, []
    # What is computed and not used needs no formula.
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            steps.append(equation)
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values.get(variable)

    for equation in reversed(steps):
        operands = [read(variable) for variable in equation.invars]
        results = _apply(equation, operands, [v in needed for v in equation.outvars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, operands: list[Any], wanted: Sequence[bool]) -> list[Any]:
    name = _name(equation)
    symbolic = any(map(is_symbolic, operands))
    if name in _CONTROL_FLOW:
        return (_CONTROL_FLOW[name] if symbolic else _run)(equation, operands)
    # For plain numbers too: a call with a custom derivative cannot be run by its parameters alone.
    inner = _inner(equation)
    if inner is not None:
        return _evaluate(*inner, operands, wanted)
    if not symbolic:
        return operands if _widens(equation, *operands) else _run(equation, operands)
    if jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.complexfloating):
        _refuse("complex")
    if name in _MOVES:
        return _move(equation, operands, _MOVES[name])
    if name in FORMULAS:
        return [np.asarray(FORMULAS[name](equation, *operands), dtype=object)]
    if name in ("div", "rem") and jnp.issubdtype(equation.invars[0].aval.dtype, jnp.integer):
        refuse_whole_numbers()
    if name in elementwise():
        return [map_elements(elementwise()[name], *map(to_symbolic, operands))]
    affine = _affine(equation, operands)
    return _refuse(name) if affine is None else affine


def _name(equation: Any) -> str:
    # JAX 0.12 has one primitive for several operations, which are classes.
    operation = equation.params.get("_prim")
    name = equation.primitive.name if operation is None else type(operation).__name__
    return name.replace("-", "_")


def _widens(equation: Any, *operands: Any) -> bool:
    """Whether only digits would be added to a number, none of which anybody gave."""
    if equation.primitive.name != "convert_element_type":
        return False
    old, new = np.asarray(operands[0]).dtype, np.dtype(equation.params["new_dtype"])
    return old.kind == new.kind == "f" and old.itemsize < new.itemsize


def _refuse(name: str) -> Any:
    name = _ORIGINS.get(name, f"`{name}`")
    raise ValueError(
        f"No formula can be read from a function that uses {name}: write it with arithmetic, "
        "powers and elementary functions, or write the equations of this part by hand."
    )


def _opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def _inner(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """What a call computes (jit, a custom derivative, a checkpoint), whatever JAX names it."""
    found = [x for x in equation.params.values() if hasattr(_opened(x)[0], "eqns")]
    if len(found) != 1:
        return None
    jaxpr, consts = _opened(found[0])
    variables = [(equation.invars, jaxpr.invars), (equation.outvars, jaxpr.outvars)]
    same = all([x.aval.shape for x in a] == [x.aval.shape for x in b] for a, b in variables)
    return (jaxpr, consts) if same else None


def _scan(equation: Any, operands: list[Any]) -> list[Any]:
    params = equation.params
    if params["length"] > _LONGEST_LOOP:
        _refuse("scan")
    # What has one axis less inside is taken row by row. (JAX has named the counts differently.)
    inside = _opened(params["jaxpr"])[0]
    num_rows = _num_changed(equation.invars, inside.invars)
    num_carry = len(inside.outvars) - _num_changed(equation.outvars, inside.outvars)
    start, stop = len(operands) - num_rows - num_carry, len(operands) - num_rows
    fixed, carry, rows = operands[:start], operands[start:stop], operands[stop:]
    order = range(params["length"])
    stacked = {}
    for k in reversed(order) if params["reverse"] else order:
        results = _evaluate(*_opened(params["jaxpr"]), [*fixed, *carry, *(x[k, ...] for x in rows)])
        carry, stacked[k] = results[: len(carry)], results[len(carry) :]
    if not stacked:
        return [*carry, *(np.zeros(x.aval.shape) for x in equation.outvars[num_carry:])]
    columns = zip(*(stacked[k] for k in order), strict=True)
    return [*carry, *(np.stack([to_symbolic(x) for x in column]) for column in columns)]


def _num_changed(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    pairs = zip(outside, inside, strict=True)
    return sum(a.aval.shape != b.aval.shape for a, b in pairs)


def _while(equation: Any, operands: list[Any]) -> list[Any]:
    params = equation.params
    start = params["cond_nconsts"]
    stop = start + params["body_nconsts"]
    for_cond, for_body, carry = operands[:start], operands[start:stop], operands[stop:]
    for _ in range(_LONGEST_LOOP + 1):
        (again,) = _evaluate(*_opened(params["cond_jaxpr"]), [*for_cond, *carry])
        if is_symbolic(again):
            break
        if not again:
            return carry
        carry = _evaluate(*_opened(params["body_jaxpr"]), [*for_body, *carry])
    return _refuse("while")


def _cond(equation: Any, operands: list[Any]) -> list[Any]:
    which, *rest = operands
    branches = equation.params["branches"]
    if not is_symbolic(which):
        k = min(max(int(which), 0), len(branches) - 1)
        return _evaluate(*_opened(branches[k]), rest)
    results = [_evaluate(*_opened(branch), rest) for branch in branches]
    return [
        map_elements(lambda *x: choose(which[()], list(x)), *map(to_symbolic, cases))
        for cases in zip(*results, strict=True)
    ]


# What a user wrote, where the name of the primitive does not tell.
_TABLE = "`jnp.interp` or `jnp.searchsorted`, as inputs do"
_ORIGINS = {
    "lt_to": _TABLE,
    "le_to": _TABLE,
    "SearchSorted": _TABLE,
    "complex": "complex numbers",
    "round": "`jnp.round` or `//`",
}

# A formula of more rounds than that is none that anybody reads.
_LONGEST_LOOP = 100

_CONTROL_FLOW: dict[str, Callable[..., list[Any]]] = {
    "cond": _cond,
    "optimization_barrier": lambda _, operands: operands,
    "scan": _scan,
    "while": _while,
}


def _run(equation: Any, operands: list[Any]) -> list[Any]:
    # Numbers that were not widened are, where an operation needs it; those that only move are not.
    kinds = {
        jnp.result_type(x) for x in operands if jnp.issubdtype(jnp.result_type(x), jnp.floating)
    }
    if _name(equation) not in _MOVES or len(kinds) > 1:
        operands = [
            jnp.asarray(x, v.aval.dtype) if jnp.result_type(x) in kinds else x
            for x, v in zip(operands, equation.invars, strict=True)
        ]
    return _bind(equation, operands)


def _bind(equation: Any, operands: list[Any]) -> list[Any]:
    results = equation.primitive.bind(*map(jnp.asarray, operands), **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def _move(equation: Any, operands: list[Any], which: tuple[int, ...] | None) -> list[Any]:
    # The primitive itself is run on the positions of the elements, so that its parameters need not
    # be understood here, and on zeros and ones: what is the same for both is no element, but a value
    # of its own, such as the one of a gather for places beyond the array.
    moved = range(len(operands)) if which is None else which
    if any(is_symbolic(x) for k, x in enumerate(operands) if k not in moved):
        refuse_whole_numbers()
    elements, positions, zeros, ones = [], list(operands), list(operands), list(operands)
    for k in moved:
        data, dtype = to_symbolic(operands[k]), equation.invars[k].aval.dtype
        # Floats, which hold a NaN to fill with.
        places = jnp.arange(len(elements), len(elements) + data.size, dtype=float)
        positions[k] = places.reshape(data.shape)
        zeros[k], ones[k] = jnp.zeros(data.shape, dtype), jnp.ones(data.shape, dtype)
        elements.extend(data.ravel())
    pool = np.empty(len(elements), dtype=object)
    pool[:] = elements
    results = []
    for place, low, high in zip(
        *(_bind(equation, x) for x in (positions, zeros, ones)), strict=True
    ):
        low, high = np.asarray(low), np.asarray(high)
        is_element = (low == 0) & (high == 1)
        result = pool[np.where(is_element, np.asarray(place), 0).astype(int)]
        results.append(np.where(is_element, result, to_symbolic(high)))
    return results


def _affine(equation: Any, operands: list[Any]) -> list[Any] | None:
    """Any operation that is affine in what is symbolic, by its matrix; `None` if it is not.

    JAX's own rule says that it is: a derivative that is the same everywhere. Numbers then show
    that it is no staircase, whose derivative is zero.
    """
    places = [k for k, x in enumerate(operands) if is_symbolic(x)]
    avals = [equation.invars[k].aval for k in places]
    results = [variable.aval for variable in equation.outvars]
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (*avals, *results)):
        return None

    def function(*symbolic: Any) -> list[Any]:
        values = list(operands)
        for k, x in zip(places, symbolic, strict=True):
            values[k] = x
        return _run(equation, values)

    zeros = [jnp.zeros(x.shape, x.dtype) for x in avals]
    flat, restore = ravel_pytree(zeros)
    if not _is_derivative_constant(lambda x: function(*restore(x)), flat):
        return None
    offset, put_back = ravel_pytree(function(*zeros))
    units = jnp.eye(flat.size, dtype=flat.dtype)
    rows = [ravel_pytree(function(*restore(unit)))[0] - offset for unit in units]
    for size in (1e-3, 1.0, 1e3):
        point = size * unequal_weights(flat.size, flat.dtype)
        value = ravel_pytree(function(*restore(point)))[0]
        if not np.allclose(value, offset + point @ jnp.stack(rows), rtol=1e-6, atol=1e-6 * size):
            return None
    elements = [x for k in places for x in operands[k].ravel()]
    result = to_symbolic(offset)
    for element, row in zip(elements, rows, strict=True):
        result = result + to_symbolic(row) * element
    ends = np.cumsum([x.size for x in put_back(offset)])[:-1]
    shapes = [x.shape for x in put_back(offset)]
    return [x.reshape(shape) for x, shape in zip(np.split(result, ends), shapes, strict=True)]


def _is_derivative_constant(function: Callable[..., Any], x: Any) -> bool:
    try:
        jaxpr = jax.make_jaxpr(lambda x, v: jax.jvp(function, (x,), (v,))[1])(x, x).jaxpr
    except (NotImplementedError, TypeError, ValueError):
        return False
    depends = {jaxpr.invars[0]}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in depends for v in equation.invars):
            depends.update(equation.outvars)
    return not any(not isinstance(v, Literal) and v in depends for v in jaxpr.outvars)
