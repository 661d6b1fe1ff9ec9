"""Dropping the terms that the data do not need."""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..data import Trajectories
from ..solvers import RadauIIA9
from ._fit_least_squares import LeastSquaresFit, count_residuals, fit_least_squares
from ._free_parameters import FreeParameters
from ._sample_weights import checked_scale, checked_weight
from ._sample_windows import padded_windows
from ._window_residuals import CompressedResiduals, SegmentStep

# What a term must gain, in units of the variance of the residuals, for its place in the model.
_PRICES = {"aic": 2.0, "significance": 9.0}
# Terms taken out of the covariance one by one before it is computed anew: rounding adds up.
_FRESH = 64


@final
class PrunedFit(eqx.Module):
    """What [`stiffrax.prune_and_refit`][] found.

    **Attributes:**

    - `fit`: the last fit, a [`stiffrax.LeastSquaresFit`][]; `model` is its model.
    - `num_dropped`: terms switched off.
    - `held_out_loss`: root mean square of the scaled residuals of the held-out runs; of all runs,
        if an information criterion was the judge.
    - `discretization_error`: the part of it that is the step's, measured by halving the step.
    - `history`: `(terms, that loss, accepted)` of every model tried.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> runs = np.array([1.0, 2.0, 0.5])[:, None] * np.exp(-ts)
    >>> data = srx.Trajectories.from_arrays(ts, runs[..., None])
    >>> pruned = srx.prune_and_refit(srx.Polynomial(1, degree=2), data, srx.RadauIIA5(), refine=1)
    >>> pruned.num_dropped
    2

    ```
    """

    fit: LeastSquaresFit
    num_dropped: int
    held_out_loss: float
    discretization_error: float
    history: tuple[tuple[int, float, bool], ...]

    @property
    def model(self) -> Any:
        """The pruned model."""
        return self.fit.model

    def __repr__(self) -> str:
        return f"PrunedFit({self.num_dropped} dropped, held-out loss {self.held_out_loss:.3e})"


def prune_and_refit(
    model: Any,
    data: Trajectories,
    solver: diffrax.AbstractSolver | None = None,
    *,
    held_out: Any = 0.2,
    tolerance: float = 3.0,
    criterion: str = "held_out",
    substeps: int = 1,
    refine: int = 4,
    window: int = 1,
    initial_states: str = "measured",
    scale: Any = None,
    weight: Any = None,
    start: str = "regression",
    progress: bool | None = None,
) -> PrunedFit:
    r"""Fits, drops terms and refits until dropping any further term costs too much.

    Terms are ordered by what each costs in the quadratic model of the fit once all others are
    refitted, and dropped one after the other from that model (cheapest first):

    $$\Delta_j = \theta_j^2 / (J^T J)^{-1}_{jj}$$

    As long a piece of that list as possible is dropped and the rest refitted; the smaller model is
    kept if its error on runs that it was not fitted to stays below `tolerance` times the larger of
    the best one so far and the error of the discretization itself. Significance tests are no use
    here: with clean data what is left over is the error of the single step, which is no noise, and
    superfluous terms are significant because they fit it. It is measured by halving the step.
    The terms that are left are refitted to all runs with `refine` times as many substeps.

    Noise hides what a term is worth from that rule. For noisy data an information criterion weighs
    the loss of all `N` residuals against the number `q` of terms,

    $$N \log(loss^2 + error^2) + p \, q, \qquad p = \log N \text{ (BIC)}, \; 2 \text{ (AIC)},$$

    and a term stays if without it this number grows; `"significance"` is `p = 9`: a term stays if
    it is more than three standard errors from zero.

    **Arguments:**

    - `model`: [`stiffrax.Polynomial`][], [`stiffrax.Library`][], or a model that contains one.
    - `data`, `solver`, `substeps`, `window`, `initial_states`, `scale`, `weight`, `start`,
        `progress`: as for [`stiffrax.fit_least_squares`][].
    - `held_out`: the runs to judge by, as in [`stiffrax.Trajectories.split`][].
    - `tolerance`: how much worse a smaller model may be on them.
    - `criterion`: `"held_out"`, for clean data; `"bic"`, `"aic"` or `"significance"` for noisy ones,
        which hold no run out.
    - `refine`: factor on `substeps` in the last fit.

    **Returns:** a [`stiffrax.PrunedFit`][].

    **Raises:** `ValueError` if no run can be held out, or the model has no term to drop.

    Cost: one full fit, then a few fits of ever smaller models.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> runs = np.array([1.0, 2.0, 0.5])[:, None] * np.exp(-ts)
    >>> data = srx.Trajectories.from_arrays(ts, runs[..., None], names=["c"])
    >>> pruned = srx.prune_and_refit(srx.Polynomial(1, degree=2), data, srx.RadauIIA5(), refine=1)
    >>> pruned.num_dropped
    2

    ```
    """
    solver = RadauIIA9() if solver is None else solver
    _check(data, tolerance, refine, criterion)
    weighted = eqx.tree_at(lambda data: data.ys, data, checked_weight(weight, data))
    train, test, train_weight, test_weight = data, data, weighted, weighted
    if criterion == "held_out":
        train, test = data.split(held_out)
        train_weight, test_weight = weighted.split(held_out)
    options = {
        "scale": checked_scale(scale, data),
        "window": window,
        "initial_states": initial_states,
        "progress": progress,
    }
    fit = fit_least_squares(
        model, train, solver, substeps=substeps, weight=train_weight.ys, start=start, **options
    )
    total = _num_terms(fit.model)
    judge = _Judge(test, test_weight.ys, solver, substeps, criterion, tolerance, options)
    refit = ft.partial(_refit, options=options, solver=solver)
    fit, history = _without_needless_terms(
        fit, judge, lambda model: refit(model, train, train_weight.ys, substeps=substeps)
    )
    substeps = refine * substeps
    final = refit(fit.model, data, weighted.ys, substeps=substeps) or fit
    judge = _Judge(test, test_weight.ys, solver, substeps, criterion, tolerance, options)
    loss, error = judge.loss(final.model), judge.discretization_error(final.model)
    return PrunedFit(final, total - _num_terms(final.model), loss, error, history)


