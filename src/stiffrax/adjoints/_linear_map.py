"""A linear map with its transpose, as one operation that JAX pushes tangents and pulls cotangents by.

`jax.custom_derivatives.linear_call` does the same, but refuses a derivative of what the map depends
on, which is the second derivative of a solve, and has no rule for `vmap`.
"""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, PyTree

_linear_map = Primitive("linear_map")
_linear_map.multiple_results = True


def linear_map(
    push: Callable[[Any, PyTree[Array]], PyTree[Array]],
    pull: Callable[[Any, PyTree[Array]], PyTree[Array]],
    given: Any,
    tangents: PyTree[Array],
    like: PyTree[jax.ShapeDtypeStruct],
    *,
    refusal: str,
) -> PyTree[Array]:
    """`push(given, tangents)`, linear in the tangents, whose transpose is `pull(given, cotangents)`.

    Only the one that is used is traced. `like` is what `push` returns; neither function closes over
    an array. Derivatives with respect to `given` are taken in forward mode, through the functions
    themselves; in reverse mode they raise `refusal`.
    """
    dynamic, static = eqx.partition(given, eqx.is_array)
    residuals, given_tree = jax.tree.flatten(dynamic)
    linear, in_tree = jax.tree.flatten(tangents)
    outputs, out_tree = jax.tree.flatten(like)
    count = len(residuals)

    def flat(function: Callable, tree: Any) -> Callable[..., list[Array]]:
        def call(*args: Array) -> list[Array]:
            given = eqx.combine(jax.tree.unflatten(given_tree, args[:count]), static)
            return jax.tree.leaves(function(given, jax.tree.unflatten(tree, args[count:])))

        return call

    out = _linear_map.bind(
        *residuals,
        *linear,
        push=flat(push, in_tree),
        pull=flat(pull, out_tree),
        count=count,
        inputs=tuple(_aval(x) for x in linear),
        outputs=tuple(_aval(x) for x in outputs),
        refusal=refusal,
    )
    return jax.tree.unflatten(out_tree, out)


def untold(where: Array, x: Array, *, refusal: str) -> Array:
    """NaN times `x` there, and nothing of a tangent that is zero.

    A product would be NaN in every column of a Jacobian, that of what does not move `x` as well.
    """

    def push(where: Array, x: Array) -> Array:
        return jnp.where(where & (x != 0), jnp.nan, jnp.zeros_like(x))

    def pull(where: Array, x: Array) -> Array:
        return jnp.where(where, jnp.nan, jnp.zeros_like(x))

    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return linear_map(push, pull, where, x, like, refusal=refusal)


def _aval(x: Any) -> ShapedArray:
    return ShapedArray(jnp.shape(x), x.dtype)


def _apply(*args: Array, push: Callable, **params: Any) -> list[Array]:
    del params
    return push(*args)


def _abstract(*args: Any, outputs: tuple, **params: Any) -> list[Any]:
    del args, params
    return list(outputs)


def _derivative(primals: Sequence, tangents: Sequence, **params: Any) -> tuple[list, list]:
    count, push = params["count"], params["push"]
    moving = [i for i, dot in enumerate(tangents[:count]) if type(dot) is not ad.Zero]
    linear_dot = [ad.instantiate_zeros(dot) for dot in tangents[count:]]
    if not moving:
        bind = ft.partial(_linear_map.bind, *primals[:count], **params)
        return bind(*primals[count:]), bind(*linear_dot)

    def moved(residuals: list[Array], linear: list[Array]) -> list[Array]:
        args = list(primals[:count])
        for i, x in zip(moving, residuals, strict=True):
            args[i] = x
        return push(*args, *linear)

    at = [primals[i] for i in moving], list(primals[count:])
    out, out_dot = jax.jvp(moved, at, ([tangents[i] for i in moving], linear_dot))
    return out, eqxi.nondifferentiable_backward(out_dot, msg=params["refusal"], symbolic=True)


def _transpose(cotangents: Sequence, *args: Any, **params: Any) -> list:
    count, linear = params["count"], args[params["count"] :]
    swapped = {"push": params["pull"], "pull": params["push"]}
    swapped |= {"inputs": params["outputs"], "outputs": params["inputs"]}
    out = _linear_map.bind(
        *args[:count], *map(ad.instantiate_zeros, cotangents), **(params | swapped)
    )
    wanted = [ad.is_undefined_primal(x) for x in linear]
    return [None] * count + [x if want else None for x, want in zip(out, wanted, strict=True)]


def _batch(args: Sequence, axes: Sequence, **params: Any) -> tuple[list, list]:
    count = params["count"]
    pairs = list(zip(args, axes, strict=True))
    size = next(x.shape[axis] for x, axis in pairs if axis is not None)
    # What is linear is batched throughout, so that the transpose sums over no lanes by itself.
    linear = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in pairs[count:]
    ]

    def batched(function: Callable, width: int) -> Callable[..., list[Array]]:
        return jax.vmap(function, in_axes=(*axes[:count], *[0] * width), axis_size=size)

    def wider(avals: tuple) -> tuple:
        return tuple(ShapedArray((size, *aval.shape), aval.dtype) for aval in avals)

    new = {
        "push": batched(params["push"], len(params["inputs"])),
        "pull": batched(params["pull"], len(params["outputs"])),
        "inputs": wider(params["inputs"]),
        "outputs": wider(params["outputs"]),
    }
    out = _linear_map.bind(*args[:count], *linear, **(params | new))
    return out, [0] * len(out)


_linear_map.def_impl(_apply)
_linear_map.def_abstract_eval(_abstract)
ad.primitive_jvps[_linear_map] = _derivative
ad.primitive_transposes[_linear_map] = _transpose
batching.primitive_batchers[_linear_map] = _batch
mlir.register_lowering(_linear_map, mlir.lower_fun(_apply, multiple_results=True))
