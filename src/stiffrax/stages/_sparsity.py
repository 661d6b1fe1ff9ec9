"""Jacobians whose zeros are known: bands, and any pattern."""

import abc
import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact, PyTree

from .._arguments import as_integer, check_state, plain_integer
from .._flat_state import flatten_state
from ..linear_algebra import (
    WIDEST_BLOCK,
    Pattern,
    SparseMatrix,
    dissect,
    dissect_band,
    factor_shifted_band,
    factor_shifted_sparse,
)
from ._mass import Mass
from ._probes import probe, probe_part, refuse_entries_outside, spread_groups
from ._stage_system import FlatField
from ._structure import AbstractStructure, Dense, shifted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


# So few rows are one front, any two of which may be exchanged.
_ONE_FRONT = 24


@functools.lru_cache(maxsize=32)
def _band(n: int, lower: int, upper: int) -> Pattern:
    rows, offsets = np.arange(n)[:, None], np.arange(-lower, upper + 1)[None]
    columns = rows + offsets
    inside = (columns >= 0) & (columns < n)
    rows = np.broadcast_to(rows, columns.shape)
    groups = np.arange(n) % (lower + upper + 1)
    width = max(lower, upper, 1)
    is_small = n <= _ONE_FRONT
    block = width if width <= WIDEST_BLOCK and not is_small else None
    tree = (lambda: [[np.arange(n)]]) if is_small else functools.partial(dissect_band, n, width)
    return Pattern(rows[inside], columns[inside], n, groups, tree, block)


class AbstractPatterned(AbstractStructure):
    """A structure that knows where the Jacobian is not zero."""

    @abc.abstractmethod
    def _pattern(self, n: int) -> Pattern:
        """Where the Jacobian of `n` components is not zero."""

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> SparseMatrix:
        pattern = self._pattern(y.size)
        columns, direction, product = probe(field, t, y, pattern.groups, pattern.num_groups)
        values = columns[pattern.groups[pattern.columns], pattern.rows]
        terms = values * direction[pattern.columns]
        zero = jnp.zeros_like(y)
        sums = [zero.at[pattern.rows].add(x) for x in (terms, jnp.abs(terms))]
        values = refuse_entries_outside(self.written, values, product, *sums)
        return SparseMatrix(values, pattern)

    def mass_matrix(self, mass: Mass) -> SparseMatrix:
        pattern = self._pattern(len(mass.entries))
        if mass.is_diagonal:
            values = jnp.where(pattern.is_diagonal, mass.entries[pattern.rows], 0)
        else:
            values = mass.entries[pattern.rows, pattern.columns]
        return SparseMatrix(values, pattern)

    def leaves_out(self, mass: Mass) -> Array | bool:
        if mass.is_diagonal:
            return False
        pattern = self._pattern(len(mass.entries))
        inside = jnp.zeros(mass.entries.shape, bool).at[pattern.rows, pattern.columns].set(True)
        return jnp.any(~inside & (mass.entries != 0))

    def factor(self, shifts: np.ndarray, hJ: SparseMatrix, M: SparseMatrix | None = None) -> Any:
        of_type = [shifted(shift, hJ.values.dtype) for shift in shifts]
        if hJ.pattern.block is not None:
            return factor_shifted_band(of_type, hJ, M, hJ.pattern.block)
        return factor_shifted_sparse(of_type, hJ, M)

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        return jnp.stack([f.solve(b) for f, b in zip(factors, rhs, strict=True)])

    @property
    def has_entries(self) -> bool:
        return True

    @property
    def has_pattern(self) -> bool:
        return True

    def as_sparse(self, jacobian: SparseMatrix, n: int) -> SparseMatrix:
        return jacobian


