"""Which terms of a linear least-squares model to drop, to take back or to exchange."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

# Terms taken out of the covariance one by one before it is computed anew: rounding adds up. It is
# also computed anew when less than this part of a variance is left, as after dropping one of two
# equivalent terms. Both chosen, not measured.
_FRESH, _LOST = 64, 1e-10


def elimination_path(
    C: Float[np.ndarray, "q p"], theta: Float[np.ndarray, " p"], droppable: Bool[np.ndarray, " p"]
) -> tuple[Int[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """The order in which terms cost least, the others refitted each time, and what they cost.

    `C` is the derivative of the residuals at their minimum `theta`; the costs are sums of squares.
    """
    size = _sizes(C)
    C, start = C / size, theta * size
    kept, left = np.ones(len(theta), bool), droppable.copy()
    P, theta = _with_terms(C, start, kept)
    order, costs, spent, lost = [], [], 0.0, False
    while left.any():
        if lost or (order and len(order) % _FRESH == 0):
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
        before, P = P, P - np.outer(column, P[j])
        lost = bool(np.any(np.diagonal(P)[kept] < _LOST * np.diagonal(before)[kept]))
    return np.asarray(order, int), np.asarray(costs)


def without_terms(
    C: Float[np.ndarray, "q p"], theta: Float[np.ndarray, " p"], dropped: Int[np.ndarray, " terms"]
) -> Float[np.ndarray, " p"]:
    """The others refitted, as the derivative at their minimum `theta` predicts them."""
    size = _sizes(C)
    kept = np.ones(len(theta), bool)
    kept[dropped] = False
    return _with_terms(C / size, theta * size, kept)[1] / size


def addition_path(
    C: Float[np.ndarray, "q p"],
    c: Float[np.ndarray, " q"],
    kept: Bool[np.ndarray, " p"],
    most: int,
) -> tuple[Int[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """The order in which terms that are not kept gain most, and the sum of squares left by each.

    `c` are the residuals with those kept. One term is taken at a time, all others being refitted
    (orthogonal least squares).
    """
    C = C / _sizes(C)
    Q, _ = np.linalg.qr(C[:, kept])
    C, c = C - Q @ (Q.T @ C), c - Q @ (Q.T @ c)
    order, left = [], []
    candidates = ~kept
    while candidates.any() and len(order) < most:
        size = np.linalg.norm(C, axis=0)
        # What the terms kept can say as well is no candidate.
        candidates = candidates & (size > 1e-9)
        gain = np.where(candidates, np.abs(c @ C) / np.where(size > 0, size, 1), -1.0)
        j = int(np.argmax(gain))
        if gain[j] < 0:
            break
        unit = C[:, j] / size[j]
        C, c = C - np.outer(unit, unit @ C), c - unit * (unit @ c)
        candidates[j] = False
        order.append(j)
        left.append(float(np.sum(c**2)))
    return np.asarray(order, int), np.asarray(left)


def best_subset(
    C: Float[np.ndarray, "q p"],
    b: Float[np.ndarray, " q"],
    kept: Bool[np.ndarray, " p"],
    droppable: Bool[np.ndarray, " p"],
    criterion: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[Bool[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The terms of the lowest `criterion` of `|C x - b|^2` and their number, and the values `x`.

    Terms are added, dropped and exchanged while that lowers it, from those kept and from those that
    gain most one after the other.
    """
    size = _sizes(C)
    C, fixed = C / size, ~droppable
    order, left = addition_path(C, b, fixed, len(kept))
    sums = np.append(_sums_of_exchanges(C, b, fixed, droppable)[0, -1], left)
    forward = fixed.copy()
    forward[order[: np.argmin(criterion(sums, np.arange(len(sums))))]] = True
    found = [_exchanged(C, b, start, droppable, criterion) for start in (kept, forward)]
    _, subset = min(found, key=lambda one: one[0])
    x = np.zeros(len(kept))
    x[subset] = np.linalg.lstsq(C[:, subset], b, rcond=1e-12)[0]
    return subset, x / size


def _exchanged(
    C: np.ndarray, b: np.ndarray, kept: np.ndarray, droppable: np.ndarray, criterion: Callable
) -> tuple[float, Bool[np.ndarray, " p"]]:
    for _ in range(2 * len(kept)):
        sums = _sums_of_exchanges(C, b, kept, droppable)
        out = np.flatnonzero(kept & droppable)
        # The number of terms falls but in the first row, and grows but in the last column.
        terms = np.full(sums.shape, len(out))
        terms[1:] -= 1
        terms[:, :-1] += 1
        values = criterion(sums, terms)
        i, j = np.unravel_index(np.argmin(values), values.shape)
        # Less is rounding.
        if not values[i, j] < values[0, -1] - 1e-6:
            break
        kept = kept.copy()
        if i > 0:
            kept[out[i - 1]] = False
        if j < len(kept):
            kept[j] = True
    return float(values[0, -1]), kept


def _sums_of_exchanges(
    C: np.ndarray, b: np.ndarray, kept: np.ndarray, droppable: np.ndarray
) -> Float[np.ndarray, "dropped added"]:
    """The sums of squares left without a term (row; none in the first) and with another (column;
    none in the last), infinite where there is none to add.

    With `u` the direction that only the term dropped reaches, what is left of `b` is $r + (u b) u$,
    and what is new of a column `a` $q + (u a) u$, of which `r` and `q` are orthogonal to `u`: the
    column added takes $(r q + (u b) (u a))^2 / (|q|^2 + (u a)^2)$ of the sum $|r|^2 + (u b)^2$.
    """
    U, sizes, V = np.linalg.svd(C[:, kept], full_matrices=False)
    well = sizes > 1e-12 * np.max(sizes, initial=0.0)
    U = U[:, well]
    left, new = b - U @ (U.T @ b), C - U @ (U.T @ C)
    reached = U @ (V[well] / sizes[well, None])[:, droppable[kept]]
    reached = np.insert(reached / _sizes(reached), 0, 0, axis=1)
    of_b, of_columns = reached.T @ b, reached.T @ C
    total = (np.sum(left**2) + of_b**2)[:, None]
    length = np.sum(new**2, axis=0) + of_columns**2
    addable = ~kept & (length > 1e-18)
    gain = (left @ new + of_b[:, None] * of_columns) ** 2 / np.where(addable, length, 1)
    sums = np.where(addable, np.maximum(total - gain, 0), np.inf)
    return np.append(sums, total, axis=1)


def _sizes(C: Float[np.ndarray, "q p"]) -> Float[np.ndarray, " p"]:
    size = np.linalg.norm(C, axis=0)
    return np.where(size > 0, size, 1)


def _with_terms(
    C: Float[np.ndarray, "q p"], theta: Float[np.ndarray, " p"], kept: Bool[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "p p"], Float[np.ndarray, " p"]]:
    """`(C^T C)^-1` of the terms kept, zero elsewhere, and their best values without the others."""
    U, sizes, V = np.linalg.svd(C[:, kept], full_matrices=False)
    # Directions that the data do not determine get a large variance: dropping them costs little.
    # No value moves along them.
    least = 1e-12 * np.max(sizes, initial=0.0)
    root = V.T / np.maximum(sizes, least)
    P, best = np.zeros((len(theta), len(theta))), np.zeros_like(theta)
    P[np.ix_(kept, kept)] = root @ root.T
    moves = root * (sizes > least)
    best[kept] = theta[kept] + moves @ (U.T @ (C[:, ~kept] @ theta[~kept]))
    return P, best
