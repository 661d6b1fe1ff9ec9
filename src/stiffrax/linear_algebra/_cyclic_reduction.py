"""Narrow bands by block cyclic reduction: every other block row is eliminated, all at once."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ._scaled_inverse import scaled_inverse
from ._small_inverse import small_inverse
from ._sparse_matrix import SparseMatrix

# The widest blocks whose inverses have a closed form. Up to there 15 steps of the heat equation with
# 1,000 cells take 6 ms by cyclic reduction and 120 ms by fronts; above, the inverses of every round
# make it slower to compile and no faster.
WIDEST_BLOCK = 3
# As many block rows, or rows, are left to a dense inverse: the last rounds would save nothing, and
# above as many rows the library, whose exchanges of rows depend on units, is the faster one.
# The 8 is chosen, not measured.
_DENSE_BLOCKS, _DENSE_ROWS = 8, 24


@final
class ReducedBand(eqx.Module):
    """What each round needs to reduce a right-hand side, and to go back; the inverse of the rest."""

    rounds: list[tuple[Array, ...]]
    rest: Array

    def solve(self, rhs: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """Solves for one right-hand side."""
        size = len(self.rest) << len(self.rounds)
        b = self.rounds[0][2].shape[-1] if self.rounds else size
        x = jnp.pad(rhs, (0, size - rhs.size)).reshape(-1, b)
        odd = []
        for from_before, from_after, *_ in self.rounds:
            odd.append(x[1::2])
            x = x[::2] - _apply(from_before, _before(x[1::2])) - _apply(from_after, x[1::2])
        x = _apply(self.rest, x.reshape(-1)).reshape(x.shape)
        for (_, _, inverse, L, U), right in zip(reversed(self.rounds), reversed(odd), strict=True):
            after = jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])
            between = _apply(inverse, right - _apply(L, x) - _apply(U, after))
            x = jnp.stack([x, between], axis=1).reshape(-1, b)
        return x.reshape(-1)[: rhs.size]


def factor_shifted_band(
    shifts: list[Array], hJ: SparseMatrix, M: SparseMatrix | None, block: int
) -> list[ReducedBand]:
    """Factors of `shift M - h J` for each shift, in blocks of so many rows.

    Rows are exchanged within blocks only: made for Newton matrices, whose diagonal blocks weigh most.
    """
    J, dtype, n = _blocks(hJ, block), hJ.values.dtype, hJ.pattern.n
    count = len(J[1])
    # Rows that fill up the last block have a one on the diagonal.
    filled = np.eye(block) * (np.arange(count * block) >= n).reshape(count, block, 1)
    if M is None:
        mass = [np.zeros((1, block, block)), np.eye(block)[None], np.zeros((1, block, block))]
    else:
        L, D, U = _blocks(M, block)
        mass = [L, D + jnp.asarray(filled, dtype), U]

    def one(shift: Array) -> ReducedBand:
        blocks = [
            shift * jnp.asarray(m, shift.dtype) - j.astype(shift.dtype)
            for m, j in zip(mass, J, strict=True)
        ]
        return _reduce(*blocks)

    return [one(shift) for shift in shifts]


def _blocks(band: SparseMatrix, b: int) -> tuple[Array, Array, Array]:
    pattern = band.pattern
    count = 1 << (-(-pattern.n // b) - 1).bit_length()
    values = jnp.append(band.values, jnp.zeros(1, band.values.dtype))

    def block(offset: int) -> Array:
        place = np.full((count, b, b), len(band.values))
        row, column = np.divmod(pattern.rows, b), np.divmod(pattern.columns, b)
        here = column[0] - row[0] == offset
        place[row[0][here], row[1][here], column[1][here]] = np.flatnonzero(here)
        return values[place]

    return block(-1), block(0), block(1)


def _times(a: Array, b: Array) -> Array:
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def _apply(a: Array, x: Array) -> Array:
    return jnp.sum(a * x[..., None, :], axis=-1)


def _before(x: Array) -> Array:
    """For each even row what the odd row before it has; zero for the first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _reduce(L: Array, D: Array, U: Array) -> ReducedBand:
    rounds = []
    while len(D) > max(1, min(_DENSE_BLOCKS, _DENSE_ROWS // D.shape[-1])):
        inverse = jax.vmap(small_inverse)(D[1::2])
        from_before = _times(L[::2], _before(inverse))
        from_after = _times(U[::2], inverse)
        rounds.append((from_before, from_after, inverse, L[1::2], U[1::2]))
        D = D[::2] - _times(from_before, _before(U[1::2])) - _times(from_after, L[1::2])
        L, U = -_times(from_before, _before(L[1::2])), -_times(from_after, U[1::2])
    rest = _assembled(L, D, U)
    # In closed form units change nothing.
    inverse = small_inverse(rest) if len(rest) <= WIDEST_BLOCK else scaled_inverse(rest).as_matrix()
    return ReducedBand(rounds, inverse)


def _assembled(L: Array, D: Array, U: Array) -> Array:
    count, b, _ = D.shape
    blocks = jnp.zeros((count, b, count, b), D.dtype)
    index = jnp.arange(count)
    blocks = blocks.at[index, :, index].set(D)
    blocks = blocks.at[index[1:], :, index[:-1]].set(L[1:])
    blocks = blocks.at[index[:-1], :, index[1:]].set(U[:-1])
    return blocks.reshape(count * b, count * b)
