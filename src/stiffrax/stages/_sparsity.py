"""Jacobians whose zeros are known: blocks along the diagonal, or any pattern."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._mass import Mass
from ._small_inverse import small_inverse
from ._stage_system import FlatField
from ._structure import AbstractStructure, Dense, probes, shifted


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
            return mass.entries.reshape(-1, b)[:, :, None] * jnp.eye(b, dtype=mass.entries.dtype)
        blocks = mass.entries.reshape(len(mass.entries) // b, b, -1, b)
        index = jnp.arange(len(blocks))
        return blocks[index, :, index]

    def leaves_out(self, mass: Mass) -> Array | bool:
        if mass.is_diagonal:
            return False
        block = jnp.arange(len(mass.entries)) // self.size
        return jnp.any((block[:, None] != block) & (mass.entries != 0))

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "k b b"], M: Float[Array, "k b b"] | None = None
    ) -> Any:
        M = jnp.eye(self.size, dtype=hJ.dtype) if M is None else M
        # One matrix at a time under `vmap`: a batch does not go to the library.
        return [jax.vmap(small_inverse)(shifted(s, hJ.dtype) * M - hJ) for s in shifts]

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        def one(inverse: Array, b: Array) -> Array:
            blocks = b.reshape(-1, self.size)
            return jnp.sum(inverse * blocks[:, None, :], axis=-1).reshape(-1)

        return jnp.stack([one(f, b) for f, b in zip(factors, rhs, strict=True)])
