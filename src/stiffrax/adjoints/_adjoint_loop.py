"""The adaptive solve of the adjoint equation, back over the recorded steps one after another, and
adaptive quadrature of the parameter integral over one step of it at a time.

No step of the adjoint is longer than the recorded step that it is in. Its own error estimate alone
is no guide: where nothing happens it is zero, the step grows, and leaps over whatever the forward
solve took short steps for; every estimate after that is still zero. (Spans of a few recorded steps
were rejected: `y(t)` is not smooth across their ends, nor the field at a jump.)
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._arguments import least_tolerance
from .._flat_state import flatten_state
from .._trees import nonzero, recompute_where, select
from ..diffrax_loop import StepRecord
from ..stages import evaluate_polynomial, stop_gradient
from ._adjoint_equation import (
    AbstractLinearEquation,
    AbstractLinearMethod,
    AdjointEquation,
    LinearStep,
)
from ._saved_values import CotangentJumps
from ._step_equations import StepEquations

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
    atol: Float[Array, " n"] | float,
) -> PyTree:
    """What the adjoint's own absolute tolerance, and its rounding, may make of an integral.

    No integral is known better: its terms may cancel, or come from an adjoint that is all but zero.
    """
    atol = jnp.broadcast_to(jnp.asarray(atol, values.dtype), values.shape)
    part = jnp.maximum(atol, _OF_ROUNDING * jnp.finfo(values.dtype).eps)
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
    sizes: Float[Array, " n"] | float = 1.0,
) -> PyTree:
    """Adds the integral over a step, if `wanted`; the step is halved until it is accurate.

    The error of an interval is the difference to the rule with half as many intervals. It must be
    below `atol * largest + rtol * total` in every parameter, `total` being the integral so far and
    `largest` its largest entry in the same leaf, or be what errors of the adjoint make of it.
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
                least = max(rtol, least_tolerance(new.dtype)) * jnp.abs(new)
                allowed = noise + atol * jnp.max(jnp.abs(new), initial=0) + least
                scaled = jnp.where(error == 0, 0, jnp.abs(error) / allowed)
                return jnp.max(scaled, initial=0).astype(dtype)

            scaled = jax.tree.map(one, *stop_gradient((error, new)), noise)
            return jnp.max(jnp.stack(jax.tree.leaves(scaled)))

        found = worst(jax.tree.map(lambda x: jnp.zeros((), x.real.dtype), new))
        found = recompute_where(
            found > 1, lambda: worst(from_adjoint(*rule_of, atol=atol * sizes)), found
        )
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


# SAFE, and the bounds of RADAU5 on a change of the step, FACL and FACR (Hairer and Wanner).
_SAFETY, _SMALLEST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 8.0


@final
class AdjointState(eqx.Module):
    """Where the adjoint is, and what it has gathered on the way.

    - `step`, `left`: the recorded step that it is in, and the fraction of it still to go.
    - `h`: the step size to try next.
    - `attempts`, `steps_taken`: steps tried, accepted or not, since the last jump or end of a
      recorded step, and in all.
    - `stuck`: whether no smaller step can be tried.
    """

    step: Int[Array, ""]
    left: Shaped[Array, ""]
    h: Shaped[Array, ""]
    jumps_done: Int[Array, ""]
    attempts: Int[Array, ""]
    steps_taken: Int[Array, ""]
    stuck: Bool[Array, ""]
    adjoint: Float[Array, " n"]
    integral: PyTree


