"""The formula of a JAX function: its jaxpr, evaluated on arrays of SymPy expressions.

A user writes a known term or a library function once, as JAX code, and still gets equations.
Calling the function on symbols would not do: `jnp.stack` and `jnp.exp` refuse them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from ._formulas import FORMULAS, elementwise
from ._symbolic_arrays import is_symbolic, map_elements, to_symbolic

# Primitives that wrap another jaxpr: jit and the custom derivative rules, as named over time.
_CALLS = {
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat",
    "remat2",
}

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
}


def trace(function: Callable[..., Any], *arguments: Any) -> np.ndarray:
    """The result of a JAX function on SymPy expressions.

    **Arguments:**

    - `function`: takes one array for each of `arguments` and returns one array.
    - `arguments`: expressions, or sequences of them, in the shape that the function takes.

    **Returns:** an array of expressions, in the shape that the function returns.

    **Raises:** `ValueError` if the function uses an operation without a formula, such as a loop.
    """
    inputs = [np.asarray(x, dtype=object) for x in arguments]
    dummies = [jax.ShapeDtypeStruct(x.shape, jnp.result_type(float)) for x in inputs]
    closed = jax.make_jaxpr(lambda *xs: jnp.asarray(function(*xs)))(*dummies)
    (output,) = _evaluate(closed.jaxpr, closed.consts, inputs)
    return to_symbolic(output)


def _evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(variable) for variable in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, operands: list[Any]) -> list[Any]:
    name = equation.primitive.name.replace("-", "_")
    if name in _CALLS:
        params = equation.params
        inner = next(params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params)
        return _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
    if not any(map(is_symbolic, operands)):
        return _run(equation, operands)
    if name in _MOVES:
        return _move(equation, operands, _MOVES[name])
    if name in FORMULAS:
        return [np.asarray(FORMULAS[name](equation, *operands), dtype=object)]
    if name in elementwise():
        return [map_elements(elementwise()[name], *map(to_symbolic, operands))]
    raise ValueError(
        f"No formula can be read from a function that uses `{name}`: write it with arithmetic, "
        "powers and elementary functions, or write the equations of this part by hand."
    )


def _run(equation: Any, operands: list[Any]) -> list[Any]:
    results = equation.primitive.bind(*map(jnp.asarray, operands), **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def _move(equation: Any, operands: list[Any], which: tuple[int, ...] | None) -> list[Any]:
    # The primitive itself is run on the positions of the elements, so that its parameters need not
    # be understood here.
    elements, positions = [], list(operands)
    for k in range(len(operands)) if which is None else which:
        data = to_symbolic(operands[k])
        positions[k] = len(elements) + np.arange(data.size).reshape(data.shape)
        elements.extend(data.ravel())
    pool = np.empty(len(elements), dtype=object)
    pool[:] = elements
    return [np.asarray(pool[np.asarray(x)], dtype=object) for x in _run(equation, positions)]
