"""The parameter integral of a solved adjoint equation, by adaptive Clenshaw-Curtis quadrature."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from ..stages import evaluate_polynomial
from ._adjoint_equation import AbstractLinearEquation
from ._adjoint_loop import AdjointDense

# Halvings of a step of the adjoint; what then is left is taken as it is.
_DEPTH = 24


@functools.cache
def clenshaw_curtis(intervals: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]; the even nodes are those of half as many intervals."""
    k = np.arange(intervals + 1)
    degrees = k[:, None]
    chebyshev = np.cos(np.pi * degrees * k / intervals)
    moments = np.where(k % 2 == 0, 1 / (1 - np.where(k == 1, 2, k) ** 2.0), 0)
    return (1 - np.cos(np.pi * k / intervals)) / 2, np.linalg.solve(chebyshev, moments)


@final
class Intervals(eqx.Module):
    """Fractions of one step still to be done, as a stack; `top` of them are left."""

    step: Int[Array, ""]
    left: Float[Array, " depth"]
    length: Float[Array, " depth"]
    top: Int[Array, ""]


def _whole_step(step: Any, dtype: Any) -> Intervals:
    left, length = jnp.zeros(_DEPTH + 2, dtype), jnp.zeros(_DEPTH + 2, dtype)
    return Intervals(jnp.asarray(step), left, length.at[0].set(1), jnp.ones((), int))


def _adjoint_at(
    dense: AdjointDense, step: Array, theta: Float[Array, " q"]
) -> tuple[Shaped[Array, " q"], Float[Array, "q n"]]:
    value = dense.start[step] + evaluate_polynomial(dense.polynomial[step], theta)
    return dense.t[step] - dense.h[step] * theta.astype(dense.t.dtype), value


def integrate(
    equation: AbstractLinearEquation,
    dense: AdjointDense,
    count: Int[Array, ""],
    rtol: float,
    atol: float,
) -> PyTree:
    """The integral over all recorded steps of the adjoint, each halved until it is accurate.

    The error of an interval is the difference to the rule with half as many intervals. It must be
    below `atol + rtol * total` in every parameter, `total` being the integral so far.
    """
    nodes, fine = clenshaw_curtis(8)
    coarse = np.zeros_like(fine)
    coarse[::2] = clenshaw_curtis(4)[1]
    dtype = dense.start.dtype

    def body(carry: tuple[Intervals, PyTree]) -> tuple[Intervals, PyTree]:
        todo, total = carry
        top = todo.top - 1
        left, length = todo.left[top], todo.length[top]
        ts, values = _adjoint_at(dense, todo.step, left + length * jnp.asarray(nodes, dtype))
        size = length * dense.h[todo.step].astype(dtype)

        def rule(weights: np.ndarray) -> PyTree:
            return equation.pull(ts, size * jnp.asarray(weights, dtype)[:, None] * values)

        part, error = rule(fine), rule(fine - coarse)
        new = jax.tree.map(jnp.add, total, part)
        scaled = jax.tree.map(lambda e, x: jnp.abs(e) / (atol + rtol * jnp.abs(x)), error, new)
        worst = jnp.stack([jnp.max(x, initial=0) for x in jax.tree.leaves(scaled)])
        accept = ~(jnp.max(worst) > 1) | (top >= _DEPTH)
        half = length / 2
        halves = Intervals(
            todo.step,
            todo.left.at[top].set(left).at[top + 1].set(left + half),
            todo.length.at[top].set(half).at[top + 1].set(half),
            top + 2,
        )
        rest = Intervals(todo.step, todo.left, todo.length, top)
        following = _whole_step(todo.step + 1, dtype)
        done = jax.tree.map(lambda a, b: jnp.where(top > 0, a, b), rest, following)
        todo = jax.tree.map(lambda a, b: jnp.where(accept, a, b), done, halves)
        return todo, jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, total)

    zero = equation.no_integral()
    if not jax.tree.leaves(zero):
        return zero
    _, total = lax.while_loop(
        lambda carry: carry[0].step < count, body, (_whole_step(0, dtype), zero)
    )
    return total
