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
from .._trees import recompute_where, select
from ..stages import evaluate_polynomial, stop_gradient
from ._adjoint_equation import AbstractLinearEquation

# Halvings of a step of the adjoint; what then is left is taken as it is. Chosen, not measured: 2^24 is
# past the precision of a float32 time.
_DEPTH = 24
# Units of rounding that the adjoint may be wrong by. Chosen, not measured.
_OF_ROUNDING = 10


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


def from_adjoint(
    equation: AbstractLinearEquation,
    ts: Shaped[Array, " q"],
    weights: Float[Array, " q"],
    values: Float[Array, "q n"],
    atol: float,
) -> PyTree:
    """What the adjoint's own absolute tolerance, and its rounding, may make of an integral.

    No integral is known better: its terms may cancel, or come from an adjoint that is all but zero.
    """
    part = max(atol, _OF_ROUNDING * float(jnp.finfo(values.dtype).eps))
    errors = (atol + part * jnp.abs(values)) * jnp.abs(weights)[:, None]
    k = jnp.arange(values.size, dtype=values.dtype).reshape(values.shape)
    pulled = equation.pull(ts, errors * jnp.cos(1.0 + 2.4 * k))
    return jax.tree.map(lambda x: jnp.max(jnp.abs(x), initial=0), pulled)


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
    below `atol * largest + rtol * total` in every parameter, `total` being the integral so far and
    `largest` its largest entry in the same leaf, or be what errors of the adjoint make of it. `rtol`
    is no less than state and parameter hold.
    """
    if not jax.tree.leaves(total):
        return total
    nodes, fine = clenshaw_curtis(8)
    coarse = np.zeros_like(fine)
    coarse[::2] = clenshaw_curtis(4)[1]
    dtype = step.start.dtype
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
        rule_of = stop_gradient((equation, ts, size * jnp.asarray(fine, dtype), values))

        def worst(noise: PyTree) -> Array:
            def one(error: Array, new: Array, noise: Array) -> Array:
                sizes = jnp.abs(new)
                least = max(rtol, least_tolerance(new.dtype))
                allowed = noise + atol * jnp.max(sizes, initial=0) + least * sizes
                scaled = jnp.where(error == 0, 0, jnp.abs(error) / allowed)
                return jnp.max(scaled, initial=0).astype(dtype)

            scaled = jax.tree.map(one, *stop_gradient((error, new)), noise)
            return jnp.max(jnp.stack(jax.tree.leaves(scaled)))

        found = worst(jax.tree.map(lambda x: jnp.zeros((), x.real.dtype), new))
        found = recompute_where(found > 1, lambda: worst(from_adjoint(*rule_of, atol=atol)), found)
        accept = ~(found > 1) | (top >= _DEPTH)
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
