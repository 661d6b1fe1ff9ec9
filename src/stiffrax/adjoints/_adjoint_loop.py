"""The adaptive solve of the adjoint equation, from jump to jump, and quadrature over its result."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from ..stages import evaluate_polynomial
from ._adjoint_equation import (
    AbstractLinearEquation,
    AbstractLinearMethod,
    AdjointEquation,
    LinearStep,
)
from ._saved_values import SavedCotangents


@final
class CotangentJumps(eqx.Module):
    """Cotangents of saved states, the latest first, one row a time; `count` rows are filled."""

    ts: Shaped[Array, " slots"]
    values: Float[Array, "slots n"]
    count: Int[Array, ""]

    def at(self, index: Int[Array, ""], start: Shaped[Array, ""]) -> tuple[Array, Array]:
        """Time and value of a jump; after the last, the start of the solve and zero."""
        row, exists = jnp.minimum(index, self.ts.size - 1), index < self.count
        return jnp.where(exists, self.ts[row], start), jnp.where(exists, self.values[row], 0)


def cotangent_jumps(saved: list[SavedCotangents]) -> CotangentJumps:
    """Sorts the cotangents of all saved states by time, and adds up those of equal times."""
    ts = jnp.concatenate([jnp.where(one.filled, one.ts, -jnp.inf) for one in saved])
    values = jnp.concatenate([one.ys_bar for one in saved])
    order = jnp.argsort(-ts)
    ts, values = ts[order], values[order]
    is_new = jnp.concatenate([jnp.ones(1, bool), ts[1:] < ts[:-1]])
    row = jnp.cumsum(is_new) - 1
    filled = jnp.isfinite(ts)
    slots = ts.size
    values = jax.ops.segment_sum(jnp.where(filled[:, None], values, 0), row, slots)
    return CotangentJumps(
        jnp.full(slots, -jnp.inf, ts.dtype).at[row].set(ts),
        values,
        jnp.sum(is_new & filled),
    )


_SAFETY, _SMALLEST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 8.0
_FIRST_STEP = 1e-3


@final
class AdjointDense(eqx.Module):
    """One accepted step of the adjoint; or several, along a leading axis of every leaf."""

    t: Shaped[Array, "*k"]
    h: Shaped[Array, "*k"]
    start: Float[Array, "*k n"]
    polynomial: Float[Array, "*k s n"]


@final
class AdjointState(eqx.Module):
    """Where the adjoint is, and what it has gathered on the way."""

    t: Shaped[Array, ""]
    h: Shaped[Array, ""]
    jumps_done: Int[Array, ""]
    steps_taken: Int[Array, ""]
    accepted: Int[Array, ""]
    adjoint: Float[Array, " n"]
    integral: PyTree
    dense: AdjointDense | None


@final
class AdjointTolerances(eqx.Module):
    """When a step is good enough: a root mean square of scaled errors of at most one."""

    rtol: float
    atol: float
    method: AbstractLinearMethod

    def norm(self, error: PyTree, old: PyTree, new: PyTree) -> Float[Array, ""]:
        """The size of an error; infinite where it is not a number."""
        ratio = 1.0
        if self.method.order > self.method.error_order:
            # The estimate is of lower order than the result: ask it for as much less.
            exponent = self.method.error_order / (self.method.order + 1) - 1
            ratio = 0.1 * self.rtol**exponent

        def squares(error: Array, old: Array, new: Array) -> Array:
            size = jnp.maximum(jnp.abs(old), jnp.abs(new))
            return jnp.sum((error / (ratio * (self.atol + self.rtol * size))) ** 2)

        leaves = jax.tree.leaves(jax.tree.map(squares, error, old, new))
        norm = jnp.sqrt(sum(leaves) / sum(x.size for x in jax.tree.leaves(error)))
        return jnp.where(jnp.isfinite(norm), norm, jnp.inf)


def _integrals(
    equation: AdjointEquation, h: Array, step: LinearStep
) -> tuple[PyTree, PyTree | None]:
    """The integral over the step, and its error."""

    def pull(weights: Array, values: Array) -> PyTree:
        return equation.pull(step.ts, h.astype(weights.dtype) * weights[:, None] * values)

    error = None
    if step.error_weights is not None:
        error = pull(step.error_weights, step.error_values)
    return pull(step.weights, step.values), error


def _advance(
    equation: AdjointEquation,
    jumps: CotangentJumps,
    tolerances: AdjointTolerances,
    state: AdjointState,
) -> AdjointState:
    """One attempt at a step, to the next jump at most."""
    stop, jump = jumps.at(state.jumps_done, equation.record.t0[0])
    distance = state.t - stop
    # Not a tiny step after this one.
    arrives = state.h > 0.999 * distance
    h = jnp.where(arrives, distance, jnp.minimum(state.h, distance / 2 + state.h / 2))
    step = tolerances.method.step(equation, state.t, h, state.adjoint)
    errors, olds, news = [step.error], [state.adjoint], [step.end]
    integral = state.integral
    if integral is not None:
        increment, increment_error = _integrals(equation, h, step)
        integral = jax.tree.map(jnp.add, integral, increment)
        if increment_error is not None:
            errors.append(increment_error)
            olds.append(state.integral)
            news.append(integral)
    size = tolerances.norm(errors, olds, news)
    accept = size <= 1
    power = -1 / tolerances.method.error_order
    factor = _SAFETY * jnp.maximum(size, 1e-10) ** power
    factor = jnp.clip(factor, _SMALLEST_FACTOR, _LARGEST_FACTOR).astype(h.dtype)
    dense = state.dense
    if dense is not None and step.polynomial is not None:
        row = AdjointDense(state.t, h, state.adjoint, step.polynomial)
        # A step that is not accepted is overwritten by the next attempt.
        dense = jax.tree.map(lambda b, x: b.at[state.accepted].set(x), dense, row)
    arrived = accept & arrives
    new = AdjointState(
        t=jnp.where(arrives, stop, state.t - h),
        h=jnp.where(arrives, jnp.maximum(state.h, factor * h), factor * h),
        jumps_done=state.jumps_done + arrived.astype(int),
        steps_taken=state.steps_taken + 1,
        accepted=state.accepted + 1,
        adjoint=step.end + jnp.where(arrived, jump, 0),
        integral=integral,
        dense=None,
    )
    old = AdjointState(
        state.t,
        factor * h,
        state.jumps_done,
        state.steps_taken + 1,
        state.accepted,
        state.adjoint,
        state.integral,
        None,
    )
    state = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old)
    return eqx.tree_at(lambda s: s.dense, state, dense, is_leaf=lambda x: x is None)


def _running(
    equation: AdjointEquation, jumps: CotangentJumps, state: AdjointState
) -> Bool[Array, ""]:
    left = (state.t > equation.record.t0[0]) | (state.jumps_done < jumps.count)
    return left & (equation.record.count > 0)


def solve_adjoint(
    equation: AdjointEquation,
    jumps: CotangentJumps,
    tolerances: AdjointTolerances,
    *,
    max_steps: int,
    integrate: bool,
    keep_dense: bool,
) -> AdjointState:
    """Solves the adjoint equation; where `max_steps` do not suffice, all of the result is NaN."""
    t, value = jumps.at(jnp.zeros((), int), equation.record.t0[0])
    span = jnp.maximum(t - equation.record.t0[0], 0)
    zero = equation.no_integral()
    dense = None
    if keep_dense:
        powers, n = 3, value.size
        dense = AdjointDense(
            jnp.zeros(max_steps, t.dtype),
            jnp.zeros(max_steps, t.dtype),
            jnp.zeros((max_steps, n), value.dtype),
            jnp.zeros((max_steps, powers, n), value.dtype),
        )
    count = jnp.zeros((), int)
    state = AdjointState(
        t,
        _FIRST_STEP * span,
        count + 1,
        count,
        count,
        value,
        zero if integrate else None,
        dense,
    )

    def again(state: AdjointState) -> Array:
        return _running(equation, jumps, state) & (state.steps_taken < max_steps)

    state = lax.while_loop(again, lambda state: _advance(equation, jumps, tolerances, state), state)
    failed = _running(equation, jumps, state)
    adjoint, integral = jax.tree.map(
        lambda x: jnp.where(failed, jnp.nan, x), (state.adjoint, state.integral)
    )
    return eqx.tree_at(
        lambda s: (s.adjoint, s.integral),
        state,
        (adjoint, integral),
        is_leaf=lambda x: x is None,
    )


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
    value = dense.start[step][None] + evaluate_polynomial(dense.polynomial[step], theta)
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
