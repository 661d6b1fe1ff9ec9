"""Which terms of a linear model stay: some are dropped, some taken back or exchanged."""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from ._compressed_residuals import CompressedResiduals
from ._fit_least_squares import LeastSquaresFit
from ._free_parameters import FreeParameters
from ._misfit import Misfit
from ._subset_selection import addition_path, best_subset, elimination_path, without_terms
from ._window_residuals import failed_rows

# What a term must gain, in units of the variance of the residuals, for its place in the model.
_PRICES = {"aic": 2.0, "significance": 9.0}
CRITERIA = ("held_out", "bic", "ebic", *_PRICES)
# How often terms may come back or be exchanged, and how many come back at once.
_ROUNDS, _MOST = 5, 16
# Predictions that are off by this part of the states' sizes, and by this factor more than those of
# the fit before, are too far for a refit: fewer terms are dropped at once.
FAR, _FARTHER = 0.1, 4.0
_Candidates = tuple[FreeParameters, np.ndarray, np.ndarray, np.ndarray]


@final
class TermJudge:
    """Says what a model of some of the `candidates` is worth on the data to judge by."""

    def __init__(
        self,
        residuals: CompressedResiduals,
        count: int,
        criterion: str,
        tolerance: float,
        candidates: int,
    ):
        self._coarse = residuals
        self._fine = residuals.with_substeps(2 * residuals.residuals.substeps)
        self._count = count
        prices = _PRICES | {"bic": np.log(count), "ebic": np.log(count * candidates)}
        self._price = prices.get(criterion)
        self._tolerance = tolerance

    def loss(self, model: Any) -> float:
        """Root mean square of the weighted residuals, infinite if there is a failure."""
        return self._coarse.misfit(model).finite_norm / self._count**0.5

    def discretization_error(self, model: Any) -> float:
        """Root mean square change of the weighted residuals when every step is halved.

        A step that cannot be solved says nothing about the size of steps.
        """
        coarse, fine = (np.asarray(steps.values(model)) for steps in (self._coarse, self._fine))
        solved = ~(failed_rows(coarse) | failed_rows(fine))
        return float(np.sqrt(np.sum((coarse - fine)[solved] ** 2) / self._count))

    @property
    def has_price(self) -> bool:
        """Whether terms are judged by an information criterion."""
        return self._price is not None

    def information(self, loss: Any, terms: Any, error: float) -> Any:
        """The information criterion."""
        return self._count * np.log(loss**2 + error**2 + 1e-300) + self._price * terms

    def longest_piece(self, predicted: np.ndarray, terms: int, best: float, error: float) -> int:
        """How many terms, in the order of the path, can be dropped by the predicted losses."""
        if self._price is None:
            return int(np.sum(predicted <= self._tolerance * max(best, error)))
        left = terms - np.arange(len(predicted) + 1)
        return int(np.argmin(self.information(np.append(best, predicted), left, error)))

    def accepts(self, loss: float, terms: int, best: float, best_terms: int, error: float) -> bool:
        """Whether a model of fewer terms takes the place of the best one."""
        if not np.isfinite(loss + error):
            return False
        if self._price is None:
            return loss <= self._tolerance * max(best, error)
        old = self.information(best, best_terms, error)
        return bool(self.information(loss, terms, error) <= old)

    def better(self, best: float, loss: float, accepted: bool) -> float:
        """The loss with which the next model is compared."""
        if self._price is None:
            return min(best, loss)
        return loss if accepted else best


