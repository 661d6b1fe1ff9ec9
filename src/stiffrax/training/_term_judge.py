"""What a model of fewer terms is worth."""

from typing import Any, final

import numpy as np

from ._compressed_residuals import CompressedResiduals

# What a term must gain, in units of the variance of the residuals, for its place in the model.
_PRICES = {"aic": 2.0, "significance": 9.0}
CRITERIA = ("held_out", "bic", *_PRICES)


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
