"""The formula of a JAX function: its jaxpr, evaluated on arrays of SymPy expressions.

A user writes a known term or a library function once, as JAX code, and still gets equations.
Calling the function on symbols would not do: `jnp.stack` and `jnp.exp` refuse them.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from ._numbers import is_symbolic, map_elements, to_exponent, to_symbolic


@functools.cache
def elementwise() -> dict[str, Callable[..., Any]]:
    """The functions of SymPy for the primitives that act element by element, by their names."""
    import sympy as sp

    trigonometric = (sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.atan2)
    hyperbolic = (sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh)
    others = (sp.exp, sp.log, sp.erf, sp.sqrt, sp.sign, sp.floor)
    return {function.__name__: function for function in (*trigonometric, *hyperbolic, *others)} | {
        "abs": sp.Abs,
        "add": operator.add,
        "add_any": operator.add,
        "and": sp.And,
        "ceil": sp.ceiling,
        "div": operator.truediv,
        "eq": sp.Eq,
        "exp2": lambda x: 2**x,
        "expm1": lambda x: sp.exp(x) - 1,
        "ge": sp.Ge,
        "gt": sp.Gt,
        "le": sp.Le,
        "log1p": lambda x: sp.log(1 + x),
        "logistic": lambda x: 1 / (1 + sp.exp(-x)),
        "lt": sp.Lt,
        "max": sp.Max,
        "min": sp.Min,
        "mul": operator.mul,
        "ne": sp.Ne,
        "neg": operator.neg,
        "not": sp.Not,
        "or": sp.Or,
        "rsqrt": lambda x: 1 / sp.sqrt(x),
        "square": lambda x: x**2,
        "sub": operator.sub,
    }


def _convert(equation: Any, operand: Any) -> np.ndarray:
    import sympy

    if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
        raise ValueError(
            "No formula can be read from a function that turns states into integers or booleans."
        )
    if equation.invars[0].aval.dtype == bool:
        return map_elements(lambda truth: sympy.Piecewise((1, truth), (0, True)), operand)
    return operand


def _dot_general(equation: Any, left: Any, right: Any) -> Any:
    (left_axes, right_axes), batch = equation.params["dimension_numbers"]
    if any(batch):
        raise ValueError(
            "No formula can be read from a batched matrix product: write it as sums of products."
        )
    return np.tensordot(to_symbolic(left), to_symbolic(right), axes=(left_axes, right_axes))


def _integer_pow(equation: Any, operand: Any) -> np.ndarray:
    return map_elements(lambda x: x ** equation.params["y"], operand)


def _pow(_: Any, base: Any, exponent: Any) -> np.ndarray:
    if not is_symbolic(exponent):
        exponent = map_elements(to_exponent, np.asarray(exponent))
    return map_elements(operator.pow, to_symbolic(base), exponent)


def _scatter_add(equation: Any, operand: Any, indices: Any, updates: Any) -> Any:
    # Linear in the updates: its matrix comes from running it on unit vectors.
    result, updates = to_symbolic(operand), to_symbolic(updates)
    dtype = equation.invars[0].aval.dtype
    zeros = jnp.zeros(result.shape, dtype)
    for k, update in enumerate(updates.ravel()):
        unit = jnp.zeros(updates.size, dtype).at[k].set(1).reshape(updates.shape)
        column = equation.primitive.bind(zeros, jnp.asarray(indices), unit, **equation.params)
        result = result + np.asarray(column).astype(int).astype(object) * update
    return result


def _select_n(_: Any, which: Any, *cases: Any) -> Any:
    import sympy

    off, on = map(to_symbolic, cases)
    if not is_symbolic(which):
        return np.where(which, on, off)
    return map_elements(lambda c, a, b: sympy.Piecewise((b, c), (a, True)), which, off, on)


def _reduce(name: str) -> Callable[..., Any]:
    def rule(equation: Any, operand: Any) -> np.ndarray:
        import sympy

        axes = equation.params["axes"]
        kept = [k for k in range(operand.ndim) if k not in axes]
        rows = operand.transpose([*kept, *axes]).reshape([*(operand.shape[k] for k in kept), -1])
        result = np.empty(rows.shape[:-1], dtype=object)
        for place in np.ndindex(result.shape):
            result[place] = getattr(sympy, name)(*rows[place])
        return result

    return rule


# A rule takes the equation of the jaxpr and its operands, at least one of them an array of
# expressions, and returns an array of expressions.
FORMULAS: dict[str, Callable[..., Any]] = {
    "convert_element_type": _convert,
    "dot_general": _dot_general,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "reduce_max": _reduce("Max"),
    "reduce_min": _reduce("Min"),
    "reduce_prod": _reduce("Mul"),
    "reduce_sum": _reduce("Add"),
    "scatter_add": _scatter_add,
    "select_n": _select_n,
}

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
