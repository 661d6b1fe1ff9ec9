"""Linear solvers of lineax: what any of them solves, and one for small matrices."""

from typing import Any, final

import jax.numpy as jnp
import lineax as lx
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Inexact, PyTree

from ._products import largest_size
from ._scaled_inverse import power_of_two, scaled_inverse

ITERATIVE = (lx.GMRES, lx.BiCGStab, lx.CG, lx.Normal)


def library_solve(
    solver: lx.AbstractLinearSolver, factors: Any, b: Inexact[Array, " l"], options: Any = None
) -> Inexact[Array, " n"]:
    """Solves for a right-hand side of any size; no number where the solver says that it failed.

    Iterative ones get it of size one, which flushes small components beside one of 1e299: lineax'
    GMRES takes a small residual for zero, and finds no increment, which would pass for convergence.
    """
    size = largest_size(jnp.abs(lax.stop_gradient(b)))
    most = jnp.finfo(size.dtype).maxexp - 2
    exponent = jnp.clip(jnp.floor(jnp.log2(size)), -most, most)
    # Linear maps are transposed at zero.
    known = (size > 0) & jnp.isfinite(size) & isinstance(solver, ITERATIVE)
    exponent = jnp.where(known, exponent, 0).astype(int)
    down, up = (power_of_two(e, size.dtype).astype(b.dtype) for e in (-exponent, exponent))
    x, result, _ = solver.compute(factors, down * b, {} if options is None else options)
    return jnp.where(result == lx.RESULTS.successful, up * x, jnp.nan)


@final
class SmallInverse(lx.AbstractLinearSolver):
    """A lineax solver by explicit inverse, for the small dense systems of a step.

    Scaled rows and columns and one step of iterative refinement keep the accuracy that an explicit
    inverse may lose, whatever the units. For
    a few dozen unknowns, alone or under `vmap`; for more use `lineax.LU()`.

    ```python
    >>> import jax.numpy as jnp, lineax as lx, stiffrax as srx
    >>> operator = lx.MatrixLinearOperator(jnp.array([[2.0, 0.0], [0.0, 4.0]]))
    >>> print(lx.linear_solve(operator, jnp.ones(2), srx.SmallInverse()).value)
    [0.5  0.25]

    ```
    """

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> Any:
        """The scaled inverse.

        **Raises:** `ValueError` for a matrix that is not square.
        """
        del options
        if operator.in_size() != operator.out_size():
            raise ValueError(
                f"`SmallInverse` was given a {operator.out_size()} x {operator.in_size()} matrix; "
                "it needs a square one. Use `lineax.AutoLinearSolver(well_posed=None)`."
            )
        return scaled_inverse(operator.as_matrix())

    def compute(self, state: Any, vector: PyTree[Array], options: dict[str, Any]) -> Any:
        del options
        b, unravel = ravel_pytree(vector)
        return unravel(state.solve(b)), lx.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        return state.T, options

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        return state.conj(), options

    def assume_full_rank(self) -> bool:
        return True
