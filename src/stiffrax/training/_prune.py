"""Dropping the terms that the data do not need."""

from typing import Any, final

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ..data import Trajectories
from ..solvers import RadauIIA9
from ._fit_least_squares import LeastSquaresFit, checked_scale, fit_least_squares
from ._free_parameters import FreeParameters
from ._segment_residuals import CompressedResiduals, StepResidual, padded_segments


@final
class PrunedFit(eqx.Module):
    """What [`stiffrax.prune_and_refit`][] found.

    **Attributes:**

    - `fit`: the last fit, a [`stiffrax.LeastSquaresFit`][]; `model` is its model.
    - `num_dropped`: terms switched off.
    - `held_out_loss`: root mean square of the scaled residuals of the held-out runs.
    - `discretization_error`: the part of it that is the step's, measured by halving the step.
    - `history`: `(terms, held-out loss, accepted)` of every model tried.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> runs = np.array([1.0, 2.0, 0.5])[:, None] * np.exp(-ts)
    >>> data = srx.Trajectories.from_arrays(ts, runs[..., None])
    >>> pruned = srx.prune_and_refit(srx.Polynomial(1, degree=2), data, srx.RadauIIA5(), refine=1)
    >>> pruned.num_dropped
    2

    ```
    """

    fit: LeastSquaresFit
    num_dropped: int
    held_out_loss: float
    discretization_error: float
    history: tuple[tuple[int, float, bool], ...]

    @property
    def model(self) -> Any:
        """The pruned model."""
        return self.fit.model

    def __repr__(self) -> str:
        return f"PrunedFit({self.num_dropped} dropped, held-out loss {self.held_out_loss:.3e})"


def prune_and_refit(
    model: Any,
    data: Trajectories,
    solver: diffrax.AbstractSolver | None = None,
    *,
    held_out: Any = 0.2,
    tolerance: float = 3.0,
    substeps: int = 1,
    refine: int = 4,
    scale: Any = None,
    progress: bool | None = None,
) -> PrunedFit:
    r"""Fits, drops terms and refits until dropping any further term costs on held-out runs.

    Terms are ordered by what each costs in the quadratic model of the fit once all others are
    refitted, and dropped one after the other from that model (cheapest first):

    $$\Delta_j = \theta_j^2 / (J^T J)^{-1}_{jj}$$

    As long a piece of that list as possible is dropped and the rest refitted; the smaller model is
    kept if its error on runs that it was not fitted to stays below `tolerance` times the larger of
    the best one so far and the error of the discretization itself. Significance tests are no use
    here: with clean data what is left over is the error of the single step, which is no noise, and
    superfluous terms are significant because they fit it. It is measured by halving the step.
    The terms that are left are refitted to all runs with `refine` times as many substeps.

    **Arguments:**

    - `model`: [`stiffrax.Polynomial`][], [`stiffrax.Library`][], or a model that contains one.
    - `data`, `solver`, `substeps`, `scale`, `progress`: as for [`stiffrax.fit_least_squares`][].
    - `held_out`: the runs to judge by, as in [`stiffrax.Trajectories.split`][].
    - `tolerance`: how much worse a smaller model may be.
    - `refine`: factor on `substeps` in the last fit.

    **Returns:** a [`stiffrax.PrunedFit`][].

    **Raises:** `ValueError` if the data have a single run, or the model no term to drop.

    Cost: one full fit, then a few fits of ever smaller models.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> runs = np.array([1.0, 2.0, 0.5])[:, None] * np.exp(-ts)
    >>> data = srx.Trajectories.from_arrays(ts, runs[..., None], names=["c"])
    >>> pruned = srx.prune_and_refit(srx.Polynomial(1, degree=2), data, srx.RadauIIA5(), refine=1)
    >>> pruned.num_dropped
    2

    ```
    """
    solver = RadauIIA9() if solver is None else solver
    _check(data, tolerance, refine)
    scale = checked_scale(scale, data)
    train, test = data.split(held_out)
    options = {"scale": scale, "progress": progress}
    fit = fit_least_squares(model, train, solver, substeps=substeps, **options)
    total = _num_terms(fit.model)
    best = _loss(fit.model, test, solver, substeps, scale)
    history = [(total, best, True)]

    while True:
        error = discretization_error(fit.model, test, solver, substeps, scale)
        free = FreeParameters(fit.model)
        order, predicted = _elimination_path(fit, np.asarray(free.values)[free.index], free)
        allowed = tolerance * max(best, error)
        # The cheapest term is always tried, since the prediction holds only near the fit.
        piece = max(1, int(np.sum(predicted <= allowed)))
        trial = None
        while trial is None and piece > 0:
            smaller = _refit(free.without(order[:piece]), train, solver, substeps, options)
            if smaller is not None:
                loss = _loss(smaller.model, test, solver, substeps, scale)
                accepted = loss <= allowed
                history.append((_num_terms(smaller.model), loss, accepted))
                trial = smaller if accepted else None
                best = min(best, loss)
            piece //= 2
        if trial is None:
            break
        fit = trial

    final = _refit(fit.model, data, solver, refine * substeps, options) or fit
    error = discretization_error(final.model, test, solver, refine * substeps, scale)
    loss = _loss(final.model, test, solver, refine * substeps, scale)
    return PrunedFit(final, total - _num_terms(final.model), loss, error, tuple(history))


