"""Formulas of single operations of JAX, on arrays of SymPy expressions."""

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._numbers import exponential, is_symbolic, map_elements, to_exponent, to_symbolic


def _finite(relation: Any) -> Any:
    import sympy as sp

    # A formula says nothing of infinities but those that are written.
    def relate(*sides: Any) -> Any:
        signs = [{sp.oo: 1, -sp.oo: -1}.get(x, 0) for x in sides]
        return relation(*(signs if any(signs) else sides))

    return relate


@functools.cache
def elementwise() -> dict[str, Callable[..., Any]]:
    """The functions of SymPy for the primitives that act element by element, by their names."""
    import sympy as sp
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import BooleanAtom, BooleanFunction

    @_finite
    def differ(a: Any, b: Any) -> Any:
        # `Ne` of two relations would be no condition that anything else reads.
        is_truth = any(isinstance(x, Relational | BooleanAtom | BooleanFunction) for x in (a, b))
        return sp.Xor(a, b) if is_truth else sp.Ne(a, b)

    trigonometric = (sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.atan2)
    hyperbolic = (sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh)
    others = (sp.log, sp.erf, sp.erfc, sp.digamma, sp.sqrt, sp.sign, sp.floor)
    return {function.__name__: function for function in (*trigonometric, *hyperbolic, *others)} | {
        "abs": sp.Abs,
        "add": operator.add,
        "add_any": operator.add,
        "and": sp.And,
        "bessel_i0e": lambda x: sp.exp(-sp.Abs(x)) * sp.besseli(0, x),
        "bessel_i1e": lambda x: sp.exp(-sp.Abs(x)) * sp.besseli(1, x),
        "cbrt": lambda x: sp.sign(x) * sp.Abs(x) ** sp.Rational(1, 3),
        "ceil": sp.ceiling,
        "clamp": lambda low, x, high: sp.Min(sp.Max(low, x), high),
        "div": operator.truediv,
        "eq": lambda a, b: sp.Not(differ(a, b)),
        "erf_inv": sp.erfinv,
        "exp": exponential,
        "exp2": lambda x: 2**x,
        "expm1": lambda x: exponential(x) - 1,
        "ge": _finite(sp.Ge),
        "gt": _finite(sp.Gt),
        "is_finite": lambda _: sp.true,
        "le": _finite(sp.Le),
        "lgamma": lambda x: sp.log(sp.Abs(sp.gamma(x))),
        "log1p": lambda x: sp.log(1 + x),
        "log2": lambda x: sp.log(x) / sp.log(2),
        "logaddexp": lambda a, b: sp.log(exponential(a) + exponential(b)),
        "logistic": lambda x: 1 / (1 + exponential(-x)),
        "lt": _finite(sp.Lt),
        "max": sp.Max,
        "min": sp.Min,
        "mul": operator.mul,
        "ne": differ,
        "neg": operator.neg,
        "not": sp.Not,
        "or": sp.Or,
        "polynomial": lambda x, *p: sum(c * x**k for k, c in enumerate(p)),
        # The remainder has the sign of the dividend.
        "rem": lambda x, y: sp.sign(x) * sp.Mod(sp.Abs(x), sp.Abs(y)),
        "rsqrt": lambda x: 1 / sp.sqrt(x),
        "square": lambda x: x**2,
        "stop_gradient": lambda x: x,
        "sub": operator.sub,
        "xor": sp.Xor,
    }


def refuse_whole_numbers() -> Any:
    """Raises `ValueError`: an expression would have to be a whole number."""
    raise ValueError(
        "No formula can be read from a function that turns states into integers or booleans."
    )


def _convert(equation: Any, operand: Any) -> np.ndarray:
    import sympy

    if equation.invars[0].aval.dtype == bool:
        return map_elements(lambda truth: sympy.Piecewise((1, truth), (0, True)), operand)
    to_floating = jnp.issubdtype(equation.params["new_dtype"], jnp.floating)
    if jnp.issubdtype(equation.invars[0].aval.dtype, jnp.floating) and not to_floating:
        refuse_whole_numbers()
    return operand


def _dot_general(equation: Any, left: Any, right: Any) -> Any:
    (left_axes, right_axes), (left_batch, right_batch) = equation.params["dimension_numbers"]
    count = itertools.count(left.ndim)
    names = list(range(left.ndim))
    # An axis of the right that is summed, or of the batch, has the name of its partner.
    shared = dict(zip((*right_batch, *right_axes), (*left_batch, *left_axes), strict=True))
    others = [shared[k] if k in shared else next(count) for k in range(right.ndim)]
    free = [k for k in names if k not in (*left_batch, *left_axes)]
    out = [*left_batch, *free, *(k for k in others if k >= left.ndim)]
    return np.einsum(to_symbolic(left), names, to_symbolic(right), others, out)


