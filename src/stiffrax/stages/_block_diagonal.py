"""Block-diagonal Jacobians."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from .._arguments import as_integer, plain_integer
from ..linear_algebra import Pattern, SparseMatrix, small_inverse
from ._mass import Mass
from ._probes import probe, probe_part, refuse_entries_outside
from ._stage_system import FlatField
from ._structure import AbstractStructure, shifted


@final
class BlockDiagonal(AbstractStructure):
    """A Jacobian of equal blocks along the diagonal: independent systems in one state.

    **Arguments:**

    - `size`: rows of a block; it must divide the size of the state.

    **Raises:** `ValueError` for a size that is no positive integer, or does not divide the state;
    at run time if the Jacobian has an entry outside of the blocks, as of [`stiffrax.Sparsity`][].

    Cost: `size + 1` forward-mode sweeps, and an inverse a block.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> field = diffrax.ODETerm(lambda t, y, args: -jnp.arange(1.0, 7.0) * y)
    >>> solver = srx.RadauIIA5(structure=srx.BlockDiagonal(2))
    >>> sol = diffrax.diffeqsolve(field, solver, 0.0, 1.0, 0.1, jnp.ones(6))
    >>> print(f"{sol.ys[-1, 0]:.4f}, {sol.ys[-1, 1]:.4f}")
    0.3679, 0.1353

    ```
    """

    size: int = eqx.field(converter=plain_integer, static=True)

    def __check_init__(self):
        if as_integer(self.size) is None or self.size < 1:
            raise ValueError(
                f"`BlockDiagonal({self.size!r})` was given; it needs the number of rows of a block. "
                "Write for example `BlockDiagonal(3)`."
            )

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "k b b"]:
        b = self.size
        self._check_divides(y.size)
        probed = probe(field, t, y, np.arange(y.size) % b, b)
        blocks = jnp.moveaxis(probed.columns.reshape(b, -1, b), 0, -1)
        v = probed.direction.reshape(-1, 1, b)
        products = [jnp.sum(x, axis=-1).reshape(-1) for x in (blocks * v, jnp.abs(blocks * v))]
        return refuse_entries_outside(self.written, blocks, probed.product, *products)

    def part(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "k b b"]:
        self._check_divides(y.size)
        pattern = _pattern(y.size, self.size)
        columns = probe_part(field, t, y, self.size)
        values = columns[pattern.columns % len(columns), pattern.rows]
        return values.reshape(-1, self.size, self.size)

    def _check_divides(self, n: int) -> None:
        if n % self.size:
            raise ValueError(
                f"`BlockDiagonal({self.size})` was given for a state of {n} components; the size of a "
                "block must divide it. Pad the state, or use `Banded`."
            )

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

    @property
    def written(self) -> str:
        return f"BlockDiagonal({self.size})"

    @property
    def has_pattern(self) -> bool:
        return True

    def as_sparse(self, jacobian: Float[Array, "k b b"], n: int) -> SparseMatrix:
        return SparseMatrix(jacobian.reshape(-1), _pattern(n, self.size))


@functools.lru_cache(maxsize=32)
def _pattern(n: int, size: int) -> Pattern:
    """Every block is a front of its own, and none has another above it."""
    blocks = np.arange(n).reshape(-1, size)
    rows = np.broadcast_to(blocks[:, :, None], (*blocks.shape, size)).reshape(-1)
    columns = np.broadcast_to(blocks[:, None], (*blocks.shape, size)).reshape(-1)
    return Pattern(rows, columns, n, np.arange(n) % size, lambda: [list(blocks)])
