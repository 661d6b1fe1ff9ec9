"""What is known of the Jacobian, and the factors of the Newton matrices made of it."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Inexact

from .._trees import nonzero
from ..linear_algebra import (
    library_solve,
    small_inverse,
    small_matmul,
    unchecked_inverse,
)
from ..tableaus import SplitTransform
from ._mass import Mass
from ._stage_system import FlatField


class AbstractStructure(eqx.Module):
    """The structure of the Jacobian of a vector field, on the flat state.

    What `jacobian` returns is a pytree of arrays of the structure's own; it is only ever scaled and
    handed to `factor`. A subclass defines `jacobian`, `factor` and `solve`, as in
    [this example](../own_method.md#another-way-to-solve-the-stages).

    ```python
    >>> import jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> dense = srx.Dense()
    >>> factors = dense.factor(np.array([3.0, 5.0]), jnp.eye(2))  # of 3 I - I and 5 I - I
    >>> print(dense.solve(factors, jnp.ones((2, 2))))
    [[0.5  0.5 ]
     [0.25 0.25]]

    ```
    """

    @abc.abstractmethod
    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Any:
        """The Jacobian of `field(t, y)` by the flat state `y` at a point; its form is its own."""

    def part(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Any:
        """What of a Jacobian that has other entries too is in this structure, about."""
        return self.jacobian(field, t, y)

    @abc.abstractmethod
    def factor(self, shifts: np.ndarray, hJ: Any, M: Any = None) -> Any:
        """Factors of `shift M - h J`, for each shift.

        **Arguments:**

        - `shifts`: the numbers of `k` systems, NumPy, all real or all complex; none at all for `k = 0`.
        - `hJ`: what `jacobian` returned, times the step.
        - `M`: a mass matrix, from `mass_matrix`; `None` is the identity.

        **Returns:** a pytree of arrays, which is handed to `solve`.
        """

    @abc.abstractmethod
    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        """Solves the systems that were factored, each with a right-hand side of its own, a row."""

    def solve_rows(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        """Solves the only system that was factored for several right-hand sides."""
        return jax.vmap(lambda b: self.solve(factors, b[None])[0])(rhs)

    def solve_counted(
        self, factors: Any, rhs: Inexact[Array, "k n"]
    ) -> tuple[Inexact[Array, "k n"], Array | int]:
        """As `solve`, with the number of cycles that an iterative solver took."""
        return self.solve(factors, rhs), 0

    def scaled(self, h: Array, jacobian: Any) -> Any:
        """The Jacobian times the step; no number anywhere where an entry is not finite.

        Divided by an infinite entry every residual is zero, which would pass for convergence.
        """
        return jax.tree.map(lambda x: h * x + zero_if_finite(x), jacobian)

    def mass_matrix(self, mass: Mass) -> Any:
        """A mass matrix in the form of the Jacobian, for `factor`.

        **Raises:** `ValueError` unless a structure defines it.
        """
        raise ValueError(
            f"`structure={type(self).__name__}(...)` was given a mass matrix; it needs a structure "
            "that knows them. Write `structure=stiffrax.Dense()`, or define `mass_matrix` and let "
            "`factor` take a third argument."
        )

    def leaves_out(self, mass: Mass) -> Any:
        """Whether a mass matrix has entries outside of this structure."""
        del mass
        return False

    @property
    def written(self) -> str:
        """As it is written in a program."""
        return f"{type(self).__name__}(...)"

    @property
    def has_entries(self) -> bool:
        """Whether `as_sparse` is defined."""
        return self.has_pattern

    @property
    def has_pattern(self) -> bool:
        """Whether it is, and the factors are sparse: exact derivatives of steps are so as well."""
        return False

    def as_sparse(self, jacobian: Any, n: int) -> Any:
        """A Jacobian, or a mass matrix, of a state of `n` components as entries of a pattern; of no
        pattern, as a dense matrix."""
        raise NotImplementedError


def zero_if_finite(x: Array) -> Array:
    """Zero, or not a number where an entry is not finite."""
    # Of `x` itself, made of columns, each column's sum would be compiled by itself.
    return jnp.sum(0 * x)


@final
class Dense(AbstractStructure):
    """No structure: an `n x n` matrix, by one forward-mode sweep a column. The default.

    Without a `linear_solver` the factors are explicit inverses: at the sizes stiffrax is made for
    a product costs a fraction of a triangular solve. With one, every system goes to that solver.

    **Arguments:**

    - `linear_solver`: any lineax solver.

    ```python
    >>> import lineax as lx, stiffrax as srx
    >>> srx.RadauIIA5(structure=srx.Dense(lx.LU()))
    RadauIIA5(structure=Dense(...))

    ```
    """

    linear_solver: lx.AbstractLinearSolver | None = None

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        return field.jacobian(t, y)

    @property
    def has_entries(self) -> bool:
        return True

    def as_sparse(self, jacobian: Float[Array, "n n"], n: int) -> Float[Array, "n n"]:
        return jacobian

    def mass_matrix(self, mass: Mass) -> Float[Array, "n n"]:
        return mass.as_matrix()

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "n n"], M: Float[Array, "n n"] | None = None
    ) -> Any:
        dtype = _dtype_of(shifts, hJ.dtype)
        identity = jnp.eye(hJ.shape[0], dtype=hJ.dtype)
        diagonals = jnp.asarray(shifts).astype(dtype)[:, None, None]
        matrices = diagonals * (identity if M is None else M).astype(dtype)[None]
        matrices = matrices - hJ.astype(dtype)[None]
        if self.linear_solver is None:
            # Whether the iteration converges is the check.
            if M is None:
                return unchecked_inverse(matrices) if len(matrices) else matrices
            # Constraints may need other pivots. One by one: a library takes no batch of them
            # (`small_inverse`).
            return jnp.stack([small_inverse(m) for m in matrices]) if len(matrices) else matrices
        return [self.linear_solver.init(lx.MatrixLinearOperator(m), {}) for m in matrices]

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        if self.linear_solver is None:
            return small_matmul(factors, rhs[..., None])[..., 0]
        solver = self.linear_solver
        return jnp.stack([library_solve(solver, f, b) for f, b in zip(factors, rhs, strict=True)])

    def solve_rows(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        if self.linear_solver is None:
            return self.solve(factors, rhs)
        return super().solve_rows(factors, rhs)


def _dtype_of(shifts: np.ndarray, dtype: Any) -> Any:
    return complex_of(dtype) if np.iscomplexobj(shifts) else dtype


def complex_of(dtype: Any) -> Any:
    """The complex dtype of the same precision."""
    return jnp.complex128 if dtype == jnp.float64 else jnp.complex64


def shifted(shift: Any, dtype: Any) -> Array:
    """A real or complex shift in the precision of the state."""
    return jnp.asarray(shift).astype(_dtype_of(np.asarray(shift), dtype))


def _as_complex(matrix: Any, dtype: Any) -> Array:
    return jnp.asarray(matrix).astype(complex_of(dtype))


@final
class SplitFactors(eqx.Module):
    r"""Factors of $A^{-1} \otimes M - I \otimes h J$, by the eigenvectors of $A^{-1}$.

    One real system $\gamma M - h J$ for each real eigenvalue and one complex system
    $\lambda M - h J$ for each pair replace the stacked system of `m n` unknowns.
    """

    transform: SplitTransform = eqx.field(static=True)
    real: Any
    pair: Any
    structure: AbstractStructure

    def solve(self, R: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """Solves the stage system with one frozen Jacobian for right-hand sides `R`."""
        return self.solve_counted(R)[0]

    def solve_counted(self, R: Float[Array, "m n"]) -> tuple[Float[Array, "m n"], Array | int]:
        """With the number of cycles that an iterative solver took."""
        T, dtype, cycles = self.transform, R.dtype, 0
        Z = jnp.zeros_like(R)
        if len(T.real):
            w = small_matmul(jnp.asarray(T.to_real, dtype), R)
            w, cycles = self.structure.solve_counted(self.real, w)
            Z = Z + small_matmul(jnp.asarray(T.from_real, dtype), w)
        if len(T.pair):
            u = small_matmul(_as_complex(T.to_pair, dtype), _as_complex(R, dtype))
            u, more = self.structure.solve_counted(self.pair, u)
            cycles = cycles + more
            Z = Z + 2 * small_matmul(_as_complex(T.from_pair, dtype), u).real.astype(dtype)
        return Z, cycles

    def solve_real(self, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
        """Solves the real system `(gamma M - h J) x = rhs`, where there is one."""
        return self.structure.solve(self.real, rhs[None])[0]


def factorize(
    transform: SplitTransform,
    hJ: Any,
    structure: AbstractStructure,
    mass: Mass | None = None,
    gamma: float | None = None,
) -> SplitFactors:
    """Factors the Newton matrices for the Jacobian `hJ` (times the step).

    `gamma`: of the real system that error estimates are filtered by, factored with them where it is
    none of them.
    """
    one_more = gamma is not None and not len(transform.real)
    shifts = np.array([gamma]) if one_more else transform.real
    real = factor_shifted(shifts, hJ, structure, mass)
    pair = factor_shifted(transform.pair, hJ, structure, mass)
    return SplitFactors(transform, real, pair, structure)


def factor_shifted(
    shifts: np.ndarray, hJ: Any, structure: AbstractStructure, mass: Mass | None
) -> Any:
    """Factors of `shift M - h J` for each shift."""
    if mass is None:
        return structure.factor(shifts, hJ)
    return structure.factor(shifts, hJ, structure.mass_matrix(mass))


def _single(tree: Any) -> Any:
    narrow = {"float64": jnp.float32, "complex128": jnp.complex64}
    return jax.tree.map(lambda x: x.astype(narrow.get(x.dtype.name, x.dtype)), tree)


@final
class SingleFactors(AbstractStructure):
    """A structure whose matrices are factored and solved in single precision.

    Residuals and increments keep their precision: a factor that is wrong by single rounding makes
    the simplified Newton iteration contract a little more slowly, not end elsewhere. What is below the
    smallest single number, in units of the largest component, is zero.
    """

    structure: AbstractStructure

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Any:
        return self.structure.jacobian(field, t, y)

    def scaled(self, h: Array, jacobian: Any) -> Any:
        return self.structure.scaled(h, jacobian)

    def mass_matrix(self, mass: Mass) -> Any:
        return self.structure.mass_matrix(mass)

    def leaves_out(self, mass: Mass) -> Any:
        return self.structure.leaves_out(mass)

    @property
    def written(self) -> str:
        return self.structure.written

    def factor(self, shifts: np.ndarray, hJ: Any, M: Any = None) -> Any:
        # Once more: what is infinite in single precision may not have been.
        hJ = self.scaled(jnp.ones((), jnp.float32), _single(hJ))
        if M is None:
            return self.structure.factor(shifts, hJ)
        return self.structure.factor(shifts, hJ, _single(M))

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        # Increments far below one are ordinary in double precision and vanish in single.
        size = jnp.max(jnp.abs(rhs), axis=-1, keepdims=True, initial=0.0)
        size = nonzero(size).astype(rhs.dtype)
        return size * self.structure.solve(factors, _single(rhs / size)).astype(rhs.dtype)