@final
class AdjointTolerances(eqx.Module):
    """When a step is good enough: root mean squares of scaled errors of at most one.

    `atol` is a part of `sizes` of the adjoint, and of the largest entry of a leaf of the integral.

    `quadrature`: whether the integral is made by adaptive quadrature of each accepted step, and
    not by the rule of the method.
    """

    rtol: float
    atol: float
    method: AbstractLinearMethod
    quadrature: bool = False
    sizes: Float[Array, " n"] | float = 1.0

    def norm(
        self, error: list, old: list, new: list, noise: Callable[[], PyTree] | None = None
    ) -> Float[Array, ""]:
        """The largest of some errors; infinite where one, or what it is of, is not a number.

        They are of the adjoint and of the integral, or of the first alone. `noise` of the second is
        allowed besides; it is only looked at where that matters.
        """
        size = self._norm(error, old, new, None)
        if noise is None:
            return size
        return recompute_where(size > 1, lambda: self._norm(error, old, new, noise()), size)

    def _norm(self, error: list, old: list, new: list, noise: PyTree) -> Float[Array, ""]:
        state, noises = error[0].dtype, jax.tree.leaves(noise)

        def scaled(error: Array, old: Array, new: Array, *, more: Any, part: bool) -> Array:
            rtol, ratio = max(self.rtol, least_tolerance(state), least_tolerance(error.dtype)), 1.0
            if self.method.order > self.method.error_order:
                # The estimate is of lower order than the result: ask it for as much less.
                exponent = self.method.error_order / (self.method.order + 1) - 1
                ratio = 0.1 * rtol**exponent
            size = jnp.maximum(jnp.abs(old), jnp.abs(new)).ravel()
            unit = jnp.max(size, initial=0) if part else self.sizes
            error = jnp.abs(error).ravel()
            allowed = ratio * (self.atol * unit + more + rtol * size)
            value = jnp.where(error == 0, 0, error / allowed)
            # What is zero, as of a parameter that does not matter, makes no mean smaller.
            counted = ((error > 0) | (size > 0)).astype(value.dtype)
            return jnp.stack([jnp.where(jnp.isfinite(size), value, jnp.inf), counted])

        # A parameter of lower precision loosens no tolerance but its own.
        kinds: dict[Any, list] = {}
        for i, trees in enumerate(zip(error, old, new, strict=True)):
            for j, leaves in enumerate(zip(*map(jax.tree.leaves, trees), strict=True)):
                more = noises[j] if i and noises else 0
                one = scaled(*leaves, more=more, part=i > 0)
                kinds.setdefault((i, leaves[0].dtype), []).append(one)
        parts = []
        for rows in kinds.values():
            values, counted = jnp.concatenate(rows, axis=1)
            mean = jnp.sum(values**2) / jnp.maximum(jnp.sum(counted), 1)
            parts.append(jnp.sqrt(mean).astype(state))
        norm = functools.reduce(jnp.maximum, parts)
        return jnp.where(jnp.isfinite(norm), norm, jnp.inf)

    def growth(self, size: Float[Array, ""]) -> Float[Array, ""]:
        """How much longer than the last one the next step may be, after an error of that size."""
        factor = _SAFETY * jnp.maximum(size, 1e-10) ** (-1 / self.method.error_order)
        return jnp.clip(factor, _SMALLEST_FACTOR, _LARGEST_FACTOR)


def _integrals(
    equation: AdjointEquation, h: Array, step: LinearStep
) -> tuple[PyTree, PyTree | None]:

    def pull(weights: Array, values: Array) -> PyTree:
        return equation.pull(step.ts, h.astype(weights.dtype) * weights[:, None] * values)

    error = None
    if step.error_weights is not None:
        error = pull(step.error_weights, step.error_values)
    return pull(step.weights, step.values), error


def _noise(
    tolerances: AdjointTolerances, equation: AdjointEquation, h: Array, step: LinearStep
) -> Callable[[], PyTree]:
    weights = h.astype(step.end.dtype) * cast(Array, step.error_weights)
    atol = tolerances.atol * tolerances.sizes
    return lambda: from_adjoint(equation, step.ts, weights, step.error_values, atol)


