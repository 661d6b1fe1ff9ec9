"""Narrow bands by block cyclic reduction: every other block row is eliminated, all at once."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact

from ._small_inverse import small_inverse
from ._sparse_matrix import SparseMatrix

# The widest blocks whose inverses have a closed form. Up to there 15 steps of the heat equation with
# 1,000 cells take 6 ms by cyclic reduction and 120 ms by fronts; above, the inverses of every round
# make it slower to compile and no faster.
WIDEST_BLOCK = 3
# As many block rows are left to rounds in a loop. (400 states in blocks of two take 42, 33 and 63 ms
# with 16, 32 and 64, and 17, 15 and 13 s to compile; 46 ms and 19 s if all rounds are written out.)
_LOOPED_BLOCKS = 32


@final
class _HalvedRound(eqx.Module):
    """A round in which every odd block row is solved for, which leaves a band of the even ones.

    - `from_before`, `from_after`: what the odd rows next to an even one add to it.
    - `inverse`, `L`, `U`: the odd rows, with their diagonal blocks inverted.
    """

    from_before: Inexact[Array, "half b b"]
    from_after: Inexact[Array, "half b b"]
    inverse: Inexact[Array, "half b b"]
    L: Inexact[Array, "half b b"]
    U: Inexact[Array, "half b b"]

    def reduce(self, x: Inexact[Array, "k b"]) -> tuple[Array, Array]:
        """The right-hand sides of the even rows that are left, and of the odd ones."""
        even, odd = x[::2], x[1::2]
        even = even - _apply(self.from_before, _before(odd)) - _apply(self.from_after, odd)
        return even, odd

    def restore(self, even: Inexact[Array, "half b"], odd: Inexact[Array, "half b"]) -> Array:
        """The solution of all rows, from that of even ones and the right-hand sides of odd ones."""
        after = jnp.concatenate([even[1:], jnp.zeros_like(even[:1])])
        between = _apply(self.inverse, odd - _apply(self.L, even) - _apply(self.U, after))
        return jnp.stack([even, between], axis=1).reshape(-1, even.shape[1])


def _halve(L: Array, D: Array, U: Array) -> tuple[_HalvedRound, tuple[Array, Array, Array]]:
    """One round, and the band that it leaves."""
    inverse = jax.vmap(small_inverse)(D[1::2])
    from_before = _times(L[::2], _before(inverse))
    from_after = _times(U[::2], inverse)
    done = _HalvedRound(from_before, from_after, inverse, L[1::2], U[1::2])
    D = D[::2] - _times(from_before, _before(U[1::2])) - _times(from_after, L[1::2])
    L, U = -_times(from_before, _before(L[1::2])), -_times(from_after, U[1::2])
    return done, (L, D, U)


@final
class _LoopedRounds(eqx.Module):
    """All rounds down to one block row, in a loop: every row keeps its place.

    - `from_before`, `from_after`: what in each round the rows so far away add to one that stays.
    - `inverse`, `L`, `U`: every row as it is in the round in which it leaves.
    """

    from_before: Inexact[Array, "rounds k b b"]
    from_after: Inexact[Array, "rounds k b b"]
    inverse: Inexact[Array, "k b b"]
    L: Inexact[Array, "k b b"]
    U: Inexact[Array, "k b b"]

    def solve(self, x: Inexact[Array, "k b"]) -> Inexact[Array, "k b"]:
        """Solves for the right-hand sides of all rows."""
        distances = _distances(len(x))

        def stay(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            distance, from_before, from_after = at
            before, after = _neighbors(x, distance)
            return x - _apply(from_before, before) - _apply(from_after, after), None

        def leave(x: Array, distance: Array) -> tuple[Array, None]:
            before, after = _neighbors(x, distance)
            found = _apply(self.inverse, x - _apply(self.L, before) - _apply(self.U, after))
            return jnp.where(_leaves(len(x), distance)[:, None], found, x), None

        x, _ = lax.scan(stay, x, (distances, self.from_before, self.from_after))
        x = x.at[0].set(_apply(self.inverse[0], x[0]))
        x, _ = lax.scan(leave, x, distances, reverse=True)
        return x


def _loop(L: Array, D: Array, U: Array) -> _LoopedRounds:
    """All rounds of a band."""
    count, one = len(D), jnp.eye(D.shape[-1], dtype=D.dtype)

    def reduce(blocks: tuple[Array, Array, Array], distance: Array) -> tuple[Any, Any]:
        L, D, U = blocks
        leaves = _leaves(count, distance)[:, None, None]
        stays = (jnp.arange(count) % (2 * distance) == 0)[:, None, None]
        inverse = jnp.where(leaves, jax.vmap(small_inverse)(jnp.where(leaves, D, one)), 0)
        before, after = _neighbors(inverse, distance)
        from_before = jnp.where(stays, _times(L, before), 0)
        from_after = jnp.where(stays, _times(U, after), 0)
        (L_before, L_after), (U_before, U_after) = (_neighbors(x, distance) for x in (L, U))
        D = D - _times(from_before, U_before) - _times(from_after, L_after)
        L = jnp.where(stays, -_times(from_before, L_before), L)
        U = jnp.where(stays, -_times(from_after, U_after), U)
        return (L, jnp.where(leaves, inverse, D), U), (from_before, from_after)

    blocks, (from_before, from_after) = lax.scan(reduce, (L, D, U), _distances(count))
    L, inverse, U = blocks
    inverse = inverse.at[0].set(small_inverse(inverse[0]))
    return _LoopedRounds(from_before, from_after, inverse, L, U)


@final
class ReducedBand(eqx.Module):
    """What each round needs to reduce a right-hand side, and to go back: first those written out."""

    halved: list[_HalvedRound]
    looped: _LoopedRounds

    def solve(self, rhs: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """Solves for one right-hand side."""
        count, b, _ = self.looped.inverse.shape
        size = count * b << len(self.halved)
        x, odd_rows = jnp.pad(rhs, (0, size - rhs.size)).reshape(-1, b), []
        for done in self.halved:
            x, odd = done.reduce(x)
            odd_rows.append(odd)
        x = self.looped.solve(x)
        for done, odd in zip(reversed(self.halved), reversed(odd_rows), strict=True):
            x = done.restore(x, odd)
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


def _distances(count: int) -> Array:
    return 2 ** jnp.arange((count - 1).bit_length())


def _leaves(count: int, distance: Array) -> Array:
    """Which rows leave in the round in which those that stay have been so far from their neighbors."""
    return jnp.arange(count) % (2 * distance) == distance


def _neighbors(x: Array, distance: Array) -> tuple[Array, Array]:
    """For each row what the rows so far before and after it have; zero beyond the ends."""
    n = len(x)
    wide = jnp.pad(x, [(n, n), *[(0, 0)] * (x.ndim - 1)])
    take = lax.dynamic_slice_in_dim
    return take(wide, n - distance, n), take(wide, n + distance, n)


def _reduce(L: Array, D: Array, U: Array) -> ReducedBand:
    halved = []
    while len(D) > _LOOPED_BLOCKS:
        done, (L, D, U) = _halve(L, D, U)
        halved.append(done)
    return ReducedBand(halved, _loop(L, D, U))
