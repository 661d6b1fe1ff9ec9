"""Levenberg-Marquardt on residuals that are known by their triangular factor."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._compressed_residuals import CompressedResiduals
from ._free_parameters import FreeParameters
from ._progress import progress_bar

# Relative to unit columns. Coefficients of a linear model enter the residuals almost linearly, and
# the terms of a stiff reaction differ by less than any damping would leave of them: the first step
# is a Gauss-Newton step, as far as rounding allows. Weights of a network want one they can trust.
_LEAST_DAMPING_LINEAR = 1e-20
_FIRST_DAMPING, _LEAST_DAMPING = 1e-2, 1e-12
# How fast the damping falls where the residuals are as linear as predicted: less after a step that
# was rejected, for then it is known at which damping that was.
_FALL, _FALL_AFTER_REJECTION = 0.03, 0.1
# How fast it rises at the first rejection; twice as fast at each one after it.
_RISE = 2.0
# Parts of the sum of squares. A fit has converged when no step can gain the first (by default), as
# predicted without damping, or when five together do not.
_SMALLEST_GAIN = 1e-4
_PATIENCE = 5
# A step that gained nothing and should have gained no more than this is lost in rounding.
_ROUNDING = 1e-6


@final
class Minimum(NamedTuple):
    """Where the sum of squares is least, with the norms of the residuals on the way there."""

    model: Any
    norms: list[float]
    converged: bool
    triangle: Float[np.ndarray, "q q"]
    num_failed: int


def levenberg_marquardt(
    residuals: CompressedResiduals,
    model: Any,
    max_steps: int,
    *,
    progress: bool | None = False,
    damping: float | None = None,
    count: int = 1,
    smallest_gain: float = _SMALLEST_GAIN,
) -> Minimum:
    r"""The model whose residuals have the least norm.

    $$\min_s |C s + c|^2 + \lambda |D s|^2$$

    with `D` the largest norms of the columns so far. The damping falls with every step that gains
    what was predicted and rises with every one that does not (Nielsen's rule). Orthogonal factors
    throughout: terms that hardly differ on the data make the normal equations blind below a
    relative 1e-7, and the model of a stiff reaction is found below that.
    """
    free = FreeParameters(model)
    linear = bool(np.all(free.droppable))
    passes, least = (2, _LEAST_DAMPING_LINEAR) if linear else (1, _LEAST_DAMPING)
    if damping is None:
        damping = least if linear else _FIRST_DAMPING

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, int]:
        R, failures = residuals.triangle(free.model(x), passes)
        return R.astype(float), failures

    x = np.asarray(free.values, float)
    R, num_failed = evaluate(x)
    norms, size = [residual_norm(R)], np.zeros(len(free.index))
    bar = progress_bar(progress, max_steps, "least squares")
    rise, converged = _RISE, norms[0] == 0
    for _ in range(max_steps):
        if converged or not np.all(np.isfinite(R)):
            break
        C, c = R[:, free.index], R[:, -1]
        size = np.maximum(size, np.linalg.norm(C, axis=0))
        step, predicted = _step(C, c, size, damping)
        trial = x.copy()
        trial[free.index] += step
        # Steps of a linear model are good but for rounding; those of a network often are not, and
        # cost no derivatives then.
        good = linear or residuals.norm(free.model(trial)) < norms[-1]
        new, failures = evaluate(trial) if good else (R, num_failed)
        gain = norms[-1] ** 2 - residual_norm(new) ** 2
        bar.update()
        if gain > 0:
            x, R, num_failed = trial, new, failures
            norms.append(residual_norm(R))
            ratio = gain / max(predicted, gain)
            fall = _FALL if rise == _RISE else _FALL_AFTER_REJECTION
            damping = max(damping * max(fall, 1 - (2 * ratio - 1) ** 3), least)
            rise = _RISE
            converged = _converged(norms, R[:, free.index], R[:, -1], size, least, smallest_gain)
            bar.set_postfix_str(f"loss {norms[-1] / count**0.5:.3e}")
        else:
            damping, rise = damping * rise, 2 * rise
            converged = predicted <= _ROUNDING * norms[-1] ** 2
    bar.close()
    return Minimum(free.model(jnp.asarray(x)), norms, converged, R, num_failed)


def _converged(
    norms: list[float],
    C: np.ndarray,
    c: np.ndarray,
    size: np.ndarray,
    least: float,
    smallest_gain: float,
) -> bool:
    """Whether the last step gained next to nothing and so would the next ones."""
    smallest = smallest_gain * norms[-1] ** 2
    if norms[-2] ** 2 - norms[-1] ** 2 > smallest:
        return norms[-1] == 0
    if _step(C, c, size, least)[1] <= smallest:
        return True
    return len(norms) > _PATIENCE and norms[-1 - _PATIENCE] ** 2 - norms[-1] ** 2 <= smallest


def residual_norm(R: Any) -> float:
    """The norm of all residuals, or infinity."""
    norm = float(np.linalg.norm(np.asarray(R)[:, -1]))
    return norm if np.isfinite(norm) else np.inf


def _step(
    C: np.ndarray, c: np.ndarray, size: np.ndarray, damping: float
) -> tuple[np.ndarray, float]:
    """The damped step, and by how much it should lower the sum of squares."""
    size = np.where(size > 0, size, 1.0)
    C = C / size
    Q, T = np.linalg.qr(np.concatenate([C, np.sqrt(damping) * np.eye(len(size))]))
    step = np.linalg.solve(T, -(Q[: len(c)].T @ c))
    predicted = np.sum(c**2) - np.sum((C @ step + c) ** 2)
    return step / size, float(predicted)
