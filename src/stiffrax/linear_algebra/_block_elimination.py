"""Stage equations eliminated by blocks without pivoting."""

from collections.abc import Callable
from typing import Any, TypeAlias, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._products import short_sum, small_matmul
from ._small_inverse import LARGEST_RESIDUAL, unchecked_inverse

# Columns of right-hand sides at each stage, of one lane or many; `None` stands for zero.
Blocks: TypeAlias = tuple[Float[Array, "*k n _"] | None, ...]


def stacked_columns(rhs: tuple[Blocks, ...]) -> Float[Array, "mn r"]:
    """All columns as one array."""

    def one(column: Blocks) -> Array:
        zero = jnp.zeros_like(next(block for block in column if block is not None))
        return jnp.concatenate([zero if block is None else block for block in column])

    return jnp.concatenate([one(column) for column in rhs], axis=1)


def _times(factor: Array, x: Array) -> Array:
    return factor * x if factor.ndim == 0 else small_matmul(factor, x)


def _minus(a: Array | None, b: Array) -> Array:
    return -b if a is None else a - b


@final
class BlockFactors(eqx.Module):
    """Inverses of the pivots, rows right of and multipliers below them."""

    inverses: list[Float[Array, "n n"]]
    rows: list[list[Any]]
    multipliers: list[list[Any]]

    def solve(self, rhs: tuple[Blocks, ...]) -> Float[Array, "mn r"]:
        """Solves for all columns."""
        m = len(self.inverses)
        reduced = jnp.split(stacked_columns(tuple(map(self._eliminated, rhs))), m)
        solution: list[Any] = [None] * m
        for p in reversed(range(m)):
            known = zip(self.rows[p], solution[p + 1 :], strict=True)
            right = reduced[p] - sum(_times(row, x) for row, x in known)
            solution[p] = small_matmul(self.inverses[p], right)
        return jnp.concatenate(solution)

    def _eliminated(self, column: Blocks) -> Blocks:
        left = list(column)
        for p, below in enumerate(self.multipliers):
            head = left[p]
            if head is None:
                continue
            # The rows below the first pivot are multiples of its inverse: one product serves all.
            head = small_matmul(self.inverses[0], head) if p == 0 else head
            for i, multiplier in enumerate(below, start=p + 1):
                left[i] = _minus(left[i], _times(multiplier, head))
        return tuple(left)


def factor_blocks(
    a: Float[Array, "m m"],
    hJ: Float[Array, "m n n"],
    inverse: Callable[[Array], Array] = unchecked_inverse,
) -> BlockFactors:
    """Gaussian elimination of `a (x) I - blockdiag(hJ_i)` by `n x n` blocks, without pivoting.

    Blocks off the diagonal are multiples of the identity, so that the first elimination needs no
    product of matrices. The pivots are `a_ii - h J_i` and its Schur complements: harmless where `J`
    is dissipative, but singular for some growth rates.
    """
    m, n = hJ.shape[:2]
    identity = jnp.eye(n, dtype=hJ.dtype)
    pivot = inverse(a[0, 0] * identity - hJ[0])
    S = {
        (i, j): a[i, j] * identity - (a[i, 0] * a[0, j]) * pivot - (hJ[i] if i == j else 0)
        for i in range(1, m)
        for j in range(1, m)
    }
    inverses, rows, multipliers = [pivot], [list(a[0, 1:])], [list(a[1:, 0])]
    for p in range(1, m):
        later = range(p + 1, m)
        pivot = inverse(S[p, p])
        column = [small_matmul(S[i, p], pivot) for i in later]
        for i, multiplier in zip(later, column, strict=True):
            for j in later:
                S[i, j] = S[i, j] - small_matmul(multiplier, S[p, j])
        inverses.append(pivot)
        rows.append([S[p, j] for j in later])
        multipliers.append(column)
    return BlockFactors(inverses, rows, multipliers)


def equations_hold(
    a: Float[Array, "m m"], hJ: Float[Array, "m n n"], x: Float[Array, "m n"], rhs: Array
) -> Bool[Array, ""]:
    """Whether `(a (x) I - blockdiag(hJ_i)) x = rhs` holds to rounding in every row."""
    terms = hJ * x[:, None, :]
    residual = jnp.abs(small_matmul(a, x) - short_sum(terms) - rhs)
    size = small_matmul(jnp.abs(a), jnp.abs(x)) + short_sum(jnp.abs(terms)) + jnp.abs(rhs)
    small = residual <= LARGEST_RESIDUAL * jnp.finfo(rhs.dtype).eps * size
    # No method solves for a right-hand side that is not finite.
    return jnp.all(small) | ~jnp.all(jnp.isfinite(rhs))
