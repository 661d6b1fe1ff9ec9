"""What is known of the Jacobian's structure, and what follows for its evaluation and its systems."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._mass import Mass
from ._products import small_matmul
from ._small_inverse import small_inverse, unchecked_inverse
from ._stage_system import FlatField


class AbstractStructure(eqx.Module):
    """The structure of the Jacobian of a vector field, on the flat state.

    What `jacobian` returns is a pytree of arrays of the structure's own; it is only ever scaled and
    handed to `factor`.

    ```python
    >>> import stiffrax as srx
    >>> isinstance(srx.Banded(1, 1), srx.AbstractStructure)
    True

    ```
    """

    @abc.abstractmethod
    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> Any:
        """The Jacobian at a point."""

    @abc.abstractmethod
    def factor(self, shifts: np.ndarray, hJ: Any, M: Any = None) -> Any:
        """Factors of `shift M - h J`, for each real or complex shift; `None` is the identity."""

    @abc.abstractmethod
    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        """Solves the systems that were factored, each with a right-hand side of its own."""

    def scaled(self, h: Array, jacobian: Any) -> Any:
        """The Jacobian times the step."""
        return jax.tree.map(lambda x: h * x, jacobian)

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

    def mass_matrix(self, mass: Mass) -> Float[Array, "n n"]:
        return mass.as_matrix()

    def factor(
        self, shifts: np.ndarray, hJ: Float[Array, "n n"], M: Float[Array, "n n"] | None = None
    ) -> Any:
        dtype = _dtype_of(shifts, hJ.dtype)
        identity = jnp.eye(hJ.shape[0], dtype=hJ.dtype)
        diagonals = jnp.asarray(shifts).astype(dtype)[:, None, None]
        matrices = diagonals * (identity if M is None else M) - hJ.astype(dtype)
        if self.linear_solver is None:
            # Whether the iteration converges is the check.
            if M is None:
                return unchecked_inverse(matrices) if len(matrices) else matrices
            # Constraints may need other pivots. One by one: see `small_inverse` on library batches.
            return jnp.stack([small_inverse(m) for m in matrices]) if len(matrices) else matrices
        return [self.linear_solver.init(lx.MatrixLinearOperator(m), {}) for m in matrices]

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        if self.linear_solver is None:
            return small_matmul(factors, rhs[..., None])[..., 0]
        solver = self.linear_solver
        return jnp.stack([solver.compute(f, b, {})[0] for f, b in zip(factors, rhs, strict=True)])


def _dtype_of(shifts: np.ndarray, dtype: Any) -> Any:
    return jnp.result_type(dtype, jnp.complex64) if np.iscomplexobj(shifts) else dtype


def shifted(shift: Any, dtype: Any) -> Array:
    """A real or complex shift in the precision of the state."""
    return jnp.asarray(shift).astype(_dtype_of(np.asarray(shift), dtype))


def probes(
    field: FlatField, t: Array, y: Float[Array, " n"], groups: Array, num_groups: int
) -> Float[Array, "groups n"]:
    """J times the sum of unit vectors of each group of columns: a forward-mode sweep a group."""
    seeds = (groups[None] == jnp.arange(num_groups)[:, None]).astype(y.dtype)
    return jax.vmap(lambda seed: jax.jvp(lambda x: field(t, x), (y,), (seed,))[1])(seeds)
