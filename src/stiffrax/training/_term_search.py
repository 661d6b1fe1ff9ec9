"""Which terms of a linear model stay: some are dropped, some taken back or exchanged."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ._compressed_residuals import CompressedResiduals, Misfit
from ._fit_least_squares import LeastSquaresFit
from ._parameter_vector import FreeParameters
from ._subset_selection import addition_path, best_subset, elimination_path, without_terms
from ._window_residuals import failed_rows

# What a term must gain, in units of the variance of the residuals, for its place in the model.
# Akaike's 2, and three standard errors squared; that of BIC depends on the number of samples.
_PRICES = {"aic": 2.0, "significance": 9.0}
CRITERIA = ("held_out", "bic", "ebic", *_PRICES)


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
        # Starts that are fitted take their own residuals out.
        self._told = told = max(1, count - residuals.num_free_starts)
        prices = _PRICES | {"bic": np.log(told), "ebic": np.log(told * candidates)}
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
        return self._told * np.log(loss**2 + error**2 + 1e-300) + self._price * terms

    def longest_piece(
        self, predicted: np.ndarray, terms: int, reference: float, error: float
    ) -> int:
        """How many terms, in the order of the path, can be dropped by the predicted losses."""
        if self._price is None:
            return int(np.sum(predicted <= self._tolerance * max(reference, error)))
        left = terms - np.arange(len(predicted) + 1)
        return int(np.argmin(self.information(np.append(reference, predicted), left, error)))

    def accepts(
        self, loss: float, terms: int, reference: float, reference_terms: int, error: float
    ) -> bool:
        """Whether a model of fewer terms takes the place of the one it is compared with."""
        if not np.isfinite(loss + error):
            return False
        if self._price is None:
            return loss <= self._tolerance * max(reference, error)
        old = self.information(reference, reference_terms, error)
        return bool(self.information(loss, terms, error) <= old)

    def reference(self, before: float, loss: float) -> float:
        """The loss with which the model after this one, which was accepted, is compared."""
        return min(before, loss) if self._price is None else loss


# How often terms may come back or be exchanged, and how many come back at once. Chosen, not measured.
_ROUNDS, _MOST = 5, 16
# Predictions that are off by this part of the states' sizes, and by this factor more than those of
# the fit before, are too far for a refit: fewer terms are dropped at once. Chosen, not measured.
FAR, _FARTHER = 0.1, 4.0


@final
class TriedModel(NamedTuple):
    """A model that a search for terms fitted.

    **Attributes:**

    - `terms`: how many it has.
    - `loss`: root mean square of the weighted residuals on the data that terms are judged by.
    - `accepted`: whether it took the place of the model before it.

    ```python
    >>> import stiffrax as srx
    >>> srx.TriedModel(terms=3, loss=0.1, accepted=True).terms
    3

    ```
    """

    terms: int
    loss: float
    accepted: bool


@final
class _JudgedFit(NamedTuple):
    fit: LeastSquaresFit
    loss: float

    @property
    def terms(self) -> int:
        return num_terms(self.fit.model)


@final
class SearchState(NamedTuple):
    """Where a search is: the last model accepted, the loss to compare the next with, all tried."""

    current: _JudgedFit
    reference: float
    tried: tuple[TriedModel, ...]

    @property
    def fit(self) -> LeastSquaresFit:
        """The last model accepted."""
        return self.current.fit

    def moved_from(self, before: "SearchState") -> bool:
        """Whether another model has been accepted since."""
        return self.current.fit is not before.current.fit


@final
class _AllTerms(NamedTuple):
    """A fit as one point of the model with all terms, `[J, r]` there, and the terms it has."""

    free: FreeParameters
    kept: Bool[np.ndarray, " terms"]
    jacobian: Float[np.ndarray, "rows terms"]
    residual: Float[np.ndarray, " rows"]


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
        self._far = far

    def search(self, fit: LeastSquaresFit) -> SearchState:
        """The smallest model that the judge accepts, and all that were tried."""
        start = _JudgedFit(fit, self._judge.loss(fit.model))
        tried = (TriedModel(start.terms, start.loss, True),)
        state = self._drop(SearchState(start, start.loss, tried))
        for _ in range(_ROUNDS):
            all_terms = self._with_all_terms(state.fit)
            other = self._exchange(state, all_terms)
            if not other.moved_from(state):
                # Fewer terms at once, where the exchange is predicted badly.
                other = self._take_back(other, all_terms)
            if not other.moved_from(state):
                return other
            state = self._drop(other)
        return state

    def _drop(self, state: SearchState) -> SearchState:
        while True:
            smaller = self._smaller(state)
            if not smaller.moved_from(state):
                return smaller
            state = smaller

    def _smaller(self, state: SearchState) -> SearchState:
        """At a smaller model that is accepted in place of this one, if there is one."""
        fit, terms = state.fit, state.current.terms
        if terms == 0:
            return state
        free = FreeParameters(fit.model)
        C, theta = fit.triangle[:, free.index], np.asarray(free.values)[free.index]
        order, costs = elimination_path(C, theta, free.droppable)
        predicted = _losses(fit, np.sum(fit.triangle[:, -1] ** 2) + costs)
        error = self._judge.discretization_error(fit.model)
        # The prediction is one for the runs fitted, which may be harder than those held out. The
        # cheapest term is always tried, since the prediction holds only near the fit.
        reference = max(state.reference, fit.loss)
        piece = max(1, self._judge.longest_piece(predicted, terms, reference, error))
        # Norms of residuals, from losses.
        far = max(self._far, _FARTHER * fit.loss) * fit.num_residuals**0.5

        def without(piece: int) -> Any:
            """The model without these terms, or None if its predictions are too far off."""
            dropped = order[:piece]
            start, misfit = self._nearest(free, without_terms(C, theta, dropped), dropped)
            near = misfit.finite_norm <= far
            return start if near or (piece == 1 and np.isfinite(misfit.norm)) else None

        def accepts(piece: int, loss: float) -> bool:
            return self._judge.accepts(loss, terms - piece, state.reference, terms, error)

        return self._largest_accepted(state, piece, without, accepts)

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

    def _with_all_terms(self, fit: LeastSquaresFit) -> _AllTerms:
        kept = FreeParameters(fit.model)
        model = self._all_terms.model(kept.values)
        every = FreeParameters(model)
        R, _ = self._train.triangle(model, passes=2)
        return _AllTerms(every, np.isin(every.index, kept.index), R[:, every.index], R[:, -1])

    def _exchange(self, state: SearchState, all_terms: _AllTerms) -> SearchState:
        """At a model with other terms that is accepted in place of this one, if there is one."""
        if not self._judge.has_price:
            return state
        fit, (every, kept, C, c) = state.fit, all_terms
        terms, error = state.current.terms, self._judge.discretization_error(fit.model)
        if not np.isfinite(error + np.sum(C) + np.sum(c)):
            return state

        def information(sums: np.ndarray, terms: np.ndarray) -> np.ndarray:
            return self._judge.information(_losses(fit, sums), terms, error)

        b = C @ np.asarray(every.values)[every.index] - c
        subset, values = best_subset(C, b, kept, every.droppable, information)
        if np.array_equal(subset, kept):
            return state
        model, _ = self._nearest(every, values, np.flatnonzero(~subset))

        def accepts(loss: float) -> bool:
            return self._judge.accepts(loss, num_terms(model), state.current.loss, terms, error)

        return self._tried(state, model, accepts)

    def _take_back(self, state: SearchState, all_terms: _AllTerms) -> SearchState:
        """At a larger model in whose place this one would not be accepted, if there is one."""
        fit, (every, kept, C, c) = state.fit, all_terms
        terms, loss = state.current.terms, state.current.loss
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

        return self._largest_accepted(state, len(order) - surplus, larger, accepts)

    def _largest_accepted(
        self,
        state: SearchState,
        piece: int,
        model_of: Callable[[int], Any],
        accepts: Callable[[int, float], bool],
    ) -> SearchState:
        """At the largest change that is accepted, halved until one is."""
        start = state
        while piece > 0 and not state.moved_from(start):
            model = model_of(piece)
            if model is not None:
                state = self._tried(state, model, ft.partial(accepts, piece))
            piece //= 2
        return state

    def _tried(
        self, state: SearchState, model: Any, accepts: Callable[[float], bool]
    ) -> SearchState:
        fit = self._refit(model)
        if fit is None:
            return state
        trial = _JudgedFit(fit, self._judge.loss(fit.model))
        accepted = accepts(trial.loss)
        tried = (*state.tried, TriedModel(trial.terms, trial.loss, accepted))
        if not accepted:
            return state._replace(tried=tried)
        return SearchState(trial, self._judge.reference(state.reference, trial.loss), tried)


def num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _losses(fit: LeastSquaresFit, sums: np.ndarray) -> np.ndarray:
    return np.sqrt(sums / fit.num_residuals)
