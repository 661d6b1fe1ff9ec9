"""Where a least-squares fit starts."""

from typing import Any

import numpy as np

from ._compressed_residuals import CompressedResiduals, Misfit
from ._levenberg_marquardt import levenberg_marquardt
from ._parameter_vector import FreeParameters
from ._progress import progress_bar
from ._window_residuals import WindowResiduals, mean_slope_step

STARTS = ("regression", "coupled", "given")
# The damping, relative to unit columns, of the regression that is held back. Chosen, not measured: what
# it is for is in docs/benchmarks/recovery.md.
_HOLDING_BACK = 1e-3
# The plain regression is taken if its loss is below this part of the loss of the others. Chosen, not
# measured.
_CAUTION = 0.1
# A step that gains less than this part of the sum of squares ends the search for a start. Chosen, not
# measured: the fit that follows goes on.
_ENOUGH = 0.1
# The coupling is annealed through these values, with a fit at each until a step gains less than
# this part. Chosen, not measured one by one; what they find is in docs/benchmarks/sindy.md.
_COUPLINGS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
_STEPS, _GAIN = 12, 1e-3
# Damped from the first step: noise makes undamped steps of a linear model as large as the data
# leave undetermined.
_DAMPING = 1e-3
# Above this coupling the noise of the samples, to which predictions are coupled, hides terms.
# Chosen, not measured: at 0.5 half of each sample and its noise starts the next segment.
_SEARCHED = 0.3
# How the fits of such a search are done.
COUPLED_FIT = {"max_steps": 20, "damping": _DAMPING}


def fit_start(
    model: Any,
    steps: CompressedResiduals,
    start: str,
    progress: bool | None,
    above: float = 0.0,
) -> Any:
    """The model from which the fit to windows starts; of a coupled start the couplings `above`."""
    if start == "given":
        return model
    if start == "regression":
        return _best_start(model, steps)
    model = _best_start(model, steps.with_coupling(_COUPLINGS[0]))
    couplings = [coupling for coupling in _COUPLINGS if coupling > above]
    bar = progress_bar(progress, len(couplings), "coupled start")
    for coupling in couplings:
        found = levenberg_marquardt(
            steps.with_coupling(coupling),
            model,
            _STEPS,
            damping=_DAMPING,
            enough=_GAIN,
        )
        model = found.model
        bar.update()
        bar.set_postfix_str(
            f"coupling {coupling:g}, {found.misfits[-1].num_failed} segments failed"
        )
    bar.close()
    return model


def couplings_of_search(start: str) -> tuple[float, ...]:
    """The couplings at which terms are searched, one after the other; the last is none."""
    if start != "coupled":
        return (0.0,)
    return *(coupling for coupling in _COUPLINGS if coupling <= _SEARCHED), 0.0


def _best_start(model: Any, steps: CompressedResiduals) -> Any:
    """The best predictor of three: the regression of the slopes, a damped one, the model given.

    Where samples are few or far apart, the slopes between them can be fitted by coefficients of any
    size, and the held-back fit, or no fit at all, is the better start.
    """
    slopes = WindowResiduals(mean_slope_step, steps.residuals.free_starts)
    slopes = CompressedResiduals(slopes, steps.windows)
    fitted = levenberg_marquardt(slopes, model, 30, enough=_ENOUGH).model
    if not np.all(FreeParameters(model).droppable):
        # The search for a network's slopes holds itself back.
        return min((fitted, model), key=steps.misfit)
    held_back = levenberg_marquardt(slopes, model, 1, damping=_HOLDING_BACK).model
    # With derivatives, which the fit needs as well: values alone are a program of their own.
    starts = fitted, held_back, model
    bold, cautious, given = (_misfit_of_fit(steps, start) for start in starts)
    if Misfit(bold.num_failed, bold.norm / _CAUTION) < min(cautious, given):
        return fitted
    return held_back if cautious < given else model


def _misfit_of_fit(steps: CompressedResiduals, model: Any) -> Misfit:
    R, failures = steps.triangle(model)
    return Misfit.of(R[:, -1], failures)
