"""Rounding in Newton's method, measured."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

# Two directions, each taken both ways. Chosen, not measured.
_PROBES = 4
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
    displacement: Callable[[PyTree[Array]], PyTree[Array]],
    y: PyTree[Array],
    dy: PyTree[Array],
    size: PyTree[Array],
    asked: Bool[Array, ""],
) -> Bool[Array, ""]:
    r"""Whether a displacement is what changes of last digits of the iterate make of it.

    $$|\Delta(y)| \lesssim |\Delta(y + p) + \Delta(y - p) - 2 \Delta(y)|, \qquad p \sim \epsilon |y|,$$

    in every component. What is linear in `p`, as where the Jacobian is frozen, cancels; rounding in
    the vector field, which a small difference of large terms amplifies, does not.

    **Arguments:**

    - `displacement`: of any iterate.
    - `y`, `dy`: the iterate, and its displacement.
    - `size`: of each component, of the shape of `y`, or without its first axis, that of the stages.
    - `asked`: where false, nothing is evaluated and the result means nothing.
    """

    def probe(carry: tuple[Array, PyTree, PyTree]) -> tuple[Array, PyTree, PyTree]:
        k, other, found = carry

        def moved(y: Array, size: Array) -> Array:
            last = _DIGITS * float(jnp.finfo(y.dtype).eps) * jnp.broadcast_to(size, y.shape)
            return y + (_direction(last, k) * last).astype(y.dtype)

        change = jax.tree.map(jnp.subtract, displacement(jax.tree.map(moved, y, size)), dy)
        both = jax.tree.map(lambda a, b: jnp.abs(a + b), change, other)
        # What is next to the edge of a field's domain tells nothing beyond it.
        found = jax.tree.map(
            lambda a, b: jnp.where((k % 2 == 1) & (b > a) & jnp.isfinite(b), b, a), found, both
        )
        return k + 1, change, found

    none = jax.tree.map(jnp.zeros_like, dy), jax.tree.map(lambda x: jnp.abs(0 * x), dy)
    init = jnp.asarray(0), *none
    *_, found = lax.while_loop(lambda carry: asked & (carry[0] < _PROBES), probe, init)

    def explained(d: Array, found: Array, size: Array) -> Array:
        least = max(_OF_SIZE * float(jnp.finfo(d.dtype).eps), _NEGLIGIBLE)
        own = least * jnp.broadcast_to(size, d.shape)
        if size.ndim != found.ndim:
            found = jnp.max(found, axis=0, keepdims=True)
        return jnp.all(jnp.abs(d) <= _OF_MEASURED * found + own)

    parts = jax.tree.leaves(jax.tree.map(explained, dy, found, size))
    return jnp.all(jnp.stack(parts))
