"""The curvature that Gauss-Newton leaves out, learned from the steps of a search."""

from typing import final

import numpy as np
from jaxtyping import Float

from ._lockstep import Evaluation

# A secant says nothing where what it would change is this small beside what it is found from.
_LEAST_ANGLE = 1e-8
# Curvatures below this part of the largest are raised to it: no model is flat.
_LEAST_CURVATURE = 1e-16


@final
class Curvature:
    r"""A quadratic model of the cost: Gauss-Newton's, or with what it leaves out.

    $$H = C^T C + S, \qquad S s = g_+ - g - C_+^T C_+ s$$

    `S`, the residuals times their second derivatives, is kept by symmetric rank-one updates. Where
    residuals are large, or valleys curved, Gauss-Newton's model alone is wrong about the directions
    that matter. Of the two models the one is used that foretold the last step better.

    Source: Dennis, Gay and Welsch, *An adaptive nonlinear least-squares algorithm*, ACM TOMS 7
    (1981), there with another update.
    """

    def __init__(self, scale: Float[np.ndarray, " p"]):
        self._scale = scale
        self._missing = np.zeros((len(scale),) * 2)
        self._augmented = False

    def models(self, here: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        """Rows `[C, c]` of the model in use, then of the other, in units of the scale."""
        rows = self._rows(here)
        other = self._with_missing(rows)
        return (other, rows) if self._augmented else (rows, other)

    def learn(self, here: Evaluation, there: Evaluation, step: np.ndarray) -> None:
        """From a step."""
        old, new, step = self._rows(here), self._rows(there), step / self._scale
        gained = here.cost - there.cost
        plain, augmented = (
            abs(gain_of(rows, step) - gained) for rows in (old, self._with_missing(old))
        )
        H, change = new[:, :-1].T @ new[:, :-1], _gradient(new) - _gradient(old)
        miss = change - H @ step - self._missing @ step
        along = miss @ step
        if abs(along) > _LEAST_ANGLE * np.linalg.norm(miss) * np.linalg.norm(step):
            self._missing = self._missing + np.outer(miss, miss) / along
        # After a step that gained nothing the other model has its turn.
        in_turn = not self._augmented and gained < 0
        self._augmented = bool(augmented <= plain or in_turn)

    def _rows(self, at: Evaluation) -> np.ndarray:
        return at.triangle * np.append(self._scale, 1.0)

    def _with_missing(self, rows: np.ndarray) -> np.ndarray:
        H = rows[:, :-1].T @ rows[:, :-1] + self._missing
        sizes, modes = np.linalg.eigh(H)
        sizes = np.maximum(np.abs(sizes), _LEAST_CURVATURE * np.max(np.abs(sizes)))
        sizes = np.maximum(sizes, np.finfo(float).tiny)
        root = np.sqrt(sizes)
        return np.column_stack([root[:, None] * modes.T, modes.T @ _gradient(rows) / root])


def _gradient(rows: np.ndarray) -> np.ndarray:
    return rows[:, :-1].T @ rows[:, -1]


def gain_of(rows: np.ndarray, step: np.ndarray) -> float:
    """By how much a step lowers the model of these rows."""
    C, c = rows[:, :-1], rows[:, -1]
    return 0.5 * float(c @ c - np.sum((C @ step + c) ** 2))
