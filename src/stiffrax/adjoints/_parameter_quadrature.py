"""Adaptive quadrature of the parameter integral, over one step of the adjoint at a time."""

import functools
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._arguments import least_tolerance
from .._trees import select
from ..stages import evaluate_polynomial
from ._adjoint_equation import AbstractLinearEquation

# Halvings of a step of the adjoint; what then is left is taken as it is. Chosen, not measured: 2^24 is
# past the precision of a float32 time.
_DEPTH = 24
# Units of rounding above which it is looked at, and how often what is measured of it an error may be.
# Chosen, not measured: in double precision it is far below any tolerance.
_COARSE, _OF_ROUNDING = 1e-10, 10


@functools.cache
def clenshaw_curtis(intervals: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]; the even nodes are those of half as many intervals."""
    k = np.arange(intervals + 1)
    degrees = k[:, None]
    chebyshev = np.cos(np.pi * degrees * k / intervals)
    moments = np.where(k % 2 == 0, 1 / (1 - np.where(k == 1, 2, k) ** 2.0), 0)
    return (1 - np.cos(np.pi * k / intervals)) / 2, np.linalg.solve(chebyshev, moments)


@final
class AdjointStep(eqx.Module):
    """A step of the adjoint, back from `t` to `t - h`, with its polynomial."""

    t: Shaped[Array, ""]
    h: Shaped[Array, ""]
    start: Float[Array, " n"]
    polynomial: Float[Array, "s n"]

    def at(self, theta: Float[Array, " q"]) -> tuple[Shaped[Array, " q"], Float[Array, "q n"]]:
        """Times and values of the adjoint at fractions of the step."""
        values = self.start[None] + evaluate_polynomial(self.polynomial, theta)
        return self.t - self.h * theta.astype(self.t.dtype), values


@final
class _Intervals(eqx.Module):
    left: Float[Array, " depth"]
    length: Float[Array, " depth"]
    top: Int[Array, ""]


def add_integral(
    equation: AbstractLinearEquation,
    step: AdjointStep,
    total: PyTree,
    wanted: Bool[Array, ""],
    rtol: float,
    atol: float,
) -> PyTree:
    """Adds the integral over a step, if `wanted`; the step is halved until it is accurate.

    The error of an interval is the difference to the rule with half as many intervals. It must be
    below `atol + rtol * total` in every parameter, `total` being the integral so far. `rtol` is no
    less than state and parameter hold. In single precision an error may be rounding of the adjoint,
    which falls with the length of the interval alone: what changes of last digits make of the integral.
    """
    if not jax.tree.leaves(total):
        return total
    nodes, fine = clenshaw_curtis(8)
    coarse = np.zeros_like(fine)
    coarse[::2] = clenshaw_curtis(4)[1]
    dtype = step.start.dtype
    eps = float(jnp.finfo(dtype).eps)
    rtol = max(rtol, least_tolerance(dtype))

    def body(carry: tuple[_Intervals, PyTree]) -> tuple[_Intervals, PyTree]:
        todo, total = carry
        top = todo.top - 1
        left, length = todo.left[top], todo.length[top]
        ts, values = step.at(left + length * jnp.asarray(nodes, dtype))
        size = length * step.h.astype(dtype)

        def rule(weights: np.ndarray) -> PyTree:
            return equation.pull(ts, size * jnp.asarray(weights, dtype)[:, None] * values)

        part, error = rule(fine), rule(fine - coarse)
        new = jax.tree.map(jnp.add, total, part)
        allowed = jax.tree.map(
            lambda x: atol + max(rtol, least_tolerance(x.dtype)) * jnp.abs(x), new
        )
        if eps > _COARSE:
            k = jnp.arange(values.size, dtype=dtype).reshape(values.shape)
            digits = _OF_ROUNDING * eps * jnp.cos(1.0 + 2.4 * k)
            moved = size * jnp.asarray(fine, dtype)[:, None] * values * digits
            rounding = equation.pull(ts, moved)
            allowed = jax.tree.map(lambda a, x: a + jnp.abs(x), allowed, rounding)
        scaled = jax.tree.map(lambda e, a: jnp.abs(e) / a, error, allowed)
        worst = jnp.stack([jnp.max(x, initial=0) for x in jax.tree.leaves(scaled)])
        accept = ~(jnp.max(worst) > 1) | (top >= _DEPTH)
        half = length / 2
        halves = _Intervals(
            todo.left.at[top].set(left).at[top + 1].set(left + half),
            todo.length.at[top].set(half).at[top + 1].set(half),
            top + 2,
        )
        rest = _Intervals(todo.left, todo.length, top)
        return select(accept, rest, halves), select(accept, new, total)

    empty = jnp.zeros(_DEPTH + 2, dtype)
    whole = _Intervals(empty, empty.at[0].set(1), wanted.astype(int))
    _, total = lax.while_loop(lambda carry: carry[0].top > 0, body, (whole, total))
    return total
