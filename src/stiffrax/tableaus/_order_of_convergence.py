"""The order of a method whose coefficients are rounded."""

import numpy as np
from jaxtyping import Float

from ._order_conditions import order_conditions

# Trees are gone through to this order: 1842 conditions, in a tenth of a second.
_HIGHEST = 10


def rounding_of(*arrays: object) -> float:
    """The unit of rounding of the coarsest of some arrays."""
    dtypes = [np.asarray(x).dtype for x in arrays]
    return float(max(np.finfo(d if d.kind == "f" else float).eps for d in dtypes))


def order_of_convergence(
    A: Float[np.ndarray, "s s"],
    b: Float[np.ndarray, " s"],
    c: Float[np.ndarray, " s"],
    eps: float,
) -> tuple[int, bool]:
    """The order of a method, and whether it may be higher.

    Rooted trees to order 10; beyond, Butcher's assumptions `B(p)`, `C(q)` and `D(r)`, which imply the
    order `min(p, q + r + 1, 2 q + 2)`. They are tested on Legendre polynomials: on powers the
    residual of Gauss' quadrature with eight nodes is 4e-10 where it does not hold.

    `eps` is the rounding of what the coefficients were given in.
    """
    s = len(b)
    # A projected tableau leaves up to 1e-12 in double precision, and up to one unit of rounding for
    # each vertex in single, where Dopri8 has 7 units at the order that it has not.
    slack = 1e-10 + 3 * eps
    if np.max(np.abs(c - np.sum(A, axis=1)) / (1 + np.sum(np.abs(A), axis=1))) > slack:
        # The trees take the row sums to be `c`, but for that of one vertex.
        return int(abs(np.sum(b) - 1) <= slack * (1 + np.sum(np.abs(b)))), False
    quadrature = _legendre_order(b[None], c, np.ones(1), slack)
    order = 0
    for p in range(1, min(_HIGHEST, quadrature) + 1):
        sizes = 1 + np.abs(order_conditions((np.abs(A), np.abs(b), np.abs(c)), p))
        if np.any(np.abs(order_conditions((A, b, c), p)) > p * slack * sizes):
            return order, False
        order = p
    if order == quadrature:
        return order, False
    stages = _legendre_order(A, c, c, slack)
    # `D(r)`, as a condition of its own kind on the transposed coefficients: from `c_j` to 1.
    transposed = _legendre_order(A.T * b[None], c, np.ones(s), slack, start=c, factor=b)
    implied = min(quadrature, stages + transposed + 1, 2 * stages + 2)
    return max(order, implied), implied < quadrature


def _legendre_order(
    weights: Float[np.ndarray, "m s"],
    nodes: Float[np.ndarray, " s"],
    ends: Float[np.ndarray, " m"],
    slack: float,
    *,
    start: Float[np.ndarray, " m"] | float = 0.0,
    factor: Float[np.ndarray, " m"] | float = 1.0,
) -> int:
    """How many Legendre polynomials the rows of weights integrate from `start` to `ends`."""
    legendre = np.polynomial.legendre
    for k in range(2 * len(nodes) + 1):
        one = legendre.Legendre.basis(k, domain=[0, 1])
        integral = one.integ()
        values = weights @ one(nodes)
        exact = factor * (integral(ends) - integral(start))
        # A node of size x beyond the interval makes values of x^k.
        size = 1 + np.abs(weights) @ np.maximum(1, np.abs(one(nodes))) * (1 + k**2)
        if np.any(np.abs(values - exact) > slack * size):
            return k
    return 2 * len(nodes)
