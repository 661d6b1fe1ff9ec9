"""Back to the tableaus of a given order."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ._learnable_tableau import AbstractLearnableTableau
from ._order_conditions import order_conditions

TableauT = TypeVar("TableauT", bound=AbstractLearnableTableau)


def order_residuals(tableau: AbstractLearnableTableau, order: int) -> Float[Array, " conditions"]:
    """All conditions of the orders 1 to `order`, and those of the row sums.

    **Arguments:**

    - `tableau`: of a [`stiffrax.LearnableRungeKutta`][].
    - `order`: from 1 to 10.

    **Returns:** what is left of each condition, `Float[Array, " conditions"]`: zero where it holds.

    **Raises:** `ValueError` for an order outside that range.

    ```python
    >>> import stiffrax as srx
    >>> heun = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2)).tableau
    >>> bool(abs(srx.tableaus.order_residuals(heun, 3)).max() < 1e-15)
    True

    ```
    """
    A = tableau.masked_A
    conditions = [order_conditions((A, tableau.b, tableau.c), p) for p in range(1, order + 1)]
    return jnp.concatenate([*conditions, tableau.row_sums().astype(A.dtype)])


def order_projection(tableau: TableauT, order: int | None = None, iterations: int = 8) -> TableauT:
    r"""The tableau of order `p` that is next to a given one.

    Gauss-Newton on the residuals `g` of all conditions, with `x` the trainable leaves:

    $$x \leftarrow x - g'(x)^T \left( g'(x) g'(x)^T \right)^{-1} g(x)$$

    Each iteration goes to the nearest point that satisfies the linearized conditions: for order one
    it is the Euclidean projection, in one iteration; for the higher orders, whose conditions are
    polynomials, it converges quadratically to a point next to it. Differentiable, so that it also
    serves as a reparametrization: train a free tableau and solve with its projection.

    **Arguments:**

    - `tableau`: of a [`stiffrax.LearnableRungeKutta`][].
    - `order`: `p`, from 1 to 10; by default the order that the tableau is meant to have.
    - `iterations`: how many are done. 8 take every tableau nearby to rounding.

    **Returns:** A tableau of the same kind. From far away, or where the conditions have no solution
    at all, its `order_residuals` do not vanish.

    Cost: an iteration evaluates the conditions, their Jacobian, and solves one system of as many
    equations as there are conditions (`s + 8` for order 4).

    ??? cite "Reference"
        Nocedal and Wright, *Numerical Optimization*, section 18.

    ```python
    >>> import equinox as eqx, stiffrax as srx
    >>> radau = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2)).tableau
    >>> moved = eqx.tree_at(lambda t: t.b, radau, radau.b + 0.01)
    >>> back = srx.tableaus.order_projection(moved)
    >>> bool(abs(srx.tableaus.order_residuals(back, 3)).max() < 1e-15)
    True

    ```
    """
    p = tableau.order if order is None else order
    free, fixed = eqx.partition(tableau, eqx.is_inexact_array)
    start, unravel = ravel_pytree(free)

    def residuals(x: Array) -> Array:
        return order_residuals(eqx.combine(unravel(x), fixed), p)

    def iteration(x: Array, _: None) -> tuple[Array, None]:
        g, jacobian = residuals(x), jax.jacrev(residuals)(x)
        gram = jacobian @ jacobian.T
        # Conditions that depend on each other (as at RK4) leave the Gram matrix singular.
        ridge = 10 * jnp.finfo(x.dtype).eps * jnp.trace(gram)
        step = _solve(gram + ridge * jnp.eye(g.size, dtype=x.dtype), g)
        return x - jacobian.T @ step, None

    x, _ = lax.scan(iteration, start, None, length=iterations)
    return eqx.combine(unravel(x), fixed)


def _solve(matrix: Float[Array, "m m"], rhs: Float[Array, " m"]) -> Float[Array, " m"]:
    """Gauss and Jordan, without pivoting: the matrix is positive definite.

    Not by the library, whose batched factorizations may wait for each other's threads for ever.
    """

    def eliminate(k: Array, rows: Array) -> Array:
        row = rows[k] / rows[k, k]
        others = rows - rows[:, k, None] * row
        return jnp.where((jnp.arange(rhs.size) == k)[:, None], row, others)

    rows = jnp.concatenate([matrix, rhs[:, None]], axis=1)
    return lax.fori_loop(0, rhs.size, eliminate, rows)[:, -1]
