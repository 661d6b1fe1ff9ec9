"""Levenberg-Marquardt on residuals that are known by their triangular factor."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._compressed_residuals import CompressedResiduals, Misfit
from ._parameter_vector import FreeParameters
from ._progress import progress_bar

# Relative to unit columns. Coefficients of a linear model enter the residuals almost linearly, and
# the terms of a stiff reaction differ by less than any damping would leave of them: the first step
# is a Gauss-Newton step, as far as rounding allows. Weights of a network want one they can trust: the
# 1e-2 is chosen, not measured, and falls within a few steps to what fits.
_LEAST_DAMPING_LINEAR = 1e-20
_FIRST_DAMPING, _LEAST_DAMPING = 1e-2, 1e-12
# How fast the damping falls where the residuals are as linear as predicted: less after a step that
# was rejected, for then it is known at which damping that was. Chosen, not
# measured.
_FALL, _FALL_AFTER_REJECTION = 0.03, 0.1
# How fast it rises at the first rejection; twice as fast at each one after it (Nielsen, 1999).
_RISE = 2.0
# A fit has converged where the part of the residuals that the parameters can still remove, to first
# order, is below this: far below what the noise of the data makes of the parameters. (With 1e-3 a
# rate fitted to six noisy runs is off by 2e-5 from SciPy's, with 1e-4 by less than 1e-5.)
LARGEST_GRADIENT = 1e-4
# It has stalled where so many steps together gain less than this part of the sum of squares.
# Chosen, not measured.
_PATIENCE, _SMALLEST_GAIN = 5, 1e-4
# In units of rounding: the part of a sum of squares below which no gain can be seen, and the part
# of the norm of the samples below which no residual can. (With 100 for the second, two states that
# are alike to 1e-8 are told apart to 1.6e-4 only; with 2 to 1e-5.)
_ROUNDING_OF_SUMS, _ROUNDING_OF_SAMPLES = 100.0, 2.0
# Columns that LAPACK eliminates at a time; its own examples have 32.
_BLOCK = 32


@final
class Minimum(NamedTuple):
    """Where the search ended, and the misfits on the way there.

    `gradient` and `stopped` are those of `LeastSquaresFit`, or `"enough"`: see `levenberg_marquardt`.
    """

    model: Any
    misfits: list[Misfit]
    gradient: float
    stopped: str
    triangle: Float[np.ndarray, "q q"]


@final
class _Point(NamedTuple):
    """Parameters, the triangular factor of `[J, r]` there, and the failures."""

    x: np.ndarray
    R: np.ndarray
    misfit: Misfit


def levenberg_marquardt(
    residuals: CompressedResiduals,
    model: Any,
    max_steps: int,
    *,
    progress: bool | None = False,
    damping: float | None = None,
    count: int = 1,
    enough: float = 0.0,
) -> Minimum:
    r"""The model whose residuals have the least norm, among those of the fewest failures.

    $$\min_s |C s + c|^2 + \lambda |D s|^2$$

    with `D` the largest norms of the columns so far. The damping falls with every step that gains
    what was predicted and rises with every one that does not (Nielsen's rule). Orthogonal factors
    throughout: terms that hardly differ on the data make the normal equations blind below a
    relative 1e-7, and the model of a stiff reaction is found below that. The search ends early
    where a step gains less than the part `enough` of the sum of squares, and the next is predicted
    to.
    """
    free = FreeParameters(model)
    linear = bool(np.all(free.droppable))
    passes, least = (2, _LEAST_DAMPING_LINEAR) if linear else (1, _LEAST_DAMPING)
    if damping is None:
        damping = least if linear else _FIRST_DAMPING

    def point(x: np.ndarray) -> _Point:
        R, failures = residuals.triangle(free.model(x), passes)
        R = R.astype(float)
        return _Point(x, R, Misfit.of(R[:, -1], failures))

    here = point(np.clip(np.asarray(free.values, float), free.lower, free.upper))
    misfits, size = [here.misfit], _column_sizes(here.R[:, free.index])
    bar = progress_bar(progress, max_steps, "least squares")
    rise, eps = _RISE, residuals.eps(model)
    verdict = _Verdict(free, _ROUNDING_OF_SAMPLES * eps * residuals.size, enough)
    stopped = verdict(here, misfits, size)
    for _ in range(max_steps):
        if stopped:
            break
        room = (free.lower - here.x)[free.index], (free.upper - here.x)[free.index]
        step, predicted = _step(here.R[:, free.index], here.R[:, -1], size, damping, room)
        x = _moved(here.x, free, step, room)
        # Steps of a linear model are good but for rounding; those of a network often are not, and
        # cost no derivatives then.
        good = linear or residuals.misfit(free.model(x)) < here.misfit
        trial = point(x) if good else here
        bar.update()
        if trial.misfit < here.misfit:
            damping = max(damping * _fall(here.misfit, trial.misfit, predicted, rise), least)
            here, rise = trial, _RISE
            misfits.append(here.misfit)
            size = np.maximum(size, _column_sizes(here.R[:, free.index]))
            stopped = verdict(here, misfits, size)
            bar.set_postfix_str(_shown(here.misfit, count))
        else:
            damping, rise = damping * rise, 2 * rise
            lost = predicted <= _ROUNDING_OF_SUMS * eps * here.misfit.norm**2
            stopped = "stalled" if lost else ""
    bar.close()
    return Minimum(
        free.model(jnp.asarray(here.x)),
        misfits,
        verdict.gradient(here),
        stopped or "steps",
        here.R,
    )


def _moved(
    x: np.ndarray, free: FreeParameters, step: np.ndarray, room: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """`x` after a step, to the last digit at a bound that the step meets."""
    part = 1 - _ROUNDING_OF_SUMS * np.finfo(float).eps
    new, index = x.copy(), free.index
    inner = np.where(step >= room[1] * part, free.upper[index], x[index] + step)
    new[index] = np.where(step <= room[0] * part, free.lower[index], inner)
    return new


@final
class _Verdict(NamedTuple):
    """Says at a point that was accepted why the search ends there, or nothing.

    `smallest` is the norm of residuals that are all rounding.
    """

    free: FreeParameters
    smallest: float
    enough: float

    def gradient(self, here: _Point) -> float:
        """The projected gradient, of residuals that are more than rounding."""
        index = self.free.index
        C, c = here.R[:, index], here.R[:, -1]
        # At its bound a parameter can only move inward.
        down, up = (here.x > self.free.lower)[index], (here.x < self.free.upper)[index]
        slope = c @ C
        C = C[:, (down | (slope < 0)) & (up | (slope > 0))]
        return projected_gradient(C, c, self.smallest / LARGEST_GRADIENT)

    def __call__(self, here: _Point, misfits: list[Misfit], size: np.ndarray) -> str:
        if not np.all(np.isfinite(here.R)):
            return "not finite"
        gradient = self.gradient(here)
        if gradient <= LARGEST_GRADIENT:
            return self._at_a_minimum(here, size)
        if _gained_little(misfits, 1, self.enough) and gradient**2 <= self.enough:
            return "enough"
        return "stalled" if _gained_little(misfits, _PATIENCE, _SMALLEST_GAIN) else ""

    def _at_a_minimum(self, here: _Point, size: np.ndarray) -> str:
        if here.misfit.num_failed:
            return "failures"
        # Nothing depends any more on a parameter that has run away: flat, but no minimum.
        now = _column_sizes(here.R[:, self.free.index])
        return "stalled" if np.any(now < np.finfo(float).eps * size) else "converged"


def projected_gradient(C: np.ndarray, c: np.ndarray, smallest: float = 0.0) -> float:
    r"""The part of the residuals that the parameters can still remove, to first order.

    $$|P r| / |r|, \qquad P = J J^+$$

    It is the same for any linear change of parameters; its square is the part of the sum of squares
    that the next Gauss-Newton step is predicted to gain. Residuals below `smallest` count as if they
    were that large.
    """
    if not (np.all(np.isfinite(C)) and np.all(np.isfinite(c))):
        return np.inf
    _, removed = _damped_factors(C, c, _LEAST_DAMPING_LINEAR, _column_sizes(C))
    removable = float(np.linalg.norm(removed))
    norm = max(float(np.linalg.norm(c)), smallest)
    return removable / norm if norm > 0 else 0.0


def _gained_little(misfits: list[Misfit], steps: int, part: float) -> bool:
    """Whether the last steps lowered no number of failures and the sum of squares by less."""
    if len(misfits) <= steps or misfits[-1 - steps].num_failed > misfits[-1].num_failed:
        return False
    before, now = misfits[-1 - steps].norm, misfits[-1].norm
    return before**2 - now**2 <= part * now**2


def _fall(before: Misfit, after: Misfit, predicted: float, rise: float) -> float:
    """By what the damping is multiplied after a step that was accepted."""
    if after.num_failed < before.num_failed:
        return 1.0  # what was predicted are other residuals
    gain = before.norm**2 - after.norm**2
    ratio = gain / max(predicted, gain)
    fall = _FALL if rise == _RISE else _FALL_AFTER_REJECTION
    return max(fall, 1 - (2 * ratio - 1) ** 3)


def _shown(misfit: Misfit, count: int) -> str:
    failed = f", {misfit.num_failed} failed" if misfit.num_failed else ""
    return f"loss {misfit.norm / count**0.5:.3e}{failed}"


def _column_sizes(C: np.ndarray) -> np.ndarray:
    return np.linalg.norm(C, axis=0)


def _damped_factors(
    C: np.ndarray, c: np.ndarray, damping: float, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`T` and `Q^T c` of the columns in units of `size` above the root of the damping.

    `C` and `c` are a triangle already unless columns were left out, and a triangle above a diagonal
    takes a tenth of the time of as many full rows.
    """
    from scipy.linalg import get_lapack_funcs

    above = np.concatenate([C / np.where(size > 0, size, 1.0), c[:, None]], axis=1)
    if above.shape[0] > above.shape[1] or np.any(np.tril(above, -1)):
        above = np.linalg.qr(above, mode="r")
    n = len(above)
    below = np.sqrt(damping) * np.eye(n)
    below[-1, -1] = 0
    (tpqrt,) = get_lapack_funcs(("tpqrt",), (above, below))
    factor = tpqrt(n, min(n, _BLOCK), above, below)[0]
    return factor[:-1, :-1], factor[:-1, -1]


def _step(
    C: np.ndarray,
    c: np.ndarray,
    size: np.ndarray,
    damping: float,
    room: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, float]:
    """The damped step, within `room`, and by how much it should lower the sum of squares."""
    from scipy.linalg import solve_triangular

    T, removed = _damped_factors(C, c, damping, size)
    unit, right = np.where(size > 0, size, 1.0), -removed
    step = solve_triangular(T, right, check_finite=False) / unit
    low, high = room
    if np.any((step < low) | (step > high)):
        from scipy.optimize import lsq_linear

        step = lsq_linear(T, right, (low * unit, high * unit), method="bvls").x / unit
        step = np.clip(step, low, high)
    predicted = np.sum(c**2) - np.sum((C @ step + c) ** 2)
    return step, float(predicted)
