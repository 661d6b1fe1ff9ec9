"""Jacobians whose zeros are known: bands, blocks along the diagonal, any pattern."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._mass import Mass
from ._scaled_inverse import scaled_inverse
from ._small_inverse import small_inverse
from ._stage_system import FlatField
from ._structure import AbstractStructure, Dense, probes, shifted

# As many block rows, or rows, are left to a dense inverse: the last rounds would save nothing, and
# above as many rows the library, whose exchanges of rows depend on units, is the faster one.
# The 8 is chosen, not measured.
_DENSE_BLOCKS, _DENSE_ROWS = 8, 24


@final
class Banded(AbstractStructure):
    r"""A Jacobian that is zero below and above a band around its diagonal.

    In blocks of `max(lower, upper)` rows the matrix is block tridiagonal. Cyclic reduction
    eliminates every other block row,

    $$D_i \leftarrow D_i - L_i D_{i-1}^{-1} U_{i-1} - U_i D_{i+1}^{-1} L_{i+1},$$

    all at once; after about log2(n) rounds a small matrix is left. Rows are exchanged within blocks
    only: made for Newton matrices of diffusion, transport and chains of reactions, where the
    diagonal blocks weigh most.

    **Arguments:**

    - `lower`, `upper`: how many diagonals below and above the main one are not zero.

    **Raises:** `ValueError` for bandwidths that are no integers from 0 on.

    Cost: `lower + upper + 1` forward-mode sweeps; factors and solves linear in the size.

    ??? cite "Reference"
        Heller, *Some aspects of the cyclic reduction algorithm for block tridiagonal linear
        systems*, SIAM Journal on Numerical Analysis 13 (1976).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> def heat(t, y, args):
    ...     return 1e4 * (jnp.roll(y, 1).at[0].set(0) - 2 * y + jnp.roll(y, -1).at[-1].set(0))
    >>> solver = srx.RadauIIA5(structure=srx.Banded(1, 1))
    >>> y0 = jnp.sin(jnp.pi * jnp.arange(1, 100) / 100)
    >>> sol = diffrax.diffeqsolve(diffrax.ODETerm(heat), solver, 0.0, 0.1, 0.01, y0)
    >>> print(f"{sol.ys[-1, 49]:.3f}")  # about exp(-pi^2 / 10)
    0.373

    ```
    """

    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)

    def __check_init__(self):
        if not all(isinstance(k, int) and k >= 0 for k in (self.lower, self.upper)):
            raise ValueError(
                f"`Banded({self.lower!r}, {self.upper!r})` was given; it needs the numbers of "
                "diagonals below and above the main one. Write `Banded(1, 1)` for a tridiagonal "
                "Jacobian."
            )

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "w n"]:
        """Row `lower + d` holds the diagonal `d`: entries `J[i, i + d]` by rows `i`."""
        width = self.lower + self.upper + 1
        index = jnp.arange(y.size)
        columns = probes(field, t, y, index % width, width)
        diagonals = []
        for d in range(-self.lower, self.upper + 1):
            inside = (index + d >= 0) & (index + d < y.size)
            diagonals.append(jnp.where(inside, columns[(index + d) % width, index], 0))
        return jnp.stack(diagonals)

    def mass_matrix(self, mass: Mass) -> Float[Array, "w n"]:
        n = len(mass.entries)
        if mass.is_diagonal:
            band = jnp.zeros((self.lower + self.upper + 1, n), mass.entries.dtype)
            return band.at[self.lower].set(mass.entries)
        i, d = jnp.arange(n)[None], jnp.arange(-self.lower, self.upper + 1)[:, None]
        inside = (i + d >= 0) & (i + d < n)
        return jnp.where(inside, mass.entries[i, (i + d) % n], 0)

    def leaves_out(self, mass: Mass) -> Array | bool:
        if mass.is_diagonal:
            return False
        i = jnp.arange(len(mass.entries))
        d = i[None] - i[:, None]
        return jnp.any(((d < -self.lower) | (d > self.upper)) & (mass.entries != 0))

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "w n"], M: Float[Array, "w n"] | None = None
    ) -> Any:
        L, D, U = self._blocks(hJ)
        identity = jnp.eye(D.shape[-1], dtype=D.dtype)[None]

        def one(shift: Array) -> Any:
            def less(block: Array, mass: Array) -> Array:
                return shift * mass.astype(shift.dtype) - block.astype(shift.dtype)

            if M is None:
                L_0, U_0 = (-x.astype(shift.dtype) for x in (L, U))
                return _reduce(L_0, less(D, identity), U_0)
            L_M, D_M, U_M = self._blocks(M)
            count, b = D_M.shape[:2]
            padding = (jnp.arange(count * b) >= M.shape[1]).reshape(count, b)
            D_M = D_M + padding.astype(D.dtype)[..., None] * identity
            return _reduce(less(L, L_M), less(D, D_M), less(U, U_M))

        return [one(shifted(shift, hJ.dtype)) for shift in shifts]

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        return jnp.stack([_substitute(f, b) for f, b in zip(factors, rhs, strict=True)])

    def _blocks(self, band: Float[Array, "w n"]) -> tuple[Array, Array, Array]:
        """The blocks below, on and above the diagonal, padded to a power of two in number."""
        b = max(self.lower, self.upper, 1)
        n = band.shape[1]
        count = _rounded_up(-(-n // b))
        rows = jnp.pad(band, ((0, 0), (0, count * b - n))).reshape(-1, count, b)
        zero = jnp.zeros(count, band.dtype)

        def block(offset: int) -> Array:
            def entry(r: int, c: int) -> Array:
                d = c + offset * b - r
                return rows[d + self.lower, :, r] if -self.lower <= d <= self.upper else zero

            return jnp.stack([jnp.stack([entry(r, c) for c in range(b)], -1) for r in range(b)], -2)

        return block(-1), block(0), block(1)


def _rounded_up(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _times(a: Array, b: Array) -> Array:
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def _apply(a: Array, x: Array) -> Array:
    return jnp.sum(a * x[..., None, :], axis=-1)


def _before(x: Array) -> Array:
    """For each even row what the odd row before it has; zero for the first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _reduce(L: Array, D: Array, U: Array) -> Any:
    """What each round needs to reduce a right-hand side, and to go back; the inverse of the rest."""
    rounds = []
    while len(D) > max(1, min(_DENSE_BLOCKS, _DENSE_ROWS // D.shape[-1])):
        inverse = jax.vmap(_inverse)(D[1::2])
        from_before = _times(L[::2], _before(inverse))
        from_after = _times(U[::2], inverse)
        rounds.append((from_before, from_after, inverse, L[1::2], U[1::2]))
        D = D[::2] - _times(from_before, _before(U[1::2])) - _times(from_after, L[1::2])
        L, U = -_times(from_before, _before(L[1::2])), -_times(from_after, U[1::2])
    return rounds, _inverse(_assembled(L, D, U))


def _inverse(block: Array) -> Array:
    # In closed form units change nothing.
    return small_inverse(block) if len(block) <= 3 else scaled_inverse(block).as_matrix()


def _assembled(L: Array, D: Array, U: Array) -> Array:
    count, b, _ = D.shape
    blocks = jnp.zeros((count, b, count, b), D.dtype)
    index = jnp.arange(count)
    blocks = blocks.at[index, :, index].set(D)
    blocks = blocks.at[index[1:], :, index[:-1]].set(L[1:])
    blocks = blocks.at[index[:-1], :, index[1:]].set(U[:-1])
    return blocks.reshape(count * b, count * b)


def _substitute(factors: Any, rhs: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    rounds, rest = factors
    size = len(rest) << len(rounds)
    b = rounds[0][2].shape[-1] if rounds else size
    x = jnp.pad(rhs, (0, size - rhs.size)).reshape(-1, b)
    odd = []
    for from_before, from_after, *_ in rounds:
        odd.append(x[1::2])
        x = x[::2] - _apply(from_before, _before(x[1::2])) - _apply(from_after, x[1::2])
    x = _apply(rest, x.reshape(-1)).reshape(x.shape)
    for (_, _, inverse, L, U), right in zip(reversed(rounds), reversed(odd), strict=True):
        after = jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])
        between = _apply(inverse, right - _apply(L, x) - _apply(U, after))
        x = jnp.stack([x, between], axis=1).reshape(-1, b)
    return x.reshape(-1)[: rhs.size]


@final
class Sparsity(AbstractStructure):
    """A Jacobian whose pattern of zeros is known.

    Columns that share no row are evaluated together in one forward-mode sweep, in groups found by
    greedy coloring. The matrix itself is dense: what is saved is its evaluation.

    **Arguments:**

    - `pattern`: `Bool[ndarray, "n n"]` or a SciPy sparse matrix, true where `df_i / dy_j` may be
      anything but zero.
    - `linear_solver`: as of [`stiffrax.Dense`][].

    **Raises:** `ValueError` for a pattern that is not square, or not of the size of the state.

    Cost: one forward-mode sweep a group; factors and solves of a dense matrix.

    ??? cite "Reference"
        Gebremedhin, Manne and Pothen, *What color is your Jacobian?*, SIAM Review 47 (2005).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> arrow = np.eye(50, dtype=bool)
    >>> arrow[0] = True  # a full row: no two columns go together
    >>> srx.Sparsity(arrow).num_groups, srx.Sparsity(arrow.T).num_groups
    (50, 2)

    ```
    """

    pattern: Any
    groups: Any
    num_groups: int = eqx.field(static=True)
    dense: Dense

    def __init__(self, pattern: Any, linear_solver: lx.AbstractLinearSolver | None = None):
        pattern = np.asarray(pattern.todense() if hasattr(pattern, "todense") else pattern) != 0
        if pattern.ndim != 2 or pattern.shape[0] != pattern.shape[1]:
            raise ValueError(
                f"A pattern of shape {pattern.shape} was given; it needs one row and one column for "
                "each component of the state. Write for example `Sparsity(np.eye(n, dtype=bool))`."
            )
        self.pattern = pattern
        self.groups = _colors(pattern)
        self.num_groups = int(self.groups.max(initial=-1)) + 1
        self.dense = Dense(linear_solver)

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        if len(self.pattern) != y.size:
            raise ValueError(
                f"A pattern of shape {self.pattern.shape} was given for a state of {y.size} "
                "components; it needs one row and one column for each."
            )
        columns = probes(field, t, y, jnp.asarray(self.groups), self.num_groups)
        return jnp.where(jnp.asarray(self.pattern), columns[jnp.asarray(self.groups)].T, 0)

    def mass_matrix(self, mass: Mass) -> Float[Array, "n n"]:
        return mass.as_matrix()

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "n n"], M: Float[Array, "n n"] | None = None
    ) -> Any:
        return self.dense.factor(shifts, hJ, M)

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        return self.dense.solve(factors, rhs)


def _colors(pattern: np.ndarray) -> np.ndarray:
    """A group for each column, such that no two columns of a group share a row; fullest first."""
    colors = np.zeros(len(pattern), int)
    taken = np.zeros((0, len(pattern)), bool)
    for column in np.argsort(-pattern.sum(axis=0), kind="stable"):
        rows = pattern[:, column]
        free = np.flatnonzero(~(taken & rows).any(axis=1))
        if len(free):
            color = free[0]
        else:
            color = len(taken)
            taken = np.concatenate([taken, np.zeros((1, len(pattern)), bool)])
        taken[color] |= rows
        colors[column] = color
    return colors


@final
class BlockDiagonal(AbstractStructure):
    """A Jacobian of equal blocks along the diagonal: independent systems in one state.

    **Arguments:**

    - `size`: rows of a block; it must divide the size of the state.

    **Raises:** `ValueError` for a size that is no positive integer, or does not divide the state.

    Cost: `size` forward-mode sweeps, and an inverse a block.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> field = diffrax.ODETerm(lambda t, y, args: -jnp.arange(1.0, 7.0) * y)
    >>> solver = srx.RadauIIA5(structure=srx.BlockDiagonal(2))
    >>> sol = diffrax.diffeqsolve(field, solver, 0.0, 1.0, 0.1, jnp.ones(6))
    >>> print(f"{sol.ys[-1, 0]:.4f}, {sol.ys[-1, 1]:.4f}")
    0.3679, 0.1353

    ```
    """

    size: int = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(
                f"`BlockDiagonal({self.size!r})` was given; it needs the number of rows of a block. "
                "Write for example `BlockDiagonal(3)`."
            )

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "k b b"]:
        b = self.size
        if y.size % b:
            raise ValueError(
                f"`BlockDiagonal({b})` was given for a state of {y.size} components; the size of a "
                "block must divide it. Pad the state, or use `Banded`."
            )
        columns = probes(field, t, y, jnp.arange(y.size) % b, b)
        return jnp.moveaxis(columns.reshape(b, -1, b), 0, -1)

    def mass_matrix(self, mass: Mass) -> Float[Array, "k b b"]:
        b = self.size
        if mass.is_diagonal:
            identity = jnp.eye(b, dtype=mass.entries.dtype)[None]
            return mass.entries.reshape(-1, b)[:, :, None] * identity
        blocks = mass.entries.reshape(len(mass.entries) // b, b, -1, b)
        index = jnp.arange(len(blocks))
        return blocks[index, :, index]

    def leaves_out(self, mass: Mass) -> Array | bool:
        if mass.is_diagonal:
            return False
        block = jnp.arange(len(mass.entries)) // self.size
        return jnp.any((block[:, None] != block[None]) & (mass.entries != 0))

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "k b b"], M: Float[Array, "k b b"] | None = None
    ) -> Any:
        M = jnp.eye(self.size, dtype=hJ.dtype)[None] if M is None else M

        def one(shift: Array) -> Array:
            # One matrix at a time under `vmap`: a batch does not go to the library.
            matrices = shift * M.astype(shift.dtype) - hJ.astype(shift.dtype)
            return jax.vmap(small_inverse)(matrices)

        return [one(shifted(shift, hJ.dtype)) for shift in shifts]

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        def one(inverse: Array, b: Array) -> Array:
            blocks = b.reshape(-1, self.size)
            return jnp.sum(inverse * blocks[:, None, :], axis=-1).reshape(-1)

        return jnp.stack([one(f, b) for f, b in zip(factors, rhs, strict=True)])
