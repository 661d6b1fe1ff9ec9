"""Levenberg-Marquardt on predictions from sample to sample."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array, Float

from ..data import Trajectories
from ..solvers import RadauIIA9
from ._free_parameters import FreeParameters
from ._progress import progress_bar
from ._sample_weights import checked_scale, checked_weight
from ._sample_windows import padded_windows
from ._window_residuals import CompressedResiduals, SegmentStep, mean_slope_step

# Relative to unit columns. Coefficients of a linear model enter the residuals almost linearly: the
# first step may be a Gauss-Newton step. Weights of a network want a step they can trust.
_FIRST_DAMPING_LINEAR = 1e-6
_FIRST_DAMPING = 1e-2
_HOLDING_BACK = 1e-3
# How much better than a cautious start a bold one must be.
_CAUTION = 0.1
# Of a linear model at the end, relative to unit columns; and the loss that a step must reach.
_LAST_DAMPING = 1e-10
_LAST_GAIN = 0.7
# A fit has converged once a step gains less than this part of the loss.
_SMALLEST_GAIN = 1e-4


@final
class LeastSquaresFit(eqx.Module):
    """What [`stiffrax.fit_least_squares`][] found.

    **Attributes:**

    - `model`: the fitted model.
    - `loss`: root mean square of the scaled residuals.
    - `losses`: the loss before and after each step of the optimizer.
    - `converged`: whether the last step gained next to nothing, rather than being the last allowed.
    - `num_failed`: segments whose step could not be solved at the solution.
    - `standard_errors`: of the free parameters, a model-shaped tree (zero where nothing is free).
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
    converged: bool
    num_failed: int
    standard_errors: Any
    triangle: Float[np.ndarray, "q q"]

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return f"LeastSquaresFit(loss={self.loss:.3e}, {len(self.losses) - 1} steps, {state})"


