"""Matrices of a fixed pattern."""

import functools
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Inexact, Int

from .._trees import along_rows
from ._dissection import Tree
from ._fronts import Level, order_of, plan_fronts
from ._multifrontal import factor_fronts, solve_fronts
from ._scaled_inverse import ROUNDS, half_of, power_of_two

# Entries of a line that are compared at once; longer lines are several.
_WIDTH = 32


@final
class Lines:
    """The entries of each row, or of each column, as a rectangle of their numbers."""

    def __init__(self, line_of_entry: np.ndarray, n: int):
        counts = np.bincount(line_of_entry, minlength=n)
        width = int(min(counts.max(initial=1), _WIDTH))
        pieces = np.maximum(-(-counts // width), 1)
        self.piece_of = None if pieces.max(initial=1) == 1 else np.repeat(np.arange(n), pieces)
        order = np.argsort(line_of_entry, kind="stable")
        lines = line_of_entry[order]
        within = np.arange(len(lines)) - (np.cumsum(counts) - counts)[lines]
        first = np.cumsum(pieces) - pieces
        self.entries = np.full((int(pieces.sum()), width), len(lines), np.int32)
        self.entries[first[lines] + within // width, within % width] = order
        self.n = n

    def largest(self, x: Float[Array, " nnz"]) -> Float[Array, " n"]:
        """The largest entry of each line."""
        padded = jnp.pad(x, (0, 1), constant_values=-jnp.inf)
        largest = jnp.max(padded[self.entries], axis=1)
        if self.piece_of is None:
            return largest
        return jnp.full(self.n, -jnp.inf, x.dtype).at[self.piece_of].max(largest)


def sparse_scales(
    rows: Lines,
    columns: Lines,
    row_of: Int[np.ndarray, " nnz"],
    column_of: Int[np.ndarray, " nnz"],
    size: Float[Array, " nnz"],
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """As `scales`, of a matrix given by the absolute values of its entries."""
    exponents = jnp.log2(size)

    def once(_: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        r, c = found
        left = exponents + r[row_of] + c[column_of]
        return r - half_of(rows.largest(left)), c - half_of(columns.largest(left))

    start = (jnp.zeros(rows.n, size.dtype), jnp.zeros(rows.n, size.dtype))
    r, c = lax.fori_loop(0, ROUNDS, once, start)
    r, c = (power_of_two(jnp.round(x).astype(int), size.dtype) for x in (r, c))
    return r, c


@final
class Pattern:
    """Where a matrix may have entries, the diagonal among them; equal to any other of the same.

    `groups`: of columns that share no row; `tree` is called for the order of elimination, once.
    `block`: the rows of a block where the matrix is block tridiagonal, in narrow blocks.
    """

    def __init__(
        self,
        rows: np.ndarray,
        columns: np.ndarray,
        n: int,
        groups: np.ndarray,
        tree: Callable[[], Tree],
        block: int | None = None,
    ):
        self.block = block
        self.rows, self.columns, self.n = rows.astype(np.int32), columns.astype(np.int32), n
        self.groups, self.num_groups = groups, int(groups.max(initial=-1)) + 1
        self.tree = tree
        self._key = (n, self.rows.tobytes(), self.columns.tobytes(), block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @functools.cached_property
    def levels(self) -> list[Level]:
        """The plan of the factorization; a dense one where a sparse one would cost more."""
        levels = plan_fronts(self.rows, self.columns, self.n, self.tree())
        if sum(level.cost for level in levels) > self.n**3:
            return plan_fronts(self.rows, self.columns, self.n, [[np.arange(self.n)]])
        return levels

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Where the pivots of all levels hold each unknown."""
        return order_of(self.levels)

    @functools.cached_property
    def lines(self) -> tuple[Lines, Lines]:
        """The entries by rows, and by columns."""
        return Lines(self.rows, self.n), Lines(self.columns, self.n)

    @functools.cached_property
    def is_diagonal(self) -> np.ndarray:
        """Which entries are on the diagonal."""
        return self.rows == self.columns

    @functools.cached_property
    def transposed(self) -> "Pattern":
        """That of the transposed matrix, with the entries in the same order; not for probing."""
        groups = np.zeros(0, int)
        return Pattern(self.columns, self.rows, self.n, groups, self.tree, self.block)


@functools.lru_cache(maxsize=32)
def stacked_pattern(pattern: Pattern, m: int) -> Pattern:
    """That of `m` stages, all coupled; the stages of an unknown follow each other.

    First the entries of all within each stage, then those between stages.
    """
    pairs = [(i, i) for i in range(m)] + [(i, j) for i in range(m) for j in range(m) if i != j]
    rows = np.concatenate([pattern.rows * m + i for i, _ in pairs])
    columns = np.concatenate([pattern.columns * m + j for _, j in pairs])

    def tree() -> Tree:
        stages = np.arange(m)[None]
        return [
            [(node[:, None] * m + stages).reshape(-1) for node in level] for level in pattern.tree()
        ]

    return Pattern(rows, columns, pattern.n * m, np.zeros(0, int), tree)


@final
class SparseMatrix(eqx.Module):
    """The values of a matrix, in the order of its pattern."""

    values: Inexact[Array, "*k nnz"]
    pattern: Pattern = eqx.field(static=True)

    @property
    def T(self) -> "SparseMatrix":
        """The transposed matrix."""
        return SparseMatrix(self.values, self.pattern.transposed)

    def __matmul__(self, x: Inexact[Array, "n *c"]) -> Inexact[Array, "n *c"]:
        terms = along_rows(self.values, x) * x[self.pattern.columns]
        return jnp.zeros(x.shape, terms.dtype).at[self.pattern.rows].add(terms)

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """All of it."""
        n, at = self.pattern.n, (self.pattern.rows, self.pattern.columns)
        return jnp.zeros((n, n), self.values.dtype).at[at].set(self.values, unique_indices=True)


@final
class SparseFactors(eqx.Module):
    """Factors of a matrix whose rows and columns have been scaled."""

    fronts: Any
    row_scales: Float[Array, " n"]
    column_scales: Float[Array, " n"]
    pattern: Pattern = eqx.field(static=True)

    def solve(self, rhs: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """Solves for one right-hand side."""
        levels, order = self.pattern.levels, self.pattern.order
        left, right = (x.astype(rhs.dtype) for x in (self.row_scales, self.column_scales))
        return right * solve_fronts(levels, order, self.fronts, left * rhs)


def factor_shifted_sparse(
    shifts: list[Array], hJ: SparseMatrix, M: SparseMatrix | None
) -> list[SparseFactors]:
    """Factors of `shift M - h J` for each shift, all scaled alike."""
    mass = jnp.asarray(hJ.pattern.is_diagonal, hJ.values.dtype) if M is None else M.values
    if not shifts:
        return []
    largest = functools.reduce(jnp.maximum, [jnp.abs(shift) for shift in shifts])
    size = largest * jnp.abs(mass) + jnp.abs(hJ.values)
    matrices = [
        shift * mass.astype(shift.dtype) - hJ.values.astype(shift.dtype) for shift in shifts
    ]
    return _factor_scaled(hJ.pattern, matrices, size)


def factor_sparse(matrix: SparseMatrix) -> SparseFactors:
    """Factors of one matrix."""
    (factors,) = _factor_scaled(matrix.pattern, [matrix.values], jnp.abs(matrix.values))
    return factors


def _factor_scaled(
    pattern: Pattern, matrices: list[Array], size: Float[Array, " nnz"]
) -> list[SparseFactors]:
    left, right = sparse_scales(*pattern.lines, pattern.rows, pattern.columns, size)
    factors = []
    for values in matrices:
        scales = (x.astype(values.dtype) for x in (left[pattern.rows], right[pattern.columns]))
        rows, columns = scales
        fronts = factor_fronts(pattern.levels, rows * values * columns)
        factors.append(SparseFactors(fronts, left, right, pattern))
    return factors
