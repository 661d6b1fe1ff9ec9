"""Gauss-Newton between bounds, in a box that grows and shrinks, and hops on from its minimum."""

from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._lockstep import Evaluation, Search

# A search has converged where no step in the largest box, between the bounds, is predicted to lower
# the cost by more than the first number, and one that was tried lowered it by less than the second.
# A likelihood ratio tells costs apart that differ by about one; the tolerances of a solve, 1e-6,
# make differences of about 1e-6 (measured: with 1e-6 for the first, searches for the rate of
# y' = r y^2 stalled at rounding in three starts of four).
SMALLEST_GAIN, NO_GAIN = 1e-4, 1e-6
# Half-widths of the box, in units of `scale`, which is e-fold for a rate: the first and the largest,
# which that of a guess may exceed, allow what a line through residuals of kinetics can still predict;
# below the last, only rounding is left. Chosen, not measured.
FIRST_BOX, LARGEST_BOX, SMALLEST_BOX = 1.0, 4.0, 1e-9
# A guess of a scale is lowered to what moves the residuals by so many times their size. Chosen, not
# measured.
_MOST_MOVED = 1e3
# Widths of squares in place of `|z|`, one after the other. Halved each time they let go too late of
# residuals that should not be zero.
_WIDTHS = 0.75 ** np.arange(60)
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

    def lowered(self, triangle: Float[np.ndarray, "q q"], least: Any = 0.0) -> "Box":
        """Guesses of scales, `least` or more, are no larger than the model at a point bears."""
        C, c = triangle[:, :-1], triangle[:, -1]
        with np.errstate(divide="ignore"):
            most = _MOST_MOVED * max(np.linalg.norm(c), 1.0) / np.linalg.norm(C, axis=0)
        moderate = np.minimum(np.maximum(self.scale, least), most)
        return self._replace(scale=np.where(self.guessed, moderate, self.scale))


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
        box = box.lowered(here.triangle)
        curvature.rescale(box.scale)
        for model in curvature.models(here):
            step, gain = _kinked_step(x, here.kinks, model, box, size)
            reach, length = gain, np.max(np.abs(step / box.scale))
            if size < LARGEST_BOX and length > 0.9 * size:
                reach = _kinked_step(x, here.kinks, model, box, LARGEST_BOX)[1]
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
        if gained < _POOR * gain:
            size = min(size, length) / 4
        elif gained > _GOOD * gain and length > 0.9 * size:
            size *= 2
        if there.usable and here.kinks is None:
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


def _kinked_step(
    x: np.ndarray, kinks: Any, model: np.ndarray, box: Box, size: float
) -> tuple[Float[np.ndarray, " p"], float]:
    """The step to the least of a model in which terms are `|z|` and not lines, by reweighting."""
    if kinks is None:
        return _model_step(x, model, box, size)
    D, z = kinks[:, :-1] * box.scale, kinks[:, -1]
    step, along = np.zeros(len(x)), np.zeros(len(z))
    for width in _WIDTHS:
        root = np.sqrt(np.maximum(np.abs(z + along), width))
        rows = np.column_stack([D / root[:, None], z / root - np.sign(z) * root])
        step, _ = _model_step(x, np.concatenate([model, rows]), box, size)
        along = D @ (step / box.scale)
    bent = np.sum(np.abs(z + along) - np.abs(z) - np.sign(z) * along)
    return step, max(gain_of(model, step / box.scale) - bent, 0.0)


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
    step, unit = np.zeros(len(x)), np.ones(len(x))
    # Least squares drop columns that are small beside others, which those of a guess may be.
    norms = np.linalg.norm(C, axis=0)
    np.divide(1, norms, out=unit, where=np.asarray(box.guessed) & (norms > 0))
    low, high, C = (low / unit)[free], (high / unit)[free], (C * unit)[:, free]
    if free.size:
        found = lsq_linear(C, -c, (low, high), method="bvls", max_iter=200)
        step[free] = np.clip(found.x, low, high) * unit[free]
    return step * box.scale, max(gain_of(model, step), 0.0)


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
    that matter. First comes the model that foretold the last step better.

    Source: Dennis, Gay and Welsch, *An adaptive nonlinear least-squares algorithm*, ACM TOMS 7
    (1981), there with another update.
    """

    def __init__(self, scale: Float[np.ndarray, " p"]):
        self._scale = scale
        self._missing = np.zeros((len(scale),) * 2)
        self._augmented = False

    def rescale(self, scale: Float[np.ndarray, " p"]) -> None:
        """To other units."""
        ratio = scale / self._scale
        self._missing, self._scale = self._missing * np.outer(ratio, ratio), scale

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


# A part of the parameters is drawn anew, so many times, and the best of these points is searched
# from. Three draws bring more arrivals for the solves they cost on Boehm than ten
# (docs/benchmarks/petab.md), and of one alone a draw that fails is a hop lost.
_REDRAWN, _DRAWS = 0.3, 3


@final
class Hops:
    """How often a search goes on from its minimum, and the random numbers that lead it there."""

    def __init__(self, count: int, rng: np.random.Generator):
        self._count, self._rng = count, rng

    def search(
        self, points: Float[np.ndarray, "draws p"], box: Box, max_steps: int
    ) -> Search[Found]:
        """The best minimum of a search and its hops, from the first point that can be solved."""
        found = yield from _first(points, box, max_steps)
        for _ in range(self._count):
            if found.stopped in ("failures", "interrupted"):
                break
            found = yield from self._hop(found, box, max_steps)
        return found

    def _hop(self, found: Found, box: Box, max_steps: int) -> Search[Found]:
        """The same minimum or a lower one, whichever a search from near it finds."""
        best, known = found.x, None
        for _ in range(_DRAWS):
            x = self._redrawn(found.x, box)
            there = yield x
            if there is None:
                return found._replace(stopped="interrupted")
            if there.usable and (known is None or there.cost < known.cost):
                best, known = x, there
        found = found._replace(hops=found.hops + 1)
        if known is None:
            return found
        other = yield from minimize(best, box, max_steps, known)
        kept = other if other.cost < found.cost else found
        return kept._replace(
            steps=found.steps + other.steps,
            num_failed_steps=found.num_failed_steps + other.num_failed_steps,
            stopped="interrupted" if other.stopped == "interrupted" else kept.stopped,
            hops=found.hops,
            # The same minimum, found again, ends a little lower as often as not.
            hops_gained=found.hops_gained + (other.cost < found.cost - SMALLEST_GAIN),
        )

    def _redrawn(self, x: Float[np.ndarray, " p"], box: Box) -> Float[np.ndarray, " p"]:
        """The point with at least one of the parameters that have two bounds somewhere between."""
        width = box.upper - box.lower
        bounded = np.flatnonzero(np.isfinite(width) & (width > 0))
        chosen = self._rng.random(bounded.size) < _REDRAWN
        chosen[self._rng.integers(bounded.size)] = True
        new, index = x.copy(), bounded[chosen]
        new[index] = box.lower[index] + width[index] * self._rng.random(index.size)
        return new


def _first(points: Float[np.ndarray, "draws p"], box: Box, max_steps: int) -> Search[Found]:
    for x in points:
        found = yield from minimize(x, box, max_steps)
        if found.stopped != "failures":
            return found
    return found
