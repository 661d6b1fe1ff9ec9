"""Levenberg-Marquardt on one-step residuals."""

from collections.abc import Callable
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
from ._segment_residuals import (
    CompressedResiduals,
    StepResidual,
    padded_segments,
    slope_residual,
)

# Relative to unit columns. Coefficients of a linear model enter the residuals almost linearly: the
# first step may be a Gauss-Newton step. Weights of a network want a step they can trust.
_FIRST_DAMPING_LINEAR = 1e-6
_FIRST_DAMPING = 1e-2
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
    scale: Any = None,
    start: str = "regression",
    max_steps: int = 50,
    progress: bool | None = None,
) -> LeastSquaresFit:
    r"""Fits a model to data by nonlinear least squares on one-step predictions.

    $$\min_\theta \sum_k \left| \frac{y_{k+1} - \Phi_h(y_k; \theta)}{scale} \right|^2$$

    over all pairs of consecutive samples, `Phi` being `substeps` steps of the solver. Solved by
    Levenberg-Marquardt; the Jacobian comes from reverse solves that share one factorization a
    segment, so that its cost hardly depends on the number of parameters.

    **Arguments:**

    - `model`: any equinox module called as `model(t, y, args)`. Its floating-point arrays are
      fitted, but for terms that a linear model has switched off.
    - `data`: the measured runs.
    - `solver`: the one-step method; [`stiffrax.RadauIIA9`][] by default.
    - `substeps`: steps a segment; more where the samples are far apart for the method.
    - `scale`: size of each state, in its unit; the largest absolute value in the data by default.
    - `start`: `"regression"` first fits the slopes on the data, which is a linear problem for a
      linear model; `"given"` starts from the model as it is.
    - `max_steps`: the most steps of the optimizer.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.LeastSquaresFit`][].

    **Raises:** `ValueError` if model and data have different numbers of states, a scale is not
    positive, or an option is none of those named.

    Cost: a step costs one value and `n` reverse sweeps of every segment, and a QR factorization of
    `segments n` by `parameters` in blocks.

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
    if start not in ("regression", "given"):
        raise ValueError(f'`start={start!r}` was given; write "regression" or "given".')
    if not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"`max_steps={max_steps!r}` was given; it needs a positive integer.")
    scale = checked_scale(scale, data)
    _check_model(model, data)
    if start == "regression":
        model, *_ = _levenberg_marquardt(slope_residual, model, data, scale, 30, False)
    model, losses, converged, triangle, num_failed = _levenberg_marquardt(
        StepResidual(solver, substeps), model, data, scale, max_steps, progress
    )
    return LeastSquaresFit(
        model=model,
        loss=losses[-1],
        losses=tuple(losses),
        converged=converged,
        num_failed=num_failed,
        standard_errors=_standard_errors(model, triangle, _count(data)),
        triangle=triangle,
    )


def checked_scale(scale: Any, data: Trajectories) -> Float[Array, " n"]:
    """The size of each state: the one given, or its largest absolute value in the data."""
    if scale is None:
        scale = np.max(np.abs(np.where(data.mask[..., None], data.ys, 0)), axis=(0, 1))
        scale = np.where(scale > 0, scale, 1.0)
    scale = np.asarray(scale, float)
    if scale.shape not in ((), (data.num_states,)) or not np.all(scale > 0):
        raise ValueError(
            f"`scale={scale}` was given; it needs one positive size for each of the "
            f"{data.num_states} states, or one for all. Leave it out to take it from the data."
        )
    return jnp.asarray(np.broadcast_to(scale, (data.num_states,)))


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


def _count(data: Trajectories) -> int:
    return int(np.sum(data.segments().mask)) * data.num_states


def _standard_errors(model: Any, triangle: np.ndarray, count: int) -> Any:
    """Square roots of the diagonal of sigma^2 (J^T J)^-1."""
    free = FreeParameters(model)
    C, c = triangle[:-1, free.index], triangle[:, -1]
    variance = np.sum(c**2) / max(count - len(free.index), 1)
    errors = np.zeros(len(c) - 1)
    errors[free.index] = np.sqrt(variance * np.sum(np.linalg.pinv(C) ** 2, axis=1))
    return free.model(jnp.asarray(errors))


def _levenberg_marquardt(
    residual: Callable,
    model: Any,
    data: Trajectories,
    scale: Float[Array, " n"],
    max_steps: int,
    progress: bool | None,
) -> tuple[Any, list[float], bool, np.ndarray, int]:
    free = FreeParameters(model)
    residuals = CompressedResiduals(residual, padded_segments(data), scale)
    R, failures = residuals.triangle(model)
    size = jnp.linalg.norm(R[:, :-1], axis=0)
    size = jnp.where(size > 0, size, 1.0)
    weight = 1 / np.sqrt(_FIRST_DAMPING_LINEAR if np.all(free.droppable) else _FIRST_DAMPING)
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
            losses.append(float(jnp.linalg.norm(R[:, -1])) / _count(data) ** 0.5)
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
    return free.model(x / size), losses, converged, np.asarray(best), int(num_failed)


@eqx.filter_jit
def _optimizer_step(solver: Any, x: Array, R: Array, state: Any) -> tuple[Array, Any]:
    return solver.step(_expansion, x, R, {}, state, frozenset())[:2]


def _expansion(x: Array, R: Array) -> tuple[Array, None]:
    """Residuals `(c, rho)` with the derivative `(C, 0)`, at the one point where `R` was taken.

    The optimizer evaluates its function once a step, at a point known before: what is expensive is
    done outside it, is compiled once, and may print progress in between.
    """
    return R[:, -1] + R[:, :-1] @ (x - lax.stop_gradient(x)), None