def fit_least_squares(
    model: Any,
    data: Trajectories,
    solver: diffrax.AbstractSolver | None = None,
    *,
    substeps: int = 1,
    window: int = 1,
    initial_states: str = "measured",
    scale: Any = None,
    weight: Any = None,
    start: str = "regression",
    max_steps: int = 50,
    progress: bool | None = None,
) -> LeastSquaresFit:
    r"""Fits a model to data by nonlinear least squares on predictions from sample to sample.

    $$\min_\theta \sum_{k, i} w_{ki} \left( \frac{y_{k+1, i} - \Phi_h(y_k; \theta)_i}{scale_i}
    \right)^2$$

    over all pairs of consecutive samples, `Phi` being `substeps` steps of the solver. Solved by
    Levenberg-Marquardt; the Jacobian comes from reverse solves that share one factorization a
    segment, so that its cost hardly depends on the number of parameters.

    One-step predictions start at samples and take over their noise. With `window=m`, every `m`-th
    sample is a start, and the `m` samples after it are predicted in turn, each from the prediction
    before. With `initial_states="free"` the state at the start of each window is fitted as well
    (multiple shooting): then all samples are treated alike, and noise of the size that the weights
    say biases nothing.

    **Arguments:**

    - `model`: any equinox module called as `model(t, y, args)`. Its floating-point arrays are
      fitted, but for terms that a linear model has switched off.
    - `data`: the measured runs.
    - `solver`: the one-step method; [`stiffrax.RadauIIA9`][] by default.
    - `substeps`: steps a segment; more where the samples are far apart for the method.
    - `window`: segments predicted from one start.
    - `initial_states`: `"measured"`: windows start at their first sample; `"free"`: where their
        samples fit best, for windows of two segments or more.
    - `scale`: size of each state, in its unit; the largest absolute value in the data by default.
    - `weight`: `w`, one number a state, or one for each sample and state, shaped like `data.ys`, or
        a function `weight(t, y)` of a sample that returns them; one over the variance of its noise.
        A sample of weight zero is not fitted.
    - `start`: `"regression"` first fits the slopes on the data, which is a linear problem for a
      linear model, and starts from there unless the model as it is predicts better; `"given"`
      starts from the model as it is.
    - `max_steps`: the most steps of the optimizer.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.LeastSquaresFit`][].

    **Raises:** `ValueError` if model and data have different numbers of states, a scale is not
    positive, weights are negative, or an option is none of those named.

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
    free_starts = _check_options(start, initial_states, window, substeps, max_steps)
    weight = checked_weight(weight, data)
    windows = padded_windows(data, checked_scale(scale, data), weight, window, free_starts)
    _check_model(model, data)
    steps = CompressedResiduals(SegmentStep(solver, substeps), windows, free_starts)
    if start == "regression":
        slopes = CompressedResiduals(mean_slope_step, windows, free_starts)
        model = _best_start(model, slopes, steps)
    count = count_residuals(weight, free_starts)
    model, losses, converged, triangle, num_failed = _levenberg_marquardt(
        steps, model, max_steps, count, progress
    )
    num_starts = int(jnp.sum(windows.mask[..., 1])) * data.num_states if free_starts else 0
    return LeastSquaresFit(
        model=model,
        loss=losses[-1],
        losses=tuple(losses),
        converged=converged,
        num_failed=num_failed,
        standard_errors=_standard_errors(model, triangle, count - num_starts),
        triangle=triangle,
    )


def _best_start(model: Any, slopes: CompressedResiduals, steps: CompressedResiduals) -> Any:
    """The fit of the slopes, as it is or held back, or the model given: what predicts best.

    Where samples are few or far apart, the slopes between them can be fitted by coefficients of any
    size, and the held-back fit, or no fit at all, is the better start.
    """
    fitted, *_ = _levenberg_marquardt(slopes, model, 30, 1, False, polish=False)
    held_back, *_ = _levenberg_marquardt(
        slopes, model, 1, 1, False, damping=_HOLDING_BACK, polish=False
    )
    losses = [_norm(steps.triangle(start)[0]) for start in (fitted, held_back, model)]
    if losses[0] < _CAUTION * min(losses[1:]):
        return fitted
    return held_back if losses[1] < losses[2] else model


def _norm(R: Array) -> float:
    """The norm of all residuals, or infinity."""
    norm = float(jnp.linalg.norm(R[:, -1]))
    return norm if np.isfinite(norm) else np.inf


def _check_options(
    start: str, initial_states: str, window: Any, substeps: Any, max_steps: Any
) -> bool:
    """Whether the initial states are free, if all options are such as there are."""
    if start not in ("regression", "given"):
        raise ValueError(f'`start={start!r}` was given; write "regression" or "given".')
    if initial_states not in ("measured", "free"):
        raise ValueError(
            f'`initial_states={initial_states!r}` was given; write "measured" or "free".'
        )
    for name, value in (("max_steps", max_steps), ("window", window), ("substeps", substeps)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}={value!r}` was given; it needs a positive integer.")
    if initial_states == "free" and window == 1:
        raise ValueError(
            "`initial_states='free'` was given with `window=1`; a single segment is fitted by its "
            "initial state alone. Write for example `window=8`."
        )
    return initial_states == "free"


def count_residuals(weight: np.ndarray, free_starts: bool) -> int:
    """How many numbers are fitted: all samples but the first of a run, or all of them."""
    return int(np.sum((weight if free_starts else weight[:, 1:]) > 0))


def _check_model(model: Any, data: Trajectories) -> None:
    y = jax.ShapeDtypeStruct((data.num_states,), jnp.zeros(()).dtype)
    try:
        out = eqx.filter_eval_shape(model, jnp.zeros(()), y, None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The model cannot be called as `model(t, y, args)` with `y` of shape {y.shape}, the "
            f"{data.num_states} states of the data: {error}"
        ) from error
    if getattr(out, "shape", None) != y.shape:
        raise ValueError(
            f"The model returns {out} for `y` of shape {y.shape}; it must return one derivative "
            f"for each of the {data.num_states} states of the data."
        )


def _standard_errors(model: Any, triangle: np.ndarray, count: int) -> Any:
    """Square roots of the diagonal of sigma^2 (J^T J)^-1."""
    free = FreeParameters(model)
    C, c = triangle[:-1, free.index], triangle[:, -1]
    variance = np.sum(c**2) / max(count - len(free.index), 1)
    errors = np.zeros(len(c) - 1)
    errors[free.index] = np.sqrt(variance * np.sum(np.linalg.pinv(C) ** 2, axis=1))
    return free.model(jnp.asarray(errors))


def _levenberg_marquardt(
    residuals: CompressedResiduals,
    model: Any,
    max_steps: int,
    count: int,
    progress: bool | None,
    damping: float | None = None,
    polish: bool = True,
) -> tuple[Any, list[float], bool, np.ndarray, int]:
    free = FreeParameters(model)
    R, failures = residuals.triangle(model)
    size = jnp.linalg.norm(R[:, :-1], axis=0)
    size = jnp.where(size > 0, size, 1.0)
    if damping is None:
        damping = _FIRST_DAMPING_LINEAR if np.all(free.droppable) else _FIRST_DAMPING
    weight = 1 / np.sqrt(damping)
    normal = lx.Normal(lx.Cholesky())
    solver = optx.LevenbergMarquardt(rtol=1e-10, atol=1e-10, linear_solver=normal)

    x, unit = free.values * size, jnp.append(size, 1.0)
    struct = jax.eval_shape(lambda: R[:, -1])
    state = solver.init(_expansion, x, R, {}, struct, None, frozenset())
    bar = progress_bar(progress, max_steps, "least squares")
    best, num_failed = R, failures
    losses: list[float] = []
    converged = False
    for k in range(max_steps + 1):
        if k > 0:
            R, failures = residuals.triangle(free.model(state.y_eval / size))
        accepted = state.num_accepted_steps
        x, state = _optimizer_step(solver, x, weight * R / unit, state)
        bar.update()
        if state.num_accepted_steps > accepted:
            best, num_failed = R, failures
            losses.append(float(jnp.linalg.norm(R[:, -1])) / count**0.5)
            bar.set_postfix_str(f"loss {losses[-1]:.3e}")
            gain = 1 - losses[-1] / losses[-2] if len(losses) > 1 else 1.0
            converged = bool(gain < _SMALLEST_GAIN or losses[-1] == 0)
        else:
            # A dozen rejections have raised the damping beyond any step worth taking.
            converged = int(state.num_steps_since_acceptance) > 12
        if converged or bool(state.terminate):
            converged = True
            break
    bar.close()
    x = x / size
    if polish and converged and np.all(free.droppable):
        x, best, num_failed = _polished(residuals, free, x)
        losses.append(_norm(best) / count**0.5)
    return free.model(x), losses, converged, np.asarray(best), int(num_failed)


def _polished(
    residuals: CompressedResiduals, free: FreeParameters, x: Array
) -> tuple[Array, Array, Any]:
    """Gauss-Newton steps with an accurate factor, for as long as they gain much.

    Terms that hardly differ on the data make the squares of the fit too coarse for its last digits.
    """
    R, failures = residuals.triangle(free.model(x), 2)
    while True:
        C, c = np.asarray(R[:, free.index]), np.asarray(R[:, -1])
        size = np.linalg.norm(C, axis=0)
        size = np.where(size > 0, size, 1.0)
        C = np.concatenate([C / size, _LAST_DAMPING * np.eye(len(size))])
        step = np.linalg.lstsq(C, np.append(-c, np.zeros(len(size))), rcond=None)[0] / size
        new = x.at[free.index].add(step)
        trial, new_failures = residuals.triangle(free.model(new), 2)
        if not _norm(trial) < _LAST_GAIN * _norm(R):
            return (new, trial, new_failures) if _norm(trial) < _norm(R) else (x, R, failures)
        x, R, failures = new, trial, new_failures


@eqx.filter_jit
def _optimizer_step(solver: Any, x: Array, R: Array, state: Any) -> tuple[Array, Any]:
    return solver.step(_expansion, x, R, {}, state, frozenset())[:2]


def _expansion(x: Array, R: Array) -> tuple[Array, None]:
    """Residuals `(c, rho)` with the derivative `(C, 0)`, at the one point where `R` was taken.

    The optimizer evaluates its function once a step, at a point known before: what is expensive is
    done outside it, is compiled once, and may print progress in between.
    """
    return R[:, -1] + R[:, :-1] @ (x - lax.stop_gradient(x)), None