def _without_needless_terms(
    fit: LeastSquaresFit, judge: "_Judge", refit: Callable[[Any], Any]
) -> tuple[LeastSquaresFit, tuple[tuple[int, float, bool], ...]]:
    """The smallest model that the judge accepts, and all that were tried."""
    best = judge.loss(fit.model)
    history = [(_num_terms(fit.model), best, True)]
    while True:
        free = FreeParameters(fit.model)
        order, predicted = _elimination_path(fit, np.asarray(free.values)[free.index], free)
        error = judge.discretization_error(fit.model)
        terms = _num_terms(fit.model)
        # The cheapest term is always tried, since the prediction holds only near the fit.
        piece = max(1, judge.longest_piece(predicted, terms, best, error))
        trial = None
        while trial is None and piece > 0:
            smaller = refit(free.without(order[:piece]))
            if smaller is not None:
                loss = judge.loss(smaller.model)
                accepted = judge.accepts(loss, terms - piece, best, terms, error)
                history.append((_num_terms(smaller.model), loss, accepted))
                trial = smaller if accepted else None
                best = judge.better(best, loss, accepted)
            piece //= 2
        if trial is None:
            return fit, tuple(history)
        fit = trial


def _check(data: Trajectories, tolerance: Any, refine: Any, criterion: Any) -> None:
    if criterion not in ("held_out", "bic", *_PRICES):
        raise ValueError(
            f"`criterion={criterion!r}` was given; write 'held_out', 'bic', 'aic' or "
            "'significance'."
        )
    if criterion == "held_out" and data.num_runs < 2:
        raise ValueError(
            "`data` has one run; dropping terms is judged on runs that are held out, so that two "
            "at least are needed. Cut the run in two, fit without pruning, or write "
            '`criterion="bic"`.'
        )
    if not tolerance >= 1:
        raise ValueError(f"`tolerance={tolerance!r}` was given; it needs a number of at least 1.")
    if not isinstance(refine, int) or refine < 1:
        raise ValueError(f"`refine={refine!r}` was given; it needs a positive integer.")


class _Judge:
    """Says what a model is worth on the data to judge by."""

    def __init__(
        self,
        data: Trajectories,
        weight: np.ndarray,
        solver: diffrax.AbstractSolver,
        substeps: int,
        criterion: str,
        tolerance: float,
        options: dict,
    ):
        self._free = options["initial_states"] == "free"
        windows = padded_windows(data, options["scale"], weight, options["window"], self._free)
        self._coarse, self._fine = (
            CompressedResiduals(SegmentStep(solver, k), windows, self._free)
            for k in (substeps, 2 * substeps)
        )
        self._count = count_residuals(weight, self._free)
        self._price = (_PRICES | {"bic": np.log(self._count)}).get(criterion)
        self._tolerance = tolerance

    def _norm(self, values: Any) -> float:
        return float(np.sqrt(np.sum(np.asarray(values) ** 2) / self._count))

    def loss(self, model: Any) -> float:
        """Root mean square of the scaled residuals."""
        return self._norm(self._coarse.values(model))

    def discretization_error(self, model: Any) -> float:
        """Root mean square change of the scaled residuals when every step is halved."""
        return self._norm(self._coarse.values(model) - self._fine.values(model))

    def _criterion(self, loss: Any, terms: Any, error: float) -> Any:
        return self._count * np.log(loss**2 + error**2 + 1e-300) + self._price * terms

    def longest_piece(self, predicted: np.ndarray, terms: int, best: float, error: float) -> int:
        """How many terms, in the order of the path, the predicted losses would let go."""
        if self._price is None:
            return int(np.sum(predicted <= self._tolerance * max(best, error)))
        left = terms - 1 - np.arange(len(predicted))
        return int(np.argmin(self._criterion(predicted, left, error))) + 1 if len(predicted) else 0

    def accepts(self, loss: float, terms: int, best: float, best_terms: int, error: float) -> bool:
        """Whether a model of fewer terms takes the place of the best one."""
        if self._price is None:
            return loss <= self._tolerance * max(best, error)
        old = self._criterion(best, best_terms, error)
        return bool(self._criterion(loss, terms, error) <= old)

    def better(self, best: float, loss: float, accepted: bool) -> float:
        """The loss with which the next model is compared."""
        if self._price is None:
            return min(best, loss)
        return loss if accepted else best


def _num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _refit(
    model: Any,
    data: Trajectories,
    weight: np.ndarray,
    solver: diffrax.AbstractSolver,
    substeps: int,
    options: dict,
) -> Any:
    try:
        FreeParameters(model)
    except ValueError:
        return None
    return fit_least_squares(
        model, data, solver, substeps=substeps, weight=weight, start="given", **options
    )


def _elimination_path(
    fit: LeastSquaresFit, theta: Float[np.ndarray, " p"], free: FreeParameters
) -> tuple[Int[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """The order in which terms cost least, the others refitted each time, and the losses."""
    C = fit.triangle[:, free.index]
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
