"""What a model of some of the candidates is worth: its loss, and the price of its terms."""

from typing import Any, final

import numpy as np

from ._compressed_residuals import CompressedResiduals
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
