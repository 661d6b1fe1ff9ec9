"""Order conditions from rooted trees."""

import functools
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from ._coefficients import Method, Vector, coefficients, is_traceable

# A rooted tree is the sorted tuple of the trees that hang from its root.
Tree: TypeAlias = tuple[Any, ...]
_HIGHEST_ORDER = 10


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
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= _HIGHEST_ORDER:
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
