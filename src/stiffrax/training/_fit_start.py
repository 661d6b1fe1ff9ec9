"""Where a least-squares fit starts."""

from typing import Any

import numpy as np

from ._compressed_residuals import CompressedResiduals
from ._free_parameters import FreeParameters
from ._levenberg_marquardt import levenberg_marquardt, residual_norm
from ._progress import progress_bar
from ._window_residuals import WindowResiduals, mean_slope_step

STARTS = ("regression", "coupled", "given")
_HOLDING_BACK = 1e-3
# How much better than a cautious start a bold one must be.
_CAUTION = 0.1
# A step that gains less than this part of the sum of squares ends the search for a start.
_ENOUGH = 0.1
# Predictions are let go from the samples in these steps, each fitted until a step gains less than
# the part named. Nothing is trusted at first: noise makes full steps of a linear model as large as
# the data leave undetermined.
_COUPLINGS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
_STEPS, _GAIN, _DAMPING = 12, 1e-3, 1e-3


def fit_start(
    model: Any, steps: CompressedResiduals, start: str, progress: bool | None = None
) -> Any:
    """The model from which the fit to windows starts."""
    if start == "given":
        return model
    if start == "regression":
        return _best_start(model, steps)
    model = _best_start(model, steps.with_coupling(_COUPLINGS[0]))
    bar = progress_bar(progress, len(_COUPLINGS), "coupled start")
    for coupling in _COUPLINGS:
        found = levenberg_marquardt(
            steps.with_coupling(coupling), model, _STEPS, damping=_DAMPING, smallest_gain=_GAIN
        )
        model = found.model
        bar.update()
        bar.set_postfix_str(f"coupling {coupling:g}, {found.num_failed} steps failed")
    bar.close()
    return model


def _best_start(model: Any, steps: CompressedResiduals) -> Any:
    """The fit of the slopes, as it is or held back, or the model given: what predicts best.

    Where samples are few or far apart, the slopes between them can be fitted by coefficients of any
    size, and the held-back fit, or no fit at all, is the better start.
    """
    slopes = WindowResiduals(mean_slope_step, steps.residuals.free_starts)
    slopes = CompressedResiduals(slopes, steps.windows)
    fitted = levenberg_marquardt(slopes, model, 30, smallest_gain=_ENOUGH).model
    if not np.all(FreeParameters(model).droppable):
        # The search for a network's slopes holds itself back.
        return min((fitted, model), key=steps.norm)
    held_back = levenberg_marquardt(slopes, model, 1, damping=_HOLDING_BACK).model
    # With derivatives, which the fit needs as well: values alone are a program of their own.
    losses = [residual_norm(steps.triangle(start)[0]) for start in (fitted, held_back, model)]
    if losses[0] < _CAUTION * min(losses[1:]):
        return fitted
    return held_back if losses[1] < losses[2] else model
