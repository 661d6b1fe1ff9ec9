"""Rounding in Newton's method, measured."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

# Two directions, each taken both ways. Chosen, not measured.
_PROBES = 4
# The time, later and earlier by one last digit; before all others.
_PROBES_OF_TIME = 2
# A displacement may be worth so many digits of the time: each stage rounds its own, and all are
# measured together. Chosen, not measured.
_DIGITS_OF_TIME = 4
# By how many last digits the iterate is changed: rounding of a sum with the start of a step must not
# undo that.
_DIGITS = 4
# A displacement may be this many times what was measured, or the size of a component. Rounding is
# not normally distributed: a measurement may by chance be much too small.
_OF_MEASURED, _OF_SIZE = 30, 10
# So small a part of a component is never worth a failure. Chosen, not measured.
_NEGLIGIBLE = 1e-10


def _direction(like: Array, probe: Int[Array, ""]) -> Array:
    # No two entries alike: equal changes of two large terms would cancel in their difference.
    k = jnp.arange(like.size, dtype=like.dtype).reshape(like.shape)
    phase = 2.4 * k + 2.0 * (probe // 2).astype(like.dtype)
    size = 0.75 + 0.25 * jnp.sin(1.7 * phase)
    return jnp.where((jnp.cos(phase) > 0) == (probe % 2 == 0), size, -size)


def explained_by_rounding(
    displacement: Callable[[PyTree[Array], Array], PyTree[Array]],
    y: PyTree[Array],
    dy: PyTree[Array],
    size: PyTree[Array],
    near: Callable[[PyTree[Array]], Bool[Array, ""]],
    asked: Bool[Array, ""],
    *,
    timed: Bool[Array, ""] | None,
) -> Bool[Array, ""]:
    r"""Whether a displacement is what changes of last digits of time and iterate make of it.

    $$|\Delta(y)| \lesssim |\Delta(y + p) + \Delta(y - p) - 2 \Delta(y)|
      + |\Delta(t \pm q) - \Delta(t)|, \qquad p \sim \epsilon |y|, \quad q \sim \epsilon |t|,$$

    in every component. What is linear in `p`, as where the Jacobian is frozen, cancels; rounding in
    the vector field, which a small difference of large terms amplifies, does not. What is linear in
    `q` counts: far from zero `y - t` is rounded as `t` is.

    **Arguments:**

    - `displacement`: of any iterate, with times later by so many of their last digits.
    - `y`, `dy`: the iterate, and its displacement.
    - `size`: of each component, of the shape of `y`, or without its first axis, that of the stages.
    - `near`: whether a displacement, less what the time makes of it, is small enough for rounding.
    - `asked`: where false, nothing is evaluated and the result means nothing.
    - `timed`: whether what the time makes of it counts; `None` where there is no time.
    """

    def probe(carry: tuple[Array, PyTree, PyTree, PyTree]) -> tuple[Array, PyTree, PyTree, PyTree]:
        k, other, found, by_time = carry
        of_time = k < _PROBES_OF_TIME

        def moved(y: Array, size: Array) -> Array:
            last = _DIGITS * float(jnp.finfo(y.dtype).eps) * jnp.broadcast_to(size, y.shape)
            return y + (_direction(last, k) * jnp.where(of_time, 0, last)).astype(y.dtype)

        digits = jnp.where(of_time, 1 - 2 * k, 0)
        change = jax.tree.map(jnp.subtract, displacement(jax.tree.map(moved, y, size), digits), dy)
        curved = jax.tree.map(lambda a, b: jnp.abs(a + b), change, other)
        # Of both sides the lesser one: next to a jump in time the other means nothing.
        slope = jax.tree.map(lambda a, b: jnp.minimum(jnp.abs(a), jnp.abs(b)), change, other)
        is_pair = k % 2 == 1
        found = _larger(found, curved, is_pair & ~of_time)
        return k + 1, change, found, _larger(by_time, slope, is_pair & of_time)

    def rest(d: Array, by_time: Array, size: Array) -> Array:
        return jnp.maximum(jnp.abs(d) - _DIGITS_OF_TIME * _of_stages(by_time, size), 0)

    def is_open(carry: tuple[Array, PyTree, PyTree, PyTree]) -> Array:
        k, *_, by_time = carry
        goes_on = (k < _PROBES_OF_TIME) | near(jax.tree.map(rest, dy, by_time, size))
        return asked & goes_on & (k < _PROBES_OF_TIME + _PROBES)

    first = _PROBES_OF_TIME if timed is None else jnp.where(timed, 0, _PROBES_OF_TIME)
    zeros, none = (jax.tree.map(f, dy) for f in (jnp.zeros_like, lambda x: jnp.abs(0 * x)))
    start = jnp.asarray(first), zeros, none, none
    *_, found, by_time = lax.while_loop(is_open, probe, start)

    def explained(rest: Array, found: Array, size: Array) -> Array:
        least = max(_OF_SIZE * float(jnp.finfo(rest.dtype).eps), _NEGLIGIBLE)
        own = least * jnp.broadcast_to(size, rest.shape)
        return jnp.all(rest <= _OF_MEASURED * _of_stages(found, size) + own)

    left = jax.tree.map(rest, dy, by_time, size)
    parts = jax.tree.leaves(jax.tree.map(explained, left, found, size))
    return near(left) & jnp.all(jnp.stack(parts))


def _of_stages(measured: Array, size: Array) -> Array:
    return measured if size.ndim == measured.ndim else jnp.max(measured, axis=0, keepdims=True)


def _larger(known: PyTree, new: PyTree, counts: Bool[Array, ""]) -> PyTree:
    # What is next to the edge of a field's domain tells nothing beyond it.
    return jax.tree.map(
        lambda a, b: jnp.where(counts & (b > a) & jnp.isfinite(b), b, a), known, new
    )