def _integer_pow(equation: Any, operand: Any) -> np.ndarray:
    return map_elements(lambda x: x ** equation.params["y"], operand)


def _pow(_: Any, base: Any, exponent: Any) -> np.ndarray:
    if not is_symbolic(exponent):
        exponent = map_elements(to_exponent, np.asarray(exponent))
    return map_elements(operator.pow, to_symbolic(base), exponent)


def _scatter(name: str, neutral: int, other: int) -> Callable[..., Any]:
    def rule(equation: Any, operand: Any, indices: Any, updates: Any) -> Any:
        # Where an update goes is seen from running it on numbers: all neutral but one.
        result, updates = to_symbolic(operand).copy(), to_symbolic(updates)
        dtype = equation.invars[0].aval.dtype
        base = jnp.full(result.shape, neutral, dtype)
        for k, update in enumerate(updates.ravel()):
            one = jnp.full(updates.size, neutral, dtype).at[k].set(other).reshape(updates.shape)
            moved = equation.primitive.bind(base, jnp.asarray(indices), one, **equation.params)
            for place in np.argwhere(np.asarray(moved) != neutral):
                result[tuple(place)] = elementwise()[name](result[tuple(place)], update)
        return result

    return rule


def choose(which: Any, cases: list[Any]) -> Any:
    """The case of the number that an expression has; a truth value counts as 0 or 1."""
    import sympy
    from sympy.logic.boolalg import Boolean

    if not isinstance(which, Boolean):
        which = sympy.piecewise_fold(which)
    pieces: Any = which.args if isinstance(which, sympy.Piecewise) else ()
    if pieces and all(x.is_Integer for x, _ in pieces):
        return sympy.Piecewise(*((cases[int(x)], condition) for x, condition in pieces))
    if isinstance(which, Boolean):
        if all(isinstance(x, Boolean) and not isinstance(x, sympy.Symbol) for x in cases):
            return sympy.ITE(which, cases[1], cases[0])
        return sympy.Piecewise((cases[1], which), (cases[0], True))
    if getattr(which, "is_Integer", False):
        return cases[int(which)]
    return refuse_whole_numbers()


def _select_n(_: Any, which: Any, *cases: Any) -> Any:
    cases = tuple(map(to_symbolic, cases))
    return map_elements(lambda k, *x: choose(k, list(x)), to_symbolic(which), *cases)


def _argmax(equation: Any, operand: Any) -> np.ndarray:
    import sympy

    (axis,) = equation.params["axes"]

    def first(row: Any) -> Any:
        if equation.invars[0].aval.dtype == bool:
            cases = [(k, truth) for k, truth in enumerate(row)]
            return sympy.Piecewise(*cases, (0, True))
        cases = [(k, sympy.And(*(x >= y for y in row))) for k, x in enumerate(row)]
        return sympy.Piecewise(*cases)

    rows = np.moveaxis(operand, axis, -1)
    result = np.empty(rows.shape[:-1], dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = first(rows[place])
    return result


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


def _cumulative(name: str) -> Callable[..., Any]:
    def rule(equation: Any, operand: Any) -> np.ndarray:
        combine = elementwise()[name]
        axis, turn = equation.params["axis"], -1 if equation.params["reverse"] else 1
        rows = np.moveaxis(operand, axis, 0)[::turn]
        total = itertools.accumulate(rows, lambda a, b: map_elements(combine, a, b))
        return np.moveaxis(np.stack(list(total))[::turn], 0, axis)

    return rule


# A rule takes the equation of the jaxpr and its operands, at least one of them an array of
# expressions, and returns an array of expressions.
FORMULAS: dict[str, Callable[..., Any]] = {
    "argmax": _argmax,
    "convert_element_type": _convert,
    "cumlogsumexp": _cumulative("logaddexp"),
    "cummax": _cumulative("max"),
    "cummin": _cumulative("min"),
    "cumprod": _cumulative("mul"),
    "cumsum": _cumulative("add"),
    "dot_general": _dot_general,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "reduce_and": _reduce("And"),
    "reduce_max": _reduce("Max"),
    "reduce_min": _reduce("Min"),
    "reduce_or": _reduce("Or"),
    "reduce_prod": _reduce("Mul"),
    "reduce_sum": _reduce("Add"),
    "scatter_add": _scatter("add", 0, 1),
    "scatter_max": _scatter("max", 0, 1),
    "scatter_min": _scatter("min", 0, -1),
    "scatter_mul": _scatter("mul", 1, 2),
    "select_n": _select_n,
}
