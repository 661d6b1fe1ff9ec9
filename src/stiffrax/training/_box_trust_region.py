"""Gauss-Newton between bounds, each step in a box that grows and shrinks with its success."""

from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._curvature import Curvature, gain_of
from ._lockstep import Evaluation, Search

# A search has converged where no step in the largest box, between the bounds, is predicted to lower
# the cost by more than the first number, and one that was tried lowered it by less than the second.
# A likelihood ratio tells costs apart that differ by about one; the tolerances of a solve, 1e-6,
# make differences of about 1e-6 (measured: with 1e-6 for the first, searches for the rate of
# y' = r y^2 stalled at rounding in three starts of four).
SMALLEST_GAIN, NO_GAIN = 1e-4, 1e-6
# Half-widths of the box, in units of `scale`, which is e-fold for a rate: the first and the largest
# allow what a line through residuals of kinetics can still predict; below the last, only rounding
# is left. Chosen, not measured.
FIRST_BOX, LARGEST_BOX, SMALLEST_BOX = 1.0, 4.0, 1e-9
# The usual bounds on gained over predicted, below which the box shrinks and above which it grows.
_POOR, _GOOD = 0.25, 0.75


@final
class Found(NamedTuple):
    """Where a search ended.

    `stopped` is `"converged"`: everything was solved, no step between the bounds is predicted to
    gain, and one that was tried gained nothing; `"stalled"`: no step gains what is predicted;
    `"steps"`, `"interrupted"`; `"failures"`: nothing could be solved where it began. It went on by
    `hops` from its minimum, of which `hops_gained` led to a lower one.
    """

    x: Float[np.ndarray, " p"]
    evaluation: Evaluation
    steps: int
    num_failed_steps: int
    stopped: str
    hops: int = 0
    hops_gained: int = 0

    @property
    def cost(self) -> float:
        """The cost, infinite if a solve failed."""
        return self.evaluation.cost if self.evaluation.usable else np.inf


@final
class Box(NamedTuple):
    """Bounds, a moderate change of each number, which of these are guesses, and what is held fixed."""

    lower: Float[np.ndarray, " p"]
    upper: Float[np.ndarray, " p"]
    scale: Float[np.ndarray, " p"]
    guessed: Any = False
    held: tuple[int, ...] = ()


def minimize(
    x: Float[np.ndarray, " p"], box: Box, max_steps: int, known: Evaluation | None = None
) -> Search[Found]:
    """A search for the least cost between bounds, from `x`; a step to where a solve fails is none.

    Each step minimizes the Gauss-Newton model in the intersection of the bounds with a box around
    the point, exactly: parameters that the data cannot tell move no further than its walls. Where
    the scale is a guess, a step without walls is tried before the search ends.
    """
    here = known if known is not None else (yield x)
    if here is None:
        here = Evaluation(np.inf, np.full((len(x) + 1,) * 2, np.nan), 1)
        return Found(x, here, 0, 0, "interrupted")
    if not here.usable:
        return Found(x, here, 0, 0, "failures")
    size, k, failed_steps, tried, far = FIRST_BOX, 0, 0, False, False
    curvature = Curvature(box.scale)
    while k < max_steps:
        for model in curvature.models(here):
            step, gain = _model_step(x, model, box, size)
            reach = gain if size >= LARGEST_BOX else _model_step(x, model, box, LARGEST_BOX)[1]
            if reach >= SMALLEST_GAIN:
                break
        if reach < SMALLEST_GAIN and (tried or reach == 0.0):
            if far or not np.any(box.guessed):
                return Found(x, here, k, failed_steps, "converged")
            size, far = np.inf, True
            continue
        if size < SMALLEST_BOX:
            return Found(x, here, k, failed_steps, "stalled")
        trial = _moved(x, step, box)
        there = yield trial
        if there is None:
            return Found(x, here, k, failed_steps, "interrupted")
        k += 1
        failed_steps += not there.usable
        gained = here.cost - there.cost if there.usable else -np.inf
        tried = there.usable and gained < NO_GAIN
        far = far and gained < NO_GAIN
        length = np.max(np.abs(step / box.scale))
        if gained < _POOR * gain:
            size = min(size, length) / 4
        elif gained > _GOOD * gain and length > 0.9 * size:
            size = min(2 * size, max(size, LARGEST_BOX))
        if there.usable:
            curvature.learn(here, there, trial - x)
        if gained > 0:
            x, here = trial, there
    return Found(x, here, max_steps, failed_steps, "steps")


def _moved(
    x: Float[np.ndarray, " p"], step: Float[np.ndarray, " p"], box: Box
) -> Float[np.ndarray, " p"]:
    """The point after a step, on a bound where the step was to end there: rounding may miss it."""
    new, rounding = x + step, 4 * np.finfo(float).eps * np.abs(x)
    for bound in (box.lower, box.upper):
        new = np.where(np.abs(new - bound) <= rounding, bound, new)
    return np.clip(new, box.lower, box.upper)


def _model_step(
    x: np.ndarray, model: np.ndarray, box: Box, size: float
) -> tuple[Float[np.ndarray, " p"], float]:
    from scipy.optimize import lsq_linear

    C, c = model[:, :-1], model[:, -1]
    walls = np.where(box.guessed, size, min(size, LARGEST_BOX))
    low = np.maximum((box.lower - x) / box.scale, -walls)
    high = np.minimum((box.upper - x) / box.scale, walls)
    free = np.flatnonzero(high > low)
    free = free[~np.isin(free, box.held)]
    step = np.zeros(len(x))
    if free.size:
        found = lsq_linear(C[:, free], -c, (low[free], high[free]), method="bvls", max_iter=200)
        step[free] = np.clip(found.x, low[free], high[free])
    return step * box.scale, max(gain_of(model, step), 0.0)
