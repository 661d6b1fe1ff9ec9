"""Functions with a derivative rule of their own that no transformation takes apart."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray


def _to_struct(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, ShapedArray) else x


def _to_aval(x: Any) -> Any:
    return ShapedArray(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x


def _to_jax(x: Any) -> Any:
    # JAX hands constants on as NumPy arrays.
    return jnp.asarray(x) if isinstance(x, np.ndarray) else x


def with_derivative(
    name: str, function: Callable, rule: Callable[[tuple, tuple], tuple[Any, Any]]
) -> Callable:
    """Gives `function` a forward-mode rule, as `jax.custom_jvp` does, but as a JAX primitive.

    `jax.custom_jvp` forgets its rule where a `scan` around it is linearized (constants are hoisted
    out of the loop by partial evaluation): second derivatives would then go through the iteration
    itself, and be wrong. A primitive is never looked into.

    **Arguments:**

    - `function`: any pytrees in and out; closes over no array.
    - `rule`: called as `rule(primals, tangents)`; `None` is a tangent of zero, given and returned.
    """

    def abstract(*args: Any) -> Any:
        out = eqx.filter_eval_shape(function, *jax.tree.map(_to_struct, args))
        return jax.tree.map(_to_aval, out)

    def implementation(*args: Any) -> Any:
        return function(*jax.tree.map(_to_jax, args))

    def derivative(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        return rule(*jax.tree.map(_to_jax, (primals, tangents)))

    primitive = eqxi.create_vprim(
        name,
        eqxi.filter_primitive_def(implementation),
        eqxi.filter_primitive_def(abstract),
        eqxi.filter_primitive_jvp(derivative),
        None,
    )
    eqxi.register_impl_finalisation(primitive)

    def call(*args: Any) -> Any:
        return eqxi.filter_primitive_bind(primitive, *args)

    return call