@final
class TermSearch:
    """The search for the terms that the data need.

    A model far from the right one misjudges terms. The smallest model that is accepted is therefore
    asked which of the terms dropped it would gain most by, or under an information criterion what
    terms are the best next to it, and the search goes on from there.
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
            candidates = self._with_all_terms(fit)
            other, other_loss = self._exchange(fit, loss, candidates)
            if other is None:
                # Fewer terms at once, where the exchange is predicted badly.
                other, other_loss = self._take_back(fit, loss, candidates)
            if other is None:
                break
            fit, loss = self._drop(other, other_loss)
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

        def accepts(piece: int, loss: float) -> bool:
            accepted = self._judge.accepts(loss, terms - piece, self._best, terms, error)
            self._best = self._judge.better(self._best, loss, accepted)
            return accepted

        # Norms of residuals, from losses.
        far = max(self._far, _FARTHER * fit.loss) * fit.num_residuals**0.5

        def without(piece: int) -> Any:
            """The model without these terms, or None if its predictions are too far off."""
            dropped = order[:piece]
            start, misfit = self._nearest(free, without_terms(C, theta, dropped), dropped)
            near = misfit.finite_norm <= far
            return start if near or (piece == 1 and np.isfinite(misfit.norm)) else None

        return self._largest_accepted(piece, without, accepts)

    def _nearest(
        self, free: FreeParameters, values: np.ndarray, dropped: np.ndarray
    ) -> tuple[Any, Misfit]:
        """The model without these terms and its misfit.

        The others are as they are or have these values, whichever fits better.
        """
        moved = np.array(free.values)
        moved[free.index] = values
        moved = FreeParameters(free.model(jnp.asarray(moved)))
        starts = moved.without(dropped), free.without(dropped)
        misfits = [self._train.misfit(start) for start in starts]
        best = misfits.index(min(misfits))
        return starts[best], misfits[best]

    def _with_all_terms(self, fit: LeastSquaresFit) -> _Candidates:
        """The fit with all terms, those of the fit, and `[J, r]` there for all."""
        free = FreeParameters(fit.model)
        model = self._all_terms.model(free.values)
        every = FreeParameters(model)
        R, _ = self._train.triangle(model, passes=2)
        return every, np.isin(every.index, free.index), R[:, every.index], R[:, -1]

    def _exchange(
        self, fit: LeastSquaresFit, loss: float, candidates: _Candidates
    ) -> tuple[LeastSquaresFit | None, float]:
        """A model with other terms that is accepted in place of this one, and its loss."""
        if not self._judge.has_price:
            return None, np.inf
        every, kept, C, c = candidates
        terms, error = num_terms(fit.model), self._judge.discretization_error(fit.model)
        if not np.isfinite(error + np.sum(C) + np.sum(c)):
            return None, np.inf

        def information(sums: np.ndarray, terms: np.ndarray) -> np.ndarray:
            return self._judge.information(_losses(fit, sums), terms, error)

        b = C @ np.asarray(every.values)[every.index] - c
        subset, values = best_subset(C, b, kept, every.droppable, information)
        if np.array_equal(subset, kept):
            return None, np.inf
        model, _ = self._nearest(every, values, np.flatnonzero(~subset))
        return self._refitted(
            model,
            lambda new_loss: self._judge.accepts(new_loss, num_terms(model), loss, terms, error),
        )

    def _take_back(
        self, fit: LeastSquaresFit, loss: float, candidates: _Candidates
    ) -> tuple[LeastSquaresFit | None, float]:
        """A larger model in whose place this one would not be accepted, and its loss."""
        every, kept, C, c = candidates
        terms = num_terms(fit.model)
        order, left = addition_path(C, c, kept, _MOST)
        predicted = _losses(fit, np.append(np.sum(c**2), left))
        error = self._judge.discretization_error(fit.model)
        # Taken back is what would not be dropped again.
        largest = terms + len(order)
        surplus = self._judge.longest_piece(predicted[:-1][::-1], largest, predicted[-1], error)

        def larger(piece: int) -> Any:
            missing = ~kept
            missing[order[:piece]] = False
            return every.without(np.flatnonzero(missing))

        def accepts(piece: int, larger_loss: float) -> bool:
            needless = self._judge.accepts(loss, terms, larger_loss, terms + piece, error)
            return bool(np.isfinite(larger_loss + error)) and not needless

        return self._largest_accepted(len(order) - surplus, larger, accepts)

    def _largest_accepted(
        self, piece: int, model_of: Callable[[int], Any], accepts: Callable[[int, float], bool]
    ) -> tuple[LeastSquaresFit | None, float]:
        """The refit of the largest change that is accepted, halved until one is, and its loss."""
        while piece > 0:
            model = model_of(piece)
            if model is not None:
                trial, loss = self._refitted(model, ft.partial(accepts, piece))
                if trial is not None:
                    return trial, loss
            piece //= 2
        return None, np.inf

    def _refitted(
        self, model: Any, accepts: Callable[[float], bool]
    ) -> tuple[LeastSquaresFit | None, float]:
        """The refit of a model and its loss, if it is accepted."""
        trial = self._refit(model)
        if trial is None:
            return None, np.inf
        loss = self._judge.loss(trial.model)
        accepted = accepts(loss)
        self._tried.append((num_terms(trial.model), loss, accepted))
        return (trial, loss) if accepted else (None, np.inf)


def num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _losses(fit: LeastSquaresFit, sums: np.ndarray) -> np.ndarray:
    """Losses, as that of the fit, for other sums of squares."""
    return np.sqrt(sums / fit.num_residuals)
