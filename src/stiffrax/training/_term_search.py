"""Which terms of a linear model stay: dropped while that costs little, taken back if missed."""

from collections.abc import Callable
from typing import Any, final

import numpy as np

from ._compressed_residuals import CompressedResiduals
from ._elimination_path import addition_path, elimination_path
from ._fit_least_squares import LeastSquaresFit
from ._free_parameters import FreeParameters
from ._term_judge import TermJudge

# How often terms may come back, and how many at once.
_ROUNDS, _MOST = 5, 16


@final
class TermSearch:
    """The search for the terms that the data need.

    A model far from the right one misjudges terms. The smallest model that is accepted is therefore
    asked which of the terms dropped it would gain most by, and the search goes on from there.
    """

    def __init__(
        self,
        model: Any,
        train: CompressedResiduals,
        judge: TermJudge,
        refit: Callable[[Any], LeastSquaresFit | None],
    ):
        self._all_terms = FreeParameters(model)
        self._train, self._judge, self._refit = train, judge, refit
        self._tried: list[tuple[int, float, bool]] = []

    def search(
        self, fit: LeastSquaresFit
    ) -> tuple[LeastSquaresFit, tuple[tuple[int, float, bool], ...]]:
        """The smallest model that the judge accepts, and all that were tried."""
        loss = self._judge.loss(fit.model)
        self._tried.append((num_terms(fit.model), loss, True))
        fit, loss = self._drop(fit, loss)
        for _ in range(_ROUNDS):
            larger, larger_loss = self._take_back(fit, loss)
            if larger is None:
                break
            fit, loss = self._drop(larger, larger_loss)
        return fit, tuple(self._tried)

    def _drop(self, fit: LeastSquaresFit, best: float) -> tuple[LeastSquaresFit, float]:
        """The smallest model that is accepted in place of this one, and its loss."""
        last = best
        while True:
            free = FreeParameters(fit.model)
            C, theta = fit.triangle[:, free.index], np.asarray(free.values)[free.index]
            order, costs = elimination_path(C, theta, free.droppable)
            error = self._judge.discretization_error(fit.model)
            terms = num_terms(fit.model)
            # The prediction is one for the runs fitted, which may be harder than those held out.
            # The cheapest term is always tried, since the prediction holds only near the fit.
            predicted = _loss_after(fit, costs)
            piece = max(1, self._judge.longest_piece(predicted, terms, max(best, fit.loss), error))
            trial = None
            while trial is None and piece > 0:
                smaller = self._refit(free.without(order[:piece]))
                if smaller is not None:
                    loss = self._judge.loss(smaller.model)
                    accepted = self._judge.accepts(loss, terms - piece, best, terms, error)
                    self._tried.append((num_terms(smaller.model), loss, accepted))
                    if accepted:
                        trial, last = smaller, loss
                    best = self._judge.better(best, loss, accepted)
                piece //= 2
            if trial is None:
                return fit, last
            fit = trial

    def _take_back(self, fit: LeastSquaresFit, loss: float) -> tuple[LeastSquaresFit | None, float]:
        """A larger model in whose place this one would not be accepted, and its loss."""
        free, terms = FreeParameters(fit.model), num_terms(fit.model)
        every = FreeParameters(self._all_terms.model(free.values))
        R, _ = self._train.triangle(self._all_terms.model(free.values), passes=2)
        kept = np.isin(every.index, free.index)
        order, left = addition_path(R[:, every.index], R[:, -1], kept, _MOST)
        costs = np.append(np.sum(R[:, -1] ** 2), left) - np.sum(fit.triangle[:, -1] ** 2)
        predicted = _loss_after(fit, costs)
        error = self._judge.discretization_error(fit.model)
        largest = terms + len(order)
        needless = self._judge.longest_piece(predicted[:-1][::-1], largest, predicted[-1], error)
        piece = len(order) - needless
        while piece > 0:
            missing = ~kept
            missing[order[:piece]] = False
            larger = self._refit(every.without(np.flatnonzero(missing)))
            if larger is not None:
                larger_loss = self._judge.loss(larger.model)
                accepted = not self._judge.accepts(loss, terms, larger_loss, terms + piece, error)
                self._tried.append((terms + piece, larger_loss, accepted))
                if accepted:
                    return larger, larger_loss
            piece //= 2
        return None, loss


def num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _loss_after(fit: LeastSquaresFit, costs: np.ndarray) -> np.ndarray:
    """Losses after the sum of squares has risen by the costs."""
    total = np.sum(fit.triangle[:, -1] ** 2)
    count = total / fit.loss**2 if fit.loss > 0 else 1.0
    return np.sqrt(np.maximum(total + costs, 0) / count)
