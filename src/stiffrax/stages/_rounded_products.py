"""Vector fields whose products are rounded before they are summed, whatever the compiler fuses."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

_PRODUCTS = {"mul", "integer_pow", "square"}
# A product that goes nowhere else is not fused with a sum.
_TAKES_FACTORS = {*_PRODUCTS, "div", "dot_general"}


def round_products(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    r"""The same function of `t` and `y`, each of its products rounded to the nearest number.

    Compilers contract `a b + c` to one fused multiply-add, which keeps the product to twice the
    digits. That is more accurate, and breaks what cancels: the rate $k_3 y_2 y_3$ that one species
    loses and another one gains is rounded in one equation and not in the other, and their sum,
    orders of magnitude below both, is noise. Adding a zero that is known at run time only makes
    the product the fused one, `a b + 0`, so that it costs nothing.

    Loops, branches and functions with derivatives of their own are left as they are.
    """

    def rounded(t: Array, y: Array) -> Array:
        closed = jax.make_jaxpr(function)(t, y)
        # Adding -0.0 changes no number, not even 0.0. No compiler knows that time is not NaN.
        zero = jnp.where(t == t, -0.0, t)
        (value,) = _evaluate(closed.jaxpr, closed.consts, (t, y), zero)
        return value

    return rounded


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], zero: Array) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    summed = _summed(jaxpr)

    def read(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for equation in jaxpr.eqns:
        inputs = [read(x) for x in equation.invars]
        name = equation.primitive.name
        if name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, zero)
        else:
            params = equation.primitive.get_bind_params(equation.params)
            # Older versions of JAX return functions apart.
            functions, params = params if isinstance(params, tuple) else ((), params)
            outputs = equation.primitive.bind(*functions, *inputs, **params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
            if name in _PRODUCTS and equation.outvars[0] in summed:
                outputs = [x + zero.astype(x.dtype) for x in outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(x) for x in jaxpr.outvars]


def _summed(jaxpr: Any) -> set[Any]:
    """Floating-point variables that may be the term of a sum."""
    users = [x for e in jaxpr.eqns if e.primitive.name not in _TAKES_FACTORS for x in e.invars]
    return {
        x
        for x in [*users, *jaxpr.outvars]
        if not isinstance(x, Literal) and jnp.issubdtype(x.aval.dtype, jnp.floating)
    }