def _check(data: Trajectories, tolerance: Any, refine: Any) -> None:
    if data.num_runs < 2:
        raise ValueError(
            "`data` has one run; dropping terms is judged on runs that are held out, so that two "
            "at least are needed. Cut the run in two, or fit without pruning."
        )
    if not tolerance >= 1:
        raise ValueError(f"`tolerance={tolerance!r}` was given; it needs a number of at least 1.")
    if not isinstance(refine, int) or refine < 1:
        raise ValueError(f"`refine={refine!r}` was given; it needs a positive integer.")


def _num_terms(model: Any) -> int:
    return int(np.sum(FreeParameters(model).droppable))


def _refit(model: Any, data: Trajectories, solver: Any, substeps: int, options: dict) -> Any:
    try:
        FreeParameters(model)
    except ValueError:
        return None
    return fit_least_squares(model, data, solver, substeps=substeps, start="given", **options)


def _values(model: Any, data: Trajectories, solver: Any, substeps: int, scale: Any) -> np.ndarray:
    residual = StepResidual(solver, substeps)
    residuals = CompressedResiduals(residual, padded_segments(data), scale)
    return np.asarray(residuals.values(model))[np.asarray(residuals.segments.mask)]


def _loss(model: Any, data: Trajectories, solver: Any, substeps: int, scale: Any) -> float:
    return float(np.sqrt(np.mean(_values(model, data, solver, substeps, scale) ** 2)))


def discretization_error(
    model: Any, data: Trajectories, solver: Any, substeps: int, scale: Any
) -> float:
    """Root mean square change of the scaled predictions when every step is halved."""
    scale = checked_scale(scale, data)
    coarse = _values(model, data, solver, substeps, scale)
    fine = _values(model, data, solver, 2 * substeps, scale)
    return float(np.sqrt(np.mean((coarse - fine) ** 2)))


def _elimination_path(
    fit: LeastSquaresFit, theta: Float[np.ndarray, " p"], free: FreeParameters
) -> tuple[Int[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """The order in which terms cost least, the others refitted each time, and the losses."""
    C = fit.triangle[:, free.index]
    size = np.linalg.norm(C, axis=0)
    size = np.where(size > 0, size, 1)
    C, theta = C / size, theta * size
    P = np.linalg.pinv(C.T @ C + 1e-14 * np.eye(len(theta)), hermitian=True)
    left = free.droppable.copy()
    order, costs = [], []
    while left.any():
        cost = np.where(left, theta**2 / np.maximum(np.diagonal(P), 1e-300), np.inf)
        j = int(np.argmin(cost))
        order.append(j)
        costs.append(cost[j])
        left[j] = False
        column = P[:, j] / P[j, j]
        theta = theta - column * theta[j]
        P = P - np.outer(column, P[j])
        P[j, j] = 1.0
    total = np.sum(fit.triangle[:, -1] ** 2)
    count = total / fit.loss**2 if fit.loss > 0 else 1.0
    return np.asarray(order, int), np.sqrt((total + np.cumsum(costs)) / count)
