"""Order conditions and simplifying assumptions of any tableau, and projection onto them."""

import functools
import math
from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Shaped

from .._arguments import as_integer, check_count, check_instance
from ._learnable_tableau import AbstractLearnableTableau
from ._tableau import Tableau

Matrix: TypeAlias = Shaped[Array | np.ndarray, "s s"]
Vector: TypeAlias = Shaped[Array | np.ndarray, " s"]
# NumPy or JAX arrays; NumPy arrays of objects hold the numbers of any exact arithmetic.
Method: TypeAlias = Tableau | AbstractLearnableTableau | tuple[Array | np.ndarray, ...]


def coefficients(method: Method, name: str = "method") -> tuple[Matrix, Vector, Vector]:
    """`(A, b, c)` of a method, checked to belong together; `name`: of the argument."""
    if isinstance(method, Tableau):
        return method.A, method.b, method.c
    if isinstance(method, AbstractLearnableTableau):
        return method.masked_A, method.b, method.c
    needed = "a tableau of a Runge-Kutta method, or arrays `(A, b, c)`"
    check_instance(name, method, tuple | list, needed, "stiffrax.tableaus.radau_iia(3)")
    arrays = tuple(x if hasattr(x, "shape") else np.asarray(x) for x in method)
    shapes = [x.shape for x in arrays]
    s = shapes[-1][0] if shapes and shapes[-1] else 0
    if shapes != [(s, s), (s,), (s,)]:
        raise ValueError(
            f"`{name}` was given as arrays of the shapes {shapes}; it needs `(A, b, c)` of shapes "
            "(s, s), (s,) and (s,). Write for example `(tableau.A, tableau.b, tableau.c)`."
        )
    A, b, c = arrays
    return A, b, c


def is_traceable(*arrays: object) -> bool:
    """Whether JAX must do the arithmetic, as one of the arrays is its own."""
    return any(isinstance(array, Array) for array in arrays)


# A rooted tree is the sorted tuple of the trees that hang from its root.
Tree: TypeAlias = tuple[Any, ...]
_HIGHEST_ORDER = 10
# 200 conditions; the 486 of order 9 take more than a minute to compile.
_HIGHEST_PROJECTED = 8


def _with_one_more_leaf(tree: Tree) -> Iterator[Tree]:
    yield tuple(sorted((*tree, ())))
    for i, child in enumerate(tree):
        for grown in _with_one_more_leaf(child):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))


