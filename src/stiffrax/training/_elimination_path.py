"""The order in which terms of a linear model can be dropped at least cost."""

import numpy as np
from jaxtyping import Bool, Float, Int

from ._fit_least_squares import LeastSquaresFit
from ._free_parameters import FreeParameters

# Terms taken out of the covariance one by one before it is computed anew: rounding adds up.
_FRESH = 64


def elimination_path(
    fit: LeastSquaresFit, free: FreeParameters
) -> tuple[Int[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """The order in which terms cost least, the others refitted each time, and the losses."""
    C, theta = fit.triangle[:, free.index], np.asarray(free.values)[free.index]
    size = np.linalg.norm(C, axis=0)
    size = np.where(size > 0, size, 1)
    C, start = C / size, theta * size
    kept, left = np.ones(len(theta), bool), free.droppable.copy()
    P, theta = _with_terms(C, start, kept)
    order, costs, spent = [], [], 0.0
    while left.any():
        if order and len(order) % _FRESH == 0:
            P, theta = _with_terms(C, start, kept)
            spent = float(np.sum((C @ (theta - start)) ** 2))
        variance = np.maximum(np.diagonal(P), np.finfo(float).tiny)
        cost = np.where(left, (theta / np.sqrt(variance)) ** 2, np.inf)
        j = int(np.argmin(cost))
        spent += float(cost[j])
        order.append(j)
        costs.append(spent)
        kept[j] = left[j] = False
        column = P[:, j] / variance[j]
        theta = np.where(kept, theta - column * theta[j], 0)
        P = P - np.outer(column, P[j])
    total = np.sum(fit.triangle[:, -1] ** 2)
    count = total / fit.loss**2 if fit.loss > 0 else 1.0
    return np.asarray(order, int), np.sqrt((total + np.asarray(costs)) / count)


def _with_terms(
    C: Float[np.ndarray, "q p"], theta: Float[np.ndarray, " p"], kept: Bool[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "p p"], Float[np.ndarray, " p"]]:
    """`(C^T C)^-1` of the terms kept, zero elsewhere, and their best values without the others."""
    U, sizes, V = np.linalg.svd(C[:, kept], full_matrices=False)
    # Directions that the data do not determine get a large variance: dropping them costs little.
    root = V.T / np.maximum(sizes, 1e-12 * sizes[0])
    P, best = np.zeros((len(theta), len(theta))), np.zeros_like(theta)
    P[np.ix_(kept, kept)] = root @ root.T
    best[kept] = theta[kept] + root @ (U.T @ (C[:, ~kept] @ theta[~kept]))
    return P, best
