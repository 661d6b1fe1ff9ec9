"""Which terms of a linear model stay: dropped while that costs little, taken back if missed."""

from collections.abc import Callable
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from ._compressed_residuals import CompressedResiduals
from ._elimination_path import addition_path, elimination_path, without_terms
from ._fit_least_squares import LeastSquaresFit
from ._free_parameters import FreeParameters

# What a term must gain, in units of the variance of the residuals, for its place in the model.
_PRICES = {"aic": 2.0, "significance": 9.0}
CRITERIA = ("held_out", "bic", *_PRICES)
# How often terms may come back, and how many at once.
_ROUNDS, _MOST = 5, 16
# Predictions that are off by this part of the states' sizes, and by this factor more than those of
# the fit before, are too far for a refit: fewer terms are dropped at once.
FAR, _FARTHER = 0.1, 4.0


@final
class TermJudge:
    """Says what a model is worth on the data to judge by."""

    def __init__(
        self, residuals: CompressedResiduals, count: int, criterion: str, tolerance: float
    ):
        self._coarse = residuals
        self._fine = residuals.with_substeps(2 * residuals.residuals.substeps)
        self._count = count
        self._price = (_PRICES | {"bic": np.log(count)}).get(criterion)
        self._tolerance = tolerance

    def _norm(self, values: Any) -> float:
        return float(np.sqrt(np.sum(np.asarray(values) ** 2) / self._count))

    def loss(self, model: Any) -> float:
        """Root mean square of the scaled residuals."""
        return self._norm(self._coarse.values(model))

    def discretization_error(self, model: Any) -> float:
        """Root mean square change of the scaled residuals when every step is halved.

        A step that cannot be solved says nothing about the size of steps.
        """
        coarse, fine = (np.asarray(steps.values(model)) for steps in (self._coarse, self._fine))
        failed = self._coarse.residuals.failed(coarse) | self._fine.residuals.failed(fine)
        return self._norm(np.where(failed[..., None], 0, coarse - fine))

    def _criterion(self, loss: Any, terms: Any, error: float) -> Any:
        return self._count * np.log(loss**2 + error**2 + 1e-300) + self._price * terms

    def longest_piece(self, predicted: np.ndarray, terms: int, best: float, error: float) -> int:
        """How many terms, in the order of the path, the predicted losses would let go."""
        if self._price is None:
            return int(np.sum(predicted <= self._tolerance * max(best, error)))
        left = terms - np.arange(len(predicted) + 1)
        return int(np.argmin(self._criterion(np.append(best, predicted), left, error)))

    def accepts(self, loss: float, terms: int, best: float, best_terms: int, error: float) -> bool:
        """Whether a model of fewer terms takes the place of the best one."""
        if not np.isfinite(loss + error):
            return False
        if self._price is None:
            return loss <= self._tolerance * max(best, error)
        old = self._criterion(best, best_terms, error)
        return bool(self._criterion(loss, terms, error) <= old)

    def better(self, best: float, loss: float, accepted: bool) -> float:
        """The loss with which the next model is compared."""
        if self._price is None:
            return min(best, loss)
        return loss if accepted else best


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
        far: float = FAR,
    ):
        self._all_terms = FreeParameters(model)
        self._train, self._judge, self._refit = train, judge, refit
        self._tried: list[tuple[int, float, bool]] = []
        self._best, self._far = np.inf, far

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

    def _drop(self, fit: LeastSquaresFit, loss: float) -> tuple[LeastSquaresFit, float]:
        """The smallest model that is accepted in place of this one, and its loss."""
        self._best = self._judge.better(self._best, loss, accepted=True)
        while True:
            smaller, smaller_loss = self._smaller(fit)
            if smaller is None:
                return fit, loss
            fit, loss = smaller, smaller_loss

    def _smaller(self, fit: LeastSquaresFit) -> tuple[LeastSquaresFit | None, float]:
        """A smaller model that is accepted in place of this one, and its loss."""
        free, terms = FreeParameters(fit.model), num_terms(fit.model)
        if terms == 0:
            return None, np.inf
        C, theta = fit.triangle[:, free.index], np.asarray(free.values)[free.index]
        order, costs = elimination_path(C, theta, free.droppable)
        predicted = _losses(fit, np.sum(fit.triangle[:, -1] ** 2) + costs)
        error = self._judge.discretization_error(fit.model)
        # The prediction is one for the runs fitted, which may be harder than those held out. The
        # cheapest term is always tried, since the prediction holds only near the fit.
        best = max(self._best, fit.loss)
        piece = max(1, self._judge.longest_piece(predicted, terms, best, error))

        def accepts(loss: float, piece: int) -> bool:
            accepted = self._judge.accepts(loss, terms - piece, self._best, terms, error)
            self._best = self._judge.better(self._best, loss, accepted)
            return accepted

        # Norms of residuals, from losses.
        far = max(self._far, _FARTHER * fit.loss) * _root_of_count(fit)

        def without(piece: int) -> Any:
            """The model without these terms, with the others as they are or as they should be.

            None if its predictions are too far off.
            """
            dropped = order[:piece]
            values = np.array(free.values)
            values[free.index] = without_terms(C, theta, dropped)
            refitted = FreeParameters(free.model(jnp.asarray(values)))
            starts = refitted.without(dropped), free.without(dropped)
            norms = [self._train.norm(start) for start in starts]
            near = min(norms) <= (far if piece > 1 else np.finfo(float).max)
            return starts[int(np.argmin(norms))] if near else None

        return self._largest_accepted(piece, without, accepts)

    def _take_back(self, fit: LeastSquaresFit, loss: float) -> tuple[LeastSquaresFit | None, float]:
        """A larger model in whose place this one would not be accepted, and its loss."""
        free, terms = FreeParameters(fit.model), num_terms(fit.model)
        model = self._all_terms.model(free.values)
        every = FreeParameters(model)
        R, _ = self._train.triangle(model, passes=2)
        kept = np.isin(every.index, free.index)
        order, left = addition_path(R[:, every.index], R[:, -1], kept, _MOST)
        predicted = _losses(fit, np.append(np.sum(R[:, -1] ** 2), left))
        error = self._judge.discretization_error(fit.model)
        # Taken back is what would not be dropped again.
        largest = terms + len(order)
        surplus = self._judge.longest_piece(predicted[:-1][::-1], largest, predicted[-1], error)

        def larger(piece: int) -> Any:
            missing = ~kept
            missing[order[:piece]] = False
            return every.without(np.flatnonzero(missing))

        def accepts(larger_loss: float, piece: int) -> bool:
            needless = self._judge.accepts(loss, terms, larger_loss, terms + piece, error)
            return bool(np.isfinite(larger_loss + error)) and not needless

        return self._largest_accepted(len(order) - surplus, larger, accepts)

    def _largest_accepted(
        self, piece: int, model_of: Callable[[int], Any], accepts: Callable[[float, int], bool]
    ) -> tuple[LeastSquaresFit | None, float]:
        """The refit of the largest change that is accepted, halved until one is, and its loss."""
        while piece > 0:
            model = model_of(piece)
            trial = None if model is None else self._refit(model)
            if trial is not None:
                loss = self._judge.loss(trial.model)
                accepted = accepts(loss, piece)
                self._tried.append((num_terms(trial.model), loss, accepted))
                if accepted:
                    return trial, loss
            piece //= 2
        return None, np.inf


def num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _losses(fit: LeastSquaresFit, sums: np.ndarray) -> np.ndarray:
    """Losses, as that of the fit, for other sums of squares."""
    return np.sqrt(sums) / _root_of_count(fit)


def _root_of_count(fit: LeastSquaresFit) -> float:
    """The norm of the residuals of a fit over its loss."""
    return float(np.linalg.norm(fit.triangle[:, -1])) / fit.loss if fit.loss > 0 else 1.0