@final
class Banded(AbstractPatterned):
    r"""A Jacobian that is zero below and above a band around its diagonal.

    In blocks of `max(lower, upper)` rows the matrix is block tridiagonal. With blocks of up to three
    rows cyclic reduction eliminates every other block row,

    $$D_i \leftarrow D_i - L_i D_{i-1}^{-1} U_{i-1} - U_i D_{i+1}^{-1} L_{i+1},$$

    all at once, the last 32 in a loop. Wider bands, and those of few rows, are eliminated by the
    multifrontal method of [`stiffrax.Sparsity`][]: `max(lower, upper)` unknowns in the middle part
    those before from those after, again and again. Rows are exchanged within the small matrices of
    a round only: made for Newton matrices, whose diagonal blocks weigh most.

    **Arguments:**

    - `lower`, `upper`: how many diagonals below and above the main one are not zero.

    **Raises:** `ValueError` for bandwidths that are no integers from 0 on; at run time if the Jacobian
    has an entry outside of the band, as of [`stiffrax.Sparsity`][].

    Cost: `lower + upper + 2` forward-mode sweeps; factors and solves linear in the size, and
    quadratic and linear in the bandwidth.

    ??? cite "Reference"
        Heller, *Some aspects of the cyclic reduction algorithm for block tridiagonal linear
        systems*, SIAM Journal on Numerical Analysis 13 (1976); George, *Nested dissection of a
        regular finite element mesh*, SIAM Journal on Numerical Analysis 10 (1973).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> def heat(t, y, args):
    ...     return 1e4 * (jnp.roll(y, 1).at[0].set(0) - 2 * y + jnp.roll(y, -1).at[-1].set(0))
    >>> solver = srx.RadauIIA5(structure=srx.Banded(1, 1))
    >>> y0 = jnp.sin(jnp.pi * jnp.arange(1.0, 100.0) / 100)
    >>> sol = diffrax.diffeqsolve(diffrax.ODETerm(heat), solver, 0.0, 0.1, 0.01, y0)
    >>> print(f"{sol.ys[-1, 49]:.3f}")  # about exp(-pi^2 / 10)
    0.373

    ```
    """

    lower: int = eqx.field(converter=plain_integer, static=True)
    upper: int = eqx.field(converter=plain_integer, static=True)

    def __check_init__(self):
        if not all(as_integer(k) is not None and k >= 0 for k in (self.lower, self.upper)):
            raise ValueError(
                f"`Banded({self.lower!r}, {self.upper!r})` was given; it needs the numbers of "
                "diagonals below and above the main one. Write `Banded(1, 1)` for a tridiagonal "
                "Jacobian."
            )

    def part(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> SparseMatrix:
        pattern = self._pattern(y.size)
        columns = probe_part(field, t, y, self.lower + self.upper + 1)
        return SparseMatrix(columns[pattern.columns % len(columns), pattern.rows], pattern)

    def _pattern(self, n: int) -> Pattern:
        return _band(n, self.lower, self.upper)

    @property
    def written(self) -> str:
        return f"Banded({self.lower}, {self.upper})"


@final
class Sparsity(AbstractPatterned):
    """A Jacobian whose pattern of zeros is known.

    Columns that share no row are evaluated together in one forward-mode sweep, in groups found by
    greedy coloring. The factors are sparse, by the multifrontal method: small sets of unknowns that
    part the others in two are eliminated last, and what is eliminated together is one small dense
    matrix, in a batch with all others of its round. The order is found once, with the first solve;
    all that is left is gathers and products of matrices, on any device and for any batch. A pattern
    whose sparse factors would cost more than dense ones is factored as a dense matrix.

    **Arguments:**

    - `pattern`: `Bool[ndarray, "n n"]` or a SciPy sparse matrix, true where `df_i / dy_j` may be
      anything but zero; the diagonal belongs to it in any case.
    - `linear_solver`: any lineax solver, to which dense matrices are given instead.

    [`stiffrax.Sparsity.detect`][] finds the pattern.

    **Raises:** `ValueError` for a pattern that is not square, or not of the size of the state; at run
    time if the Jacobian has an entry outside of the pattern, larger than 1e-4 of its row (1e-2 in
    single precision); in Rosenbrock methods any that is more than rounding to a step.

    Cost: one forward-mode sweep a group and one that checks; for a grid in the plane factors cost
    about the 1.5th power of `n` and solves `n log n`. Rows are exchanged among what is eliminated
    together only: made for Newton matrices, whose diagonal weighs, and for mass matrices whose
    constraints are near the states that they determine.

    ??? cite "Reference"
        Gebremedhin, Manne and Pothen, *What color is your Jacobian?*, SIAM Review 47 (2005); Duff
        and Reid, *The multifrontal solution of indefinite sparse symmetric linear*, ACM
        Transactions on Mathematical Software 9 (1983).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> arrow = np.eye(50, dtype=bool)
    >>> arrow[0] = True  # a full row: no two columns go together
    >>> srx.Sparsity(arrow).num_groups, srx.Sparsity(arrow.T).num_groups
    (50, 2)

    ```
    """

    pattern: Pattern = eqx.field(static=True)
    dense: Dense | None

    def __init__(self, pattern: Any, linear_solver: lx.AbstractLinearSolver | None = None):
        self.pattern = pattern if isinstance(pattern, Pattern) else _pattern_of(pattern)
        self.dense = None if linear_solver is None else Dense(linear_solver)

    @classmethod
    def detect(
        cls,
        vector_field: Callable[..., PyTree],
        y0: PyTree[ArrayLike],
        args: Any = None,
        *,
        t0: Any = 0.0,
        linear_solver: lx.AbstractLinearSolver | None = None,
    ) -> "Sparsity":
        """The pattern read from the program of a vector field, by `asdex`.

        It holds for all times and states, not for other `args`: a zero in a stoichiometric matrix
        among them is taken for one. Should an entry be missing in a solve, it is refused.

        **Arguments:**

        - `vector_field`: called as `vector_field(t, y, args)`, as in `diffrax.ODETerm`.
        - `y0`, `args`, `t0`: a state, with which the solve starts for example, arguments and time.
        - `linear_solver`: as of the class.

        **Returns:** the structure; components are numbered as `jax.flatten_util.ravel_pytree` does,
        both parts of a complex one.

        **Raises:** `ImportError` without the package asdex, `ValueError` for a state that is not
        floating point.

        Cost: the vector field is traced once, and each of its operations is interpreted on sets of
        indices.

        ??? cite "Reference"
            Hill, *asdex: automatic sparse differentiation in JAX*, doi:10.5281/zenodo.18788242.

        ```python
        >>> import jax.numpy as jnp, stiffrax as srx
        >>> def chain(t, y, args):
        ...     return jnp.concatenate([-y[:1], y[:-1] ** 2 - y[1:]])
        >>> srx.Sparsity.detect(chain, jnp.ones(50)).num_groups  # doctest: +SKIP
        2

        ```
        """
        return cls(_detect_pattern(vector_field, y0, args, t0), linear_solver)

    @property
    def num_groups(self) -> int:
        """Groups of columns that are evaluated together."""
        return self.pattern.num_groups

    def part(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> SparseMatrix:
        pattern, groups = self._pattern(y.size), spread_groups(self.pattern.groups)
        columns = probe(field, t, y, groups, int(groups.max()) + 1).columns
        return SparseMatrix(columns[groups[pattern.columns], pattern.rows], pattern)

    def _pattern(self, n: int) -> Pattern:
        if n != (size := self.pattern.n):
            raise ValueError(
                f"A pattern of shape {(size, size)} was given for a state of {n} "
                "components; it needs one row and one column for each."
            )
        return self.pattern

    def factor(self, shifts: np.ndarray, hJ: SparseMatrix, M: SparseMatrix | None = None) -> Any:
        if self.dense is None:
            return super().factor(shifts, hJ, M)
        return self.dense.factor(shifts, hJ.as_matrix(), None if M is None else M.as_matrix())

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        if self.dense is None:
            return super().solve(factors, rhs)
        return self.dense.solve(factors, rhs)

    @property
    def has_pattern(self) -> bool:
        return self.dense is None


def _pattern_of(given: Any) -> Pattern:
    from scipy.sparse import csr_matrix, issparse

    shape = np.shape(given)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"A pattern of shape {shape} was given; it needs one row and one column for "
            "each component of the state. Write for example `Sparsity(np.eye(n, dtype=bool))`."
        )
    given = csr_matrix(given if issparse(given) else np.asarray(given))
    n, at = len(given.indptr) - 1, given.nonzero()
    rows, columns = (np.concatenate([x, np.arange(n)]) for x in at)
    entries = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    entries.sum_duplicates()
    graph = csr_matrix(entries + entries.T)
    rows, columns = entries.nonzero()
    return Pattern(rows, columns, n, _colors(entries), functools.partial(dissect, graph))


def _colors(entries: "csr_matrix") -> np.ndarray:
    """A group for each column, such that no two columns of a group share a row; fullest first."""
    from scipy.sparse import csc_matrix

    by_column = csc_matrix(entries)
    n = len(entries.indptr) - 1
    colors, taken = np.zeros(n, int), np.zeros((0, n), bool)
    for column in np.argsort(-np.diff(by_column.indptr), kind="stable"):
        rows = by_column.indices[by_column.indptr[column] : by_column.indptr[column + 1]]
        free = np.flatnonzero(~taken[:, rows].any(axis=1))
        if len(free):
            color = free[0]
        else:
            color = len(taken)
            taken = np.concatenate([taken, np.zeros((1, n), bool)])
        taken[color, rows] = True
        colors[column] = color
    return colors


def _detect_pattern(
    vector_field: Callable[..., PyTree], y0: PyTree[ArrayLike], args: Any, t0: Any
) -> "csr_matrix":
    """Which component of the vector field can depend on which state, whatever time and state are.

    **Raises:** `ImportError` that says what to install.
    """
    from scipy.sparse import csr_matrix

    try:
        asdex = importlib.import_module("asdex")
    except ImportError as error:
        raise ImportError(
            "`Sparsity.detect` needs the package asdex, and a JAX from 0.9 on that it loads with: "
            f"{error}. Run `pip install 'stiffrax[sparse]'`, or write the pattern: "
            "`Sparsity(pattern)`."
        ) from error
    check_state(y0)
    flat, unravel = flatten_state(y0)

    def field(t: Array, x: Array) -> Array:
        slope = vector_field(t, unravel(x), args)
        return flatten_state(jax.tree.map(lambda s, y: jnp.asarray(s, y.dtype), slope, unravel(x)))[
            0
        ]

    found = asdex.jacobian_sparsity(field, jnp.asarray(t0, flat.dtype), flat, argnums=1)
    ones = np.ones(len(found.rows), bool)
    return csr_matrix((ones, (found.rows, found.cols)), shape=(flat.size, flat.size))
