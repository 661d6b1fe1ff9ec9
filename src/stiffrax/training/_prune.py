"""Dropping the terms that the data do not need."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx

from .._arguments import check_choice, check_count, real_numbers
from .._options import Criterion, InitialStates, Start
from ..data import Trajectories
from ..losses import check_data, check_model
from ..solvers import RadauIIA9
from ._compressed_residuals import CompressedResiduals
from ._fit_least_squares import LeastSquaresFit, check_options, fit_windows
from ._fit_start import COUPLED_FIT, couplings_of_search, fit_start
from ._parameter_vector import FreeParameters
from ._term_search import CRITERIA, FAR, TermJudge, TermSearch, TriedModel, num_terms
from ._weighted_samples import WeightedSamples, padded_windows
from ._window_residuals import SegmentStep, WindowResiduals


@final
class PrunedFit(eqx.Module):
    """What [`stiffrax.prune_and_refit`][] found.

    **Attributes:**

    - `fit`: the last fit, a [`stiffrax.LeastSquaresFit`][]; `model` is its model.
    - `num_dropped`: terms switched off.
    - `held_out_loss`: root mean square of the scaled residuals of the held-out runs, by the model
        found without them (`fit` is refitted to all runs); of all runs, if an information criterion
        was the judge.
    - `discretization_error`: the part of it that is the step's, measured by halving the step.
    - `tried`: every model tried, a [`stiffrax.TriedModel`][]. With a coupled start there is a
        search, and a loss, for each of its last couplings at which predictions are good enough.

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
    tried: tuple[TriedModel, ...]

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
    held_out: Any = None,
    tolerance: float | None = None,
    criterion: Criterion = "held_out",
    substeps: int = 1,
    refine: int = 4,
    window: int = 1,
    initial_states: InitialStates = "measured",
    scale: Any = None,
    weight: Any = None,
    start: Start = "regression",
    progress: bool | None = None,
) -> PrunedFit:
    r"""Fits a model, drops the terms that the data do not need, and refits the others.

    Terms are ranked by how much dropping each, and refitting all others, would raise the objective
    in the quadratic model of the fit:

    $$\Delta_j = \theta_j^2 / (J^T J)^{-1}_{jj}$$

    As many as possible of the cheapest terms are dropped at once, and the others are refitted. The
    smaller model is accepted if its error on held-out runs stays below `tolerance` times the larger
    of the best error so far and the discretization error, which is measured by halving the step.
    Dropped terms are taken back, those with the largest gain first, if the model without them is no
    longer accepted. The terms that are left are refitted to all runs with `refine` times as many
    substeps.

    With noisy data that rule cannot judge terms. An information criterion weighs the loss of all
    `N` residuals, less one for each number of a free start, against the number `q` of terms,

    $$N \log(loss^2 + error^2) + p \, q, \qquad p = \log N \text{ (BIC)}, \; \log(N m)
    \text{ (extended BIC)}, \; 2 \text{ (AIC)},$$

    and a term stays if dropping it raises this number. The extended BIC accounts for the number `m`
    of candidates; `"significance"` is `p = 9`: a term stays if it is more than three standard
    errors from zero. Terms are also exchanged while that lowers this number. Use it with windows as
    long as the runs, free initial states and `start="coupled"`: terms are then searched at each
    coupling from 0.3 down.

    **Arguments:**

    - `model`: [`stiffrax.Polynomial`][], [`stiffrax.Library`][], [`stiffrax.ReactionNetwork`][], or
        a model that contains one.
    - `data`, `solver`, `substeps`, `window`, `initial_states`, `scale`, `weight`, `start`,
        `progress`: as for [`stiffrax.fit_least_squares`][].
    - `held_out`: the runs to judge by, as in [`stiffrax.Trajectories.split`][]; default 0.2 of them.
    - `tolerance`: how much worse a smaller model may be on them, a factor; default 3.
    - `criterion`: `"held_out"`, for clean data; `"ebic"`, `"bic"`, `"aic"` or `"significance"` for
        noisy ones, which hold no run out.
    - `refine`: factor on `substeps` in the last fit.

    **Returns:** a [`stiffrax.PrunedFit`][].

    **Raises:** `ValueError` if no run can be held out, the model has no term to drop, or `held_out` or
    `tolerance` is given with a criterion that does not read them.

    Cost: one full fit, then a few fits of ever smaller models; with a coupled start several times
    that.

    ??? cite "Reference"
        Chen and Chen, *Extended Bayesian information criteria for model selection with large model
        spaces* (2008), with `gamma = 1/2`.

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
    _check(check_data(data), held_out, tolerance, refine, criterion)
    held_out = 0.2 if held_out is None else held_out
    factor = 3.0 if tolerance is None else tolerance
    free_starts = check_options(start, initial_states, window, substeps, 1)
    check_model(model, data)
    if num_terms(model) == 0:
        raise ValueError(
            f"The model {type(model).__name__} has no term to drop; it needs a `Polynomial`, a "
            "`Library` or a `ReactionNetwork`, or to contain one. To fit it as it is, write "
            "`fit_least_squares`."
        )
    samples = WeightedSamples.of(data, scale, weight)
    parts = samples.split(held_out) if criterion == "held_out" else (samples, samples)
    residuals = WindowResiduals(SegmentStep(solver), free_starts, substeps)

    def residuals_of(part: WeightedSamples) -> _Residuals:
        count, windows = part.count(free_starts), padded_windows(part, window, free_starts)
        return _Residuals(CompressedResiduals(residuals, windows), count)

    everything, train, test = (residuals_of(part) for part in (samples, *parts))
    every = fit_start(model, train.steps, start, progress, couplings_of_search(start)[0])

    def judge(test: _Residuals) -> TermJudge:
        return TermJudge(*test, criterion, factor, num_terms(every))

    fit, tried = _search(every, train, test, judge, start, FAR * samples.size_of_states, progress)
    test, everything = (part.refined(refine) for part in (test, everything))
    final = _refit(everything, {"progress": progress}, fit.model) or fit
    last = judge(test)
    judged = final
    if criterion == "held_out":  # the last fit has seen the runs held out
        judged = _refit(train.refined(refine), {"progress": progress}, fit.model) or fit
    loss, error = last.loss(judged.model), last.discretization_error(judged.model)
    return PrunedFit(final, num_terms(every) - num_terms(final.model), loss, error, tried)


@final
class _Residuals(NamedTuple):
    steps: CompressedResiduals
    count: int

    def refined(self, factor: int) -> "_Residuals":
        substeps = factor * self.steps.residuals.substeps
        return self._replace(steps=self.steps.with_substeps(substeps))

    def coupled(self, coupling: float) -> "_Residuals":
        return self._replace(steps=self.steps.with_coupling(coupling))


def _search(
    every: Any,
    train: _Residuals,
    test: _Residuals,
    judge_by: Callable[[_Residuals], TermJudge],
    start: str,
    far: float,
    progress: bool | None,
) -> tuple[LeastSquaresFit, tuple[TriedModel, ...]]:
    model, tried = every, ()
    for coupling in couplings_of_search(start):
        options: dict[str, Any] = {"progress": progress} | (COUPLED_FIT if coupling > 0 else {})
        coupled = train.coupled(coupling)
        fit = fit_windows(model, *coupled, **options)
        judge = judge_by(test.coupled(coupling))
        # Terms are not judged by predictions that are wrong, unless there will be no better ones.
        if coupling == 0 or max(fit.loss, judge.loss(fit.model)) <= far:
            refit = ft.partial(_refit, coupled, options)
            found = TermSearch(every, coupled.steps, judge, refit, far).search(fit)
            fit, tried = found.fit, tried + found.tried
        model = fit.model
    return fit, tried


def _check(data: Trajectories, held_out: Any, tolerance: Any, refine: Any, criterion: Any) -> None:
    check_choice("prune_and_refit", "criterion", criterion, *CRITERIA)
    if criterion == "held_out" and data.num_runs < 2:
        raise ValueError(
            "`data` has one run; dropping terms is judged on runs that are held out, so that two "
            "at least are needed. Cut the run in two; if it is noisy, write "
            '`criterion="ebic", window=..., initial_states="free", start="coupled"`.'
        )
    for name, given in (("held_out", held_out), ("tolerance", tolerance)):
        if given is not None and criterion != "held_out":
            raise ValueError(
                f"`{name}={given!r}` was given with `criterion={criterion!r}`, which judges terms by "
                f"all runs and their number. Leave `{name}` out, or write `criterion='held_out'`."
            )
    if tolerance is not None and not real_numbers("tolerance", tolerance) >= 1:
        raise ValueError(f"`tolerance={tolerance!r}` was given; it needs a number of at least 1.")
    check_count("refine", refine)


def _refit(residuals: _Residuals, options: dict[str, Any], model: Any) -> LeastSquaresFit | None:
    try:
        FreeParameters(model)
    except ValueError:
        return None
    return fit_windows(model, *residuals, **options)
