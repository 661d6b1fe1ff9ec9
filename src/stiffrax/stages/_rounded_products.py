"""Vector fields whose products are rounded before they are summed, whatever the compiler fuses."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

_PRODUCTS = {"mul", "integer_pow", "square"}
# A product that goes nowhere else is not fused with a sum.
_TAKES_FACTORS = {*_PRODUCTS, "div", "dot_general"}


def reads_first_input(jaxpr: Any) -> bool:
    """Whether an output of a jaxpr may depend on its first input.

    An operation that takes the input and whose output is used counts, whatever it computes.
    """
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return used[0]


def round_products(function: Callable, look_at: Callable[[Any], None] | None = None) -> Callable:
    r"""The same function of `t` and of pytrees, each of its products rounded to the nearest number.

    Compilers contract `a b + c` to one fused multiply-add, which keeps the product to twice the
    digits. That is more accurate, and breaks what cancels: the rate $k_3 y_2 y_3$ that one species
    loses and another one gains is rounded in one equation and not in the other, and their sum,
    orders of magnitude below both, is noise. Adding a zero that is known at run time only makes
    the product the fused one, `a b + 0`, so that it costs nothing.

    What is written twice is computed once, and `-a b` is `a b` with another sign. A rate that one
    species loses and another one gains then has one cotangent, the difference of theirs. Written
    apart, both would be multiplied by the rate constant first, and rounded.

    Loops, branches and functions with derivatives of their own are left as they are. `look_at` is
    given the trace of the function, in which the time is the first input.
    """

    def rounded(t: Array, *args: PyTree[Array]) -> PyTree[Array]:
        closed, struct = jax.make_jaxpr(function, return_shape=True)(t, *args)
        if look_at is not None:
            look_at(closed.jaxpr)
        inputs = jax.tree.leaves((t, *args))
        values = _evaluate(closed.jaxpr, closed.consts, inputs, _Operations(_unknown_zero(t)))
        # What does not depend on the inputs comes out as a number of NumPy.
        return jax.tree.unflatten(jax.tree.structure(struct), list(map(jnp.asarray, values)))

    return rounded


def _unknown_zero(t: Array) -> Array:
    # Adding -0.0 changes no number, not even 0.0. No compiler knows that time is not NaN.
    return jnp.where(t == t, -0.0, t)


def round_cotangents(t: Array, x: Array) -> Array:
    """`x` itself, whose cotangents are rounded if they are products.

    Fused with one sum and not with the other, `h V` would be two numbers.
    """
    zero = _unknown_zero(lax.stop_gradient(t)).astype(x.dtype)

    def add(_: Any, x: Array) -> Array:
        return x + zero

    # The identity, with a transpose of its own.
    return lax.custom_linear_solve(lambda x: x, x, add, add)


class _Operations:
    """Applies operations of one output, each once to the same inputs."""

    def __init__(self, zero: Array):
        self.zero = zero
        # With the inputs: values that no longer exist could lend their identity to others.
        self.known: dict[Hashable, tuple[Any, Sequence[Any]]] = {}
        self.negatives: dict[int, Any] = {}

    def apply(self, primitive: Any, inputs: list[Any], params: dict, is_summed: bool) -> Any:
        """The output, rounded if it is a product and `is_summed`."""
        if primitive is lax.mul_p and any(map(self._is_negative, inputs)):
            negative = sum(map(self._is_negative, inputs)) == 1
            inputs = [self._without_sign(x) for x in inputs]
            product = self.apply(primitive, inputs, params, is_summed)
            return self.apply(lax.neg_p, [product], {}, False) if negative else product
        if primitive is lax.neg_p and id(inputs[0]) in self.negatives:
            return self.negatives[id(inputs[0])]
        identities = [_identity(x) for x in inputs]
        if primitive is lax.mul_p:
            identities.sort(key=str)
        key = (primitive, is_summed, tuple(identities), _hashable(params))
        if key not in self.known:
            output = primitive.bind(*inputs, **params)
            if is_summed and primitive.name in _PRODUCTS:
                output = output + self.zero.astype(output.dtype)
            self.known[key] = output, inputs
            if primitive is lax.neg_p:
                self.negatives[id(output)] = inputs[0]
        return self.known[key][0]

    def _is_negative(self, x: Any) -> bool:
        if _is_literal(x):
            return not np.iscomplexobj(x) and bool(x < 0)
        return id(x) in self.negatives

    def _without_sign(self, x: Any) -> Any:
        return abs(x) if _is_literal(x) else self.negatives.get(id(x), x)


def _is_literal(x: Any) -> bool:
    return np.ndim(x) == 0 and not isinstance(x, jax.Array)


def _identity(x: Any) -> Hashable:
    # Literals are read anew each time.
    return (jnp.result_type(x), str(np.asarray(x).item())) if _is_literal(x) else id(x)


def _hashable(params: dict) -> Hashable:
    key = tuple(sorted(params.items()))
    try:
        hash(key)
    except TypeError:
        return tuple((name, id(value)) for name, value in key)
    return key


def _evaluate(
    jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], operations: _Operations
) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    summed = _summed(jaxpr)

    def read(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for equation in jaxpr.eqns:
        inputs, primitive = [read(x) for x in equation.invars], equation.primitive
        if primitive.name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, operations)
        else:
            params = primitive.get_bind_params(equation.params)
            # Older versions of JAX return functions apart.
            functions, params = params if isinstance(params, tuple) else ((), params)
            if primitive.multiple_results or functions:
                outputs = primitive.bind(*functions, *inputs, **params)
                outputs = outputs if primitive.multiple_results else [outputs]
            else:
                is_summed = equation.outvars[0] in summed
                outputs = [operations.apply(primitive, inputs, params, is_summed)]
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