def _advance(
    equations: StepEquations,
    record: StepRecord,
    jumps: CotangentJumps,
    tolerances: AdjointTolerances,
    state: AdjointState,
) -> AdjointState:
    """One attempt at a step: to the next jump in the recorded step, or its start, at most."""
    recorded = jax.tree.map(lambda x: x[0], record.take(state.step[None]))
    equation = AdjointEquation(equations, recorded)
    stop, jump = jumps.within(state.step, state.jumps_done)
    # A solve that starts at a jump begins with a step of no length.
    length, empty = recorded.t1 - recorded.t0, recorded.t1 == recorded.t0
    distance, fraction = state.left - stop, state.h / jnp.where(empty, 1, length)
    # Not a tiny step after this one.
    arrives = (fraction > 0.999 * distance) | empty
    fraction = jnp.where(arrives, distance, jnp.minimum(fraction, (distance + fraction) / 2))
    h = fraction * length
    step = tolerances.method.step(equation, state.left, fraction, state.adjoint)
    errors, olds, news, noise = [step.error], [state.adjoint], [step.end], None
    integral = state.integral
    if not tolerances.quadrature:
        increment, increment_error = _integrals(equation, fraction, step)
        integral = jax.tree.map(jnp.add, integral, increment)
        if increment_error is not None:
            errors, olds = [step.error, increment_error], [state.adjoint, state.integral]
            news = [step.end, integral]
            noise = _noise(tolerances, *stop_gradient((equation, fraction, step)))
    # The sizes of steps take no part in second derivatives.
    size = tolerances.norm(*stop_gradient((errors, olds, news)), noise=noise)
    accept = size <= 1
    if tolerances.quadrature and step.polynomial is not None:
        piece = AdjointStep(state.left, fraction, state.adjoint, step.polynomial)
        allowed = tolerances.rtol, tolerances.atol, tolerances.sizes
        integral = add_integral(equation, piece, integral, accept, *allowed)
    factor = tolerances.growth(size).astype(h.dtype)
    # Without a bound it would overflow where the adjoint is zero.
    following = jnp.minimum(factor * h, record.t1[record.count - 1] - record.t0[0])
    left = jnp.where(arrives, stop, state.left - fraction)
    done = left <= 0
    new = AdjointState(
        step=state.step - done.astype(state.step.dtype),
        left=jnp.where(done, 1, left),
        h=jnp.where(arrives, jnp.maximum(state.h, following), following),
        jumps_done=state.jumps_done + (arrives & ~done).astype(int),
        attempts=jnp.where(arrives, 0, state.attempts + 1),
        steps_taken=state.steps_taken + 1,
        stuck=jnp.zeros((), bool),
        adjoint=step.end + jnp.where(done, jumps.nodes[state.step], jnp.where(arrives, jump, 0)),
        integral=integral,
    )
    old = replace(
        state,
        h=following,
        attempts=state.attempts + 1,
        steps_taken=state.steps_taken + 1,
        stuck=state.left - factor * fraction >= state.left,
    )
    return select(accept, new, old)


def _adjoint_sizes(record: StepRecord, jumps: CotangentJumps) -> Float[Array, " n"]:
    """What counts as one in each component of the adjoint; the largest cotangent is about one.

    The largest change of the loss, cotangent times state, over the size of its state; at most one.
    """
    steps = jax.vmap(lambda y: flatten_state(y)[0])(record.y0)
    steps = jnp.where((jnp.arange(len(steps)) < record.count)[:, None], steps, 0)
    found = [steps, flatten_state(record.y_end)[0][None]], [jumps.nodes, jumps.values]
    every = (jnp.abs(jnp.concatenate(rows)) for rows in stop_gradient(found))
    states, cotangents = (jnp.max(jnp.where(jnp.isfinite(x), x, 0), axis=0) for x in every)
    change = jnp.max(cotangents * states)
    return jnp.where((states > change) & (change > 0), change / nonzero(states), 1)


def solve_adjoint(
    equations: StepEquations,
    record: StepRecord,
    jumps: CotangentJumps,
    tolerances: AdjointTolerances,
    *,
    max_steps: int,
) -> AdjointState:
    """Solves the adjoint equation; where that fails, all of the result is NaN."""
    # It is linear: this changes no digit.
    unit = jumps.unit()
    jumps = replace(jumps, nodes=jumps.nodes / unit, values=jumps.values / unit)
    tolerances = replace(tolerances, sizes=_adjoint_sizes(record, jumps))
    count = record.count
    last = jnp.maximum(count - 1, 0)
    zero = jnp.zeros((), int)
    start = AdjointState(
        step=count - 1,
        left=jnp.ones((), record.t0.dtype),
        # What the forward solve could step over, and most often all that is needed.
        h=record.t1[last] - record.t0[last],
        jumps_done=zero,
        attempts=zero,
        steps_taken=zero,
        stuck=jnp.zeros((), bool),
        adjoint=jumps.nodes[count],
        integral=jax.tree.map(jnp.zeros_like, equations.parameters),
    )

    def again(state: AdjointState) -> Array:
        return (state.step >= 0) & (state.attempts < max_steps) & ~state.stuck

    def advance(state: AdjointState) -> Any:
        return _advance(equations, record, jumps, tolerances, state)

    state = lax.while_loop(again, advance, start)

    def whole(x: Array) -> Array:
        if jnp.iscomplexobj(x):
            return lax.complex(whole(x.real), whole(x.imag))
        # A narrow leaf may hold the product, and not the unit.
        wide = max(x.dtype, unit.dtype, key=lambda dtype: jnp.finfo(dtype).bits)
        product = (x.astype(wide) * unit.astype(wide)).astype(x.dtype)
        return jnp.where(state.step >= 0, jnp.nan, product)

    adjoint, integral = jax.tree.map(whole, (state.adjoint, state.integral))
    return eqx.tree_at(lambda s: (s.adjoint, s.integral), state, (adjoint, integral))