@functools.cache
def rooted_trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with `order` vertices, each one once."""
    if order == 1:
        return ((),)
    return tuple(sorted({t for old in rooted_trees(order - 1) for t in _with_one_more_leaf(old)}))


def _vertices(tree: Tree) -> int:
    return 1 + sum(_vertices(child) for child in tree)


def _density(tree: Tree) -> int:
    return _vertices(tree) * math.prod(_density(child) for child in tree)


def order_conditions(method: Method, order: int) -> Shaped[Array | np.ndarray, " trees"]:
    r"""The residuals of the conditions for one order of convergence.

    One for each rooted tree `tau` with `order` vertices:

    $$\sum_i b_i \Phi_i(\tau) - \frac{1}{\gamma(\tau)}, \qquad
      \Phi_i([\tau_1, \ldots, \tau_k]) = \prod_{l=1}^k \sum_j a_{ij} \Phi_j(\tau_l)$$

    A method has order `p` when those of the orders 1 to `p` vanish. The row sums of `A` are taken
    to be `c`, as they must be to treat time like a state; `stage_conditions(method, 1)` tells.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or arrays `(A, b, c)`. With JAX arrays the
      residuals are differentiable in all three; NumPy arrays of objects keep their arithmetic.
    - `order`: number of vertices of the trees, from 1 to 10.

    **Returns:** The residuals; 1, 1, 2, 4, 9, 20, 48, 115, 286, 719 of them at the orders 1 to 10.

    **Raises:** `ValueError` for an order outside that range, or arrays that do not belong together.

    **Cost:** One product with `A` for each tree with fewer vertices.

    ??? cite "Reference"
        Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations I*, theorem II.2.13.

    ```python
    >>> import stiffrax as srx
    >>> trapezoid = srx.tableaus.lobatto_iiia(2)
    >>> srx.tableaus.order_conditions(trapezoid, 2)
    array([0.])
    >>> srx.tableaus.order_conditions(trapezoid, 3).round(4)
    array([0.1667, 0.0833])

    ```
    """
    given = as_integer(order)
    if given is None or not 1 <= given <= _HIGHEST_ORDER:
        raise ValueError(
            f"`order={order!r}` was given to `order_conditions`; it needs an integer from 1 to "
            f"{_HIGHEST_ORDER}. For higher orders write `quadrature_conditions(method, order)` "
            "with `stage_conditions` and `transposed_stage_conditions`, which imply them."
        )
    A, b, c = coefficients(method)

    # sum_j a_ij Phi_j of every tree that may hang from a root
    hanging: dict[Tree, Vector] = {(): c}

    def weights(tree: Tree):
        return math.prod((hanging[child] for child in tree), start=c**0)

    for vertices in range(2, order):
        for tree in rooted_trees(vertices):
            hanging[tree] = A @ weights(tree)
    # Multiplied out: 1 / gamma is inexact, and would spoil an exact arithmetic.
    residuals = [
        (_density(tree) * (b @ weights(tree)) - 1) / _density(tree) for tree in rooted_trees(order)
    ]
    return jnp.stack(residuals) if is_traceable(A, b, c) else np.array(residuals)


def _powers(c, highest: int) -> list:
    return [c**k for k in range(highest + 1)]


def _checked(order: int, name: str) -> int:
    return check_count("order", order, write=f"{name}(method, 3)")


def quadrature_conditions(method: Method, order: int) -> Shaped[Array | np.ndarray, " order"]:
    r"""The residuals of `B(order)`: the weights integrate polynomials of degree below `order`.

    $$\sum_i b_i c_i^{k-1} - \frac{1}{k}, \qquad k = 1, \ldots, \text{order}$$

    A method has order `p` if `B(p)`, `C(q)` and `D(r)` hold with `p <= q + r + 1` and
    `p <= 2 q + 2`, with `C` of [`stiffrax.tableaus.stage_conditions`][] and `D` of
    [`stiffrax.tableaus.transposed_stage_conditions`][].

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or arrays `(A, b, c)`, of JAX, NumPy or objects.
    - `order`: the highest `k`, at least 1.

    **Returns:** The residuals, in the arithmetic of the arrays.

    **Raises:** `ValueError` for an order below 1, or arrays that do not belong together.

    ??? cite "Reference"
        Butcher, *Implicit Runge-Kutta processes*, Math. Comp. 18 (1964).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.quadrature_conditions(srx.tableaus.gauss(1), 3).round(4)
    array([ 0.    ,  0.    , -0.0833])

    ```
    """
    order = _checked(order, "quadrature_conditions")
    A, b, c = coefficients(method)
    rows = [(k * (b @ power) - 1) / k for k, power in enumerate(_powers(c, order - 1), start=1)]
    return jnp.stack(rows) if is_traceable(A, b, c) else np.array(rows)


def stage_conditions(method: Method, order: int) -> Shaped[Array | np.ndarray, "order s"]:
    r"""The residuals of `C(order)`: the stages have that order.

    $$\sum_j a_{ij} c_j^{k-1} - \frac{c_i^k}{k}, \qquad k = 1, \ldots, \text{order}$$

    A collocation method with `s` stages satisfies `C(s)`; `C(1)` says that the row sums are `c`.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or arrays `(A, b, c)`, of JAX, NumPy or objects.
    - `order`: the highest `k`, at least 1.

    **Returns:** The residuals, a row for each `k`, in the arithmetic of the arrays.

    **Raises:** `ValueError` for an order below 1, or arrays that do not belong together.

    ??? cite "Reference"
        Butcher, *Implicit Runge-Kutta processes*, Math. Comp. 18 (1964).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.stage_conditions(srx.tableaus.radau_iia(1), 2)
    array([[0. ],
           [0.5]])

    ```
    """
    order = _checked(order, "stage_conditions")
    A, b, c = coefficients(method)
    powers = _powers(c, order)
    rows = [(k * (A @ powers[k - 1]) - powers[k]) / k for k in range(1, order + 1)]
    return jnp.stack(rows) if is_traceable(A, b, c) else np.array(rows)


def transposed_stage_conditions(
    method: Method, order: int
) -> Shaped[Array | np.ndarray, "order s"]:
    r"""The residuals of `D(order)`: the stages of the adjoint method have that order.

    $$\sum_i b_i c_i^{k-1} a_{ij} - \frac{b_j (1 - c_j^k)}{k}, \qquad k = 1, \ldots, \text{order}$$

    Radau IIA satisfies `D(s - 1)`, Gauss `D(s)`, Lobatto IIIA `D(s - 2)`.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or arrays `(A, b, c)`, of JAX, NumPy or objects.
    - `order`: the highest `k`, at least 1.

    **Returns:** The residuals, a row for each `k`, in the arithmetic of the arrays.

    **Raises:** `ValueError` for an order below 1, or arrays that do not belong together.

    ??? cite "Reference"
        Butcher, *Implicit Runge-Kutta processes*, Math. Comp. 18 (1964).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.transposed_stage_conditions(srx.tableaus.gauss(1), 1)
    array([[0.]])

    ```
    """
    order = _checked(order, "transposed_stage_conditions")
    A, b, c = coefficients(method)
    powers = _powers(c, order)
    rows = [(k * ((b * powers[k - 1]) @ A) - b * (1 - powers[k])) / k for k in range(1, order + 1)]
    return jnp.stack(rows) if is_traceable(A, b, c) else np.array(rows)


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

    Each iteration goes to the nearest point on the linearized conditions: for order one the
    Euclidean projection, in one iteration; for higher orders, whose conditions are polynomials, it
    converges to a point next to it: quadratically, but near methods whose conditions depend on each
    other, such as Tsit5 and Dopri5 at order five, linearly. Differentiable: train a free tableau and
    solve with its projection.

    **Arguments:**

    - `tableau`: of a [`stiffrax.LearnableRungeKutta`][].
    - `order`: `p`, from 1 to 8; by default the order that the tableau is meant to have.
    - `iterations`: how many are done. 8 take a tableau nearby to rounding where they converge
        quadratically.

    **Returns:** A tableau of the same kind. From far away, or where the conditions have no solution
    at all, its `order_residuals` do not vanish.

    **Raises:** `ValueError` for an order below 1 or above 8.

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
    order = tableau.order if order is None else order
    p = check_count("order", order, most=_HIGHEST_PROJECTED)
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
        row = rows[k][None] / rows[k, k]
        others = rows - rows[:, k, None] * row
        return jnp.where((jnp.arange(rhs.size) == k)[:, None], row, others)

    rows = jnp.concatenate([matrix, rhs[:, None]], axis=1)
    return lax.fori_loop(0, rhs.size, eliminate, rows)[:, -1]
