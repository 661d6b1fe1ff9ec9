"""Levenberg-Marquardt on predictions from sample to sample."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import check_choice, check_count
from .._options import InitialStates, Start
from ..data import Trajectories
from ..losses import check_data, check_model
from ..models import Parameter, is_fixed
from ..solvers import RadauIIA9
from ._compressed_residuals import CompressedResiduals, sample_noise
from ._fit_start import STARTS, fit_start
from ._levenberg_marquardt import LARGEST_GRADIENT, Minimum, levenberg_marquardt
from ._parameter_errors import unknown_parameters
from ._parameter_vector import FreeParameters
from ._weighted_samples import WeightedSamples, padded_windows
from ._window_residuals import SegmentStep, WindowResiduals

# Units of rounding, compared with columns of size one, below which a direction of the parameters is
# not told by the residuals.
# (Of parameters told apart by nothing rounding leaves less than one unit. Of a direction of 20 units,
# of y and y^2 of samples that differ little, single precision finds 60; of one of 500 it finds 490.)
_TOLD = 1e2
# Units of rounding of the samples that no start can remove. Chosen, not measured.
_ROUNDING_OF_STARTS = 1e3


@final
class LeastSquaresFit(eqx.Module):
    """What [`stiffrax.fit_least_squares`][] found.

    **Attributes:**

    - `model`: the fitted model.
    - `loss`: root mean square of the weighted residuals; infinite if a segment could not be solved.
    - `losses`: the loss before and after each step of the optimizer.
    - `stopped`: why the fit ended. `"converged"`: everything was solved, and `gradient` is at most
        1e-4. `"failures"`: so it is, but of the segments that could be solved only. `"stalled"`: five
        steps together gained less than 1e-4 of the sum of squares, or no step is small enough to gain
        anything, though the gradient is larger, or a parameter has lost all influence, or a free start
        was not found. `"steps"`:
        `max_steps` were taken. `"not finite"`: residuals or derivatives overflowed.
    - `gradient`: the part of the residuals that the parameters can still remove, to first order, from
        0 to 1: their projection onto the columns of the Jacobian over their norm.
    - `num_failed`: segments whose step could not be solved at the solution.
    - `failure`: the first of them, and why it failed; empty if there is none.
    - `num_residuals`: how many numbers are fitted.
    - `standard_errors`: of the free parameters, a model-shaped tree (zero where nothing is free; known
        parts and plain numbers stay what they are), of the natural logarithm on a logarithmic scale,
        and as without bounds, also of a number that ends at one; infinite where the samples do not
        determine one, and all of them where no more numbers are fitted than there are parameters,
        whose residuals say nothing of the noise; NaN if a segment could not be solved. They hold for
        independent noise of all samples, starts included, of the sizes that weights or scale tell but
        for a factor; a bias, as measured starts make one, they do not see.
    - `triangle`: the triangular factor of the residuals' Jacobian with respect to them.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> fit = srx.fit_least_squares(srx.Polynomial(1, degree=1), data)
    >>> isinstance(fit, srx.LeastSquaresFit) and fit.num_failed
    0

    ```
    """

    model: Any
    loss: float
    losses: tuple[float, ...]
    stopped: str
    gradient: float
    num_failed: int
    failure: str
    num_residuals: int
    standard_errors: Any
    triangle: Float[np.ndarray, "q q"]

    @property
    def converged(self) -> bool:
        """Whether the fit ended at a minimum with every segment solved."""
        return self.stopped == "converged"

    def __repr__(self) -> str:
        failed = f", {self.num_failed} segments failed" if self.num_failed else ""
        steps = len(self.losses) - 1
        return (
            f"LeastSquaresFit(loss={self.loss:.3e}, {steps} steps, stopped by {self.stopped!r}, "
            f"gradient={self.gradient:.1e}{failed})"
        )


def fit_least_squares(
    model: Any,
    data: Trajectories,
    solver: diffrax.AbstractSolver | None = None,
    *,
    substeps: int = 1,
    window: int = 1,
    initial_states: InitialStates = "measured",
    scale: Any = None,
    weight: Any = None,
    start: Start = "regression",
    max_steps: int = 50,
    progress: bool | None = None,
) -> LeastSquaresFit:
    r"""Fits a model to data by nonlinear least squares on predictions from sample to sample.

    $$\min_\theta \sum_{k, i} w_{ki} \left( \frac{y_{k+1, i} - \Phi_h(y_k; \theta)_i}{scale_i}
    \right)^2$$

    over all pairs of consecutive samples, `Phi` being `substeps` steps of the solver. Solved by
    Levenberg-Marquardt; the Jacobian comes from reverse solves that share one factorization a
    segment, so that its cost hardly depends on the number of parameters.

    One-step predictions start at samples and inherit their noise. With `window=m`, every `m`-th
    sample is a start, and the `m` samples after it are predicted in turn, each from the prediction
    before. With `initial_states="free"` the state at the start of each window is fitted as well
    (multiple shooting): then all samples are treated alike, and noise of the size that the weights
    give does not bias the fit.

    **Arguments:**

    - `model`: any equinox module called as `model(t, y, args)`. Its floating-point arrays are
      fitted, but for terms that a linear model has switched off.
    - `data`: the measured runs.
    - `solver`: the one-step method; [`stiffrax.RadauIIA9`][] by default.
    - `substeps`: steps a segment; more where the samples are far apart for the method.
    - `window`: segments predicted from one start.
    - `initial_states`: `"measured"`, or `"free"` for windows of two segments or more.
    - `scale`: size of each state, in its unit. By default the range in the data, and one where
        weights are given: these are then in the units of the states.
    - `weight`: `w`, one number a state, or one for each sample and state, shaped like `data.ys`, or
        a function `weight(t, y)` of a sample that returns them. For noise of standard deviation `s`
        write `weight=1 / s**2` and no `scale`. A sample of weight zero is left out; one of which some
        states alone have it is predicted, and starts no prediction from a measured start. Where such a
        value is needed as a guess, it lies between those of the run that count.
    - `start`: `"regression"` first fits the slopes on the data, which is a linear problem for a
      linear model, and starts from there unless the model as it is predicts better; `"given"` starts
      from the model as it is; `"coupled"`, for noisy data and long windows, couples the predictions
      to the samples and anneals the coupling from one to zero.
    - `max_steps`: the most steps of the optimizer.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.LeastSquaresFit`][].

    **Raises:** `ValueError` if model and data have different numbers of states, a scale is not
    positive, weights are negative, a prediction would start where the weight of a state is zero, or
    an option is none of those named.

    Cost: a step costs one value and `n` reverse sweeps of every segment, and the products of
    `segments n` rows with as many columns as parameters. Free initial states take four times that.

    ```python
    >>> import jax, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 20)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None])
    >>> fit = srx.fit_least_squares(srx.Polynomial(1, degree=1), data)
    >>> print(np.round(np.asarray(fit.model.coefficients), 3) + 0.0)
    [[ 0. -3.]]

    ```
    """
    solver = RadauIIA9() if solver is None else solver
    free_starts = check_options(start, initial_states, window, substeps, max_steps)
    check_model(model, check_data(data))
    samples = WeightedSamples.of(data, scale, weight)
    count = samples.count(free_starts)
    windows = padded_windows(samples, window, free_starts)
    residuals = WindowResiduals(SegmentStep(solver), free_starts, substeps)
    steps = CompressedResiduals(residuals, windows)
    model = fit_start(model, steps, start, progress)
    return fit_windows(model, steps, count, max_steps, progress)


def fit_windows(
    model: Any,
    steps: CompressedResiduals,
    count: int,
    max_steps: int = 50,
    progress: bool | None = None,
    damping: float | None = None,
) -> LeastSquaresFit:
    """The fit to windows of samples, from the model given; `count` numbers are fitted."""
    found = levenberg_marquardt(
        steps, model, max_steps, progress=progress, count=count, damping=damping
    )
    losses = tuple(misfit.finite_norm / count**0.5 for misfit in found.misfits)
    num_failed = found.misfits[-1].num_failed
    standard_errors, starts_found = _standard_errors(steps, found, count - steps.num_free_starts)
    stopped = found.stopped if starts_found or found.stopped != "converged" else "stalled"
    return LeastSquaresFit(
        model=found.model,
        loss=losses[-1],
        losses=losses,
        stopped=stopped,
        gradient=found.gradient,
        num_failed=num_failed,
        failure=steps.first_failure(found.model) if num_failed else "",
        num_residuals=count,
        standard_errors=standard_errors,
        triangle=found.triangle,
    )


def _is_wrapped(node: Any) -> bool:
    return isinstance(node, Parameter) or is_fixed(node)


def _as_errors(node: Any) -> Any:
    """An error is no value within bounds, and that of what is fixed is zero."""
    if isinstance(node, Parameter):
        return node.raw
    return jax.tree.map(_zero, node.tree) if is_fixed(node) else node


def _zero(x: Any) -> Any:
    return jnp.zeros_like(x) if eqx.is_inexact_array(x) else x


def check_options(
    start: str, initial_states: str, window: Any, substeps: Any, max_steps: Any
) -> bool:
    """Whether the initial states are free, if all options are such as there are."""
    check_choice("fit_least_squares", "start", start, *STARTS)
    check_choice("fit_least_squares", "initial_states", initial_states, "measured", "free")
    for name, value in (("max_steps", max_steps), ("window", window), ("substeps", substeps)):
        check_count(name, value)
    if initial_states == "free" and window == 1:
        raise ValueError(
            "`initial_states='free'` was given with `window=1`; a single segment is fitted by its "
            "initial state alone. Write for example `window=8`."
        )
    if start == "coupled" and window == 1:
        raise ValueError(
            "`start='coupled'` was given with `window=1`; a single segment starts from its sample "
            "anyway. Write for example `window=8`."
        )
    return initial_states == "free"


def _standard_errors(steps: CompressedResiduals, found: Minimum, count: int) -> tuple[Any, bool]:
    r"""Of the free parameters, and whether the free starts were found.

    $\sigma^2 (J^T J)^{-1} J^T \Sigma J (J^T J)^{-1}$, which is $\sigma^2 (J^T J)^{-1}$ where the
    noise of each sample is in one residual alone; infinite without an inverse.
    """
    model, free = found.model, FreeParameters(found.model)
    # By one pass two parameters of which the residuals tell the sum alone look well known.
    R, _ = steps.triangle(model, passes=2)
    C, norm = R[:-1, free.index].astype(float), float(np.linalg.norm(R[:, -1]))
    size = np.linalg.norm(C, axis=0)
    size = np.where(size > 0, size, 1.0)
    errors, spread, starts_found = np.zeros(len(R) - 1), np.full(len(size), np.nan), True
    if np.all(np.isfinite(C)) and found.misfits[-1].num_failed == 0:
        eps = steps.eps(model)
        _, values, modes = np.linalg.svd(C / size, full_matrices=False)
        values = np.where(values > _TOLD * eps, values, 0.0)
        by_mode = modes.T / np.where(values > 0, values, np.inf)
        combinations = np.zeros((len(errors), len(values)))
        combinations[free.index] = by_mode / size[:, None]
        noise = sample_noise(steps, model, combinations)
        smallest = max(LARGEST_GRADIENT * norm, _ROUNDING_OF_STARTS * eps * steps.size)
        starts_found = noise.removable <= smallest
        left = noise.variance - np.trace(noise.scatter)
        tells = count > len(free.index) and left > 0
        variance = norm**2 / left if tells else 0.0
        spread = np.sqrt(variance * np.sum((by_mode @ noise.scatter) * by_mode, axis=1))
        spread = np.where(unknown_parameters(modes, values) | (not tells), np.inf, spread)
    errors[free.index] = spread / size
    tree = jax.tree.map(_as_errors, free.model(jnp.asarray(errors)), is_leaf=_is_wrapped)
    return tree, starts_found
