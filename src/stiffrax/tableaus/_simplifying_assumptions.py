"""Butcher's simplifying assumptions, which imply order conditions of any order."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from ._coefficients import Method, coefficients, is_traceable


def _powers(c, highest: int) -> list:
    return [c**k for k in range(highest + 1)]


def _checked(order: int, name: str) -> int:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(
            f"`order={order!r}` was given to `{name}`; it needs an integer of at least 1. "
            f"Write for example `{name}(method, 3)`."
        )
    return order


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
