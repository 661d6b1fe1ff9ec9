"""What each JAX primitive is in SymPy.

A rule of `FORMULAS` takes the equation of the jaxpr and its operands, at least one of them an array
of expressions, and returns an array of expressions.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._numbers import to_exponent
from ._symbolic_arrays import is_symbolic, map_elements, to_symbolic


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
