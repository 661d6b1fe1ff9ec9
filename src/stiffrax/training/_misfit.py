"""How badly a model predicts: by failures first, by residuals second."""

from typing import Any, NamedTuple, final

import numpy as np


@final
class Misfit(NamedTuple):
    """The predictions that failed, and the norm of the residuals of all others.

    A prediction that failed has no residual. Any number put in its place could be preferred to that
    of a poor prediction, so that fits would lead to parameters for which solves fail. Two models are
    therefore compared by the number of failures, and where it is the same by the norm; one whose
    residuals leave the range of numbers is worse than any other.
    """

    num_failed: int
    norm: float

    @classmethod
    def of(cls, residuals: Any, num_failed: int) -> "Misfit":
        """That of residuals, or of a column with the same norm; infinite where one is not finite."""
        norm = float(np.linalg.norm(np.asarray(residuals)))
        return cls(int(num_failed), norm if np.isfinite(norm) else np.inf)

    def __lt__(self, other: Any) -> bool:
        """Whether a model predicts better."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[bool, int, float]:
        return not np.isfinite(self.norm), self.num_failed, self.norm

    @property
    def finite_norm(self) -> float:
        """The norm, or infinity where a prediction failed."""
        return np.inf if self.num_failed else self.norm
