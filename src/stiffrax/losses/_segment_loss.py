"""The error of predictions by fixed steps from sample to sample."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import check_count
from ..data import Trajectories, cut_windows
from ..solvers import (
    AbstractImplicitRungeKutta,
    RadauIIA9,
    predict_healthy,
    predict_lanes,
    predict_segment,
    scan_window,
)
from ._error_measures import AbstractErrorMeasure, ScaledMSE, finite_samples
from ._loss import AbstractLoss, LossValue, check_parts
from ._model_and_data import check_data, check_model


@final
class SegmentLoss(AbstractLoss):
    r"""The error of one-step predictions: `substeps` fixed steps from each sample to the next.

    $$\frac{1}{N} \sum_{k, i} w_{ki}
    \rho\left(\frac{\Phi_h(y_k)_i - y_{k+1, i}}{scale_i}\right), \qquad h = t_{k+1} - t_k$$

    All segments of all runs are one batch, and no step depends on another. With `window=m`, every
    `m`-th sample is a start, and the `m` samples after it are predicted in turn, each from the
    prediction before: this averages the noise of single samples.

    **Arguments:**

    - `solver`: the method; [`stiffrax.RadauIIA9`][] by default: nothing controls the error of a step.
    - `measure`: $\rho$, scale and weights; [`stiffrax.ScaledMSE`][] by default.
    - `substeps`: equal steps for each segment.
    - `window`: segments predicted from one start.

    **Raises:** `ValueError` for counts below one.

    Cost: that of [`stiffrax.segment_predictions`][], whatever the window, but in `window` rounds;
    twice with solvers of other packages.

    ??? cite "Reference"
        Fronk and Petzold, *Training stiff neural ordinary differential equations with implicit
        single-step methods*, Chaos 34, 123140 (2024).

    ```python
    >>> import equinox as eqx, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 11)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss = srx.SegmentLoss(srx.RadauIIA5())
    >>> model = srx.Polynomial(1, degree=1, coefficients=[[0.0, -0.5]])
    >>> value, gradient = eqx.filter_value_and_grad(loss)(model, data)
    >>> bool(gradient.coefficients[0, 1] > 0)
    True

    ```
    """

    solver: diffrax.AbstractSolver
    measure: AbstractErrorMeasure
    substeps: int
    _window: int

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        measure: AbstractErrorMeasure | None = None,
        *,
        substeps: int = 1,
        window: int = 1,
    ):
        self.solver = RadauIIA9() if solver is None else solver
        self.measure = ScaledMSE() if measure is None else measure
        check_parts(solver=self.solver, measure=self.measure)
        self.substeps = check_count("substeps", substeps)
        self._window = check_count("window", window)

    @property
    def window(self) -> int:
        """Segments predicted from one start."""
        return self._window

    def for_data(self, data: Trajectories) -> "SegmentLoss":
        """This loss with a scale: its own, or the one measured on the data."""
        return eqx.tree_at(lambda loss: loss.measure, self, self.measure.for_data(data))

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, the number of segments whose steps could not be solved, and of those solved."""
        check_model(model, check_data(data))
        measure = self.measure.for_data(data)
        windows = cut_windows(data, self.window)
        ts, ys, mask = windows.arrays
        predicted = self._predict_all(model, ts, ys, mask)
        solved = finite_samples(predicted)
        value = measure(predicted, ts[:, 1:], ys[:, 1:], mask[:, 1:])
        return LossValue(value, jnp.sum(mask[:, 1:] & ~solved), jnp.sum(mask[:, 1:] & solved))

    def first_failure(self, model: Any, data: Trajectories) -> str:
        """The first segment whose steps cannot be solved, and why."""
        windows = cut_windows(data, self.window)
        ts, ys, mask = windows.arrays
        predicted = jax.vmap(lambda *run: self._predict(model, *run))(ts, ys, mask)
        failed = np.argwhere(np.asarray(mask[:, 1:] & ~finite_samples(predicted)))
        if not len(failed):
            return ""
        run, k = failed[0]
        return failed_step(model, ts[run, k], ts[run, k + 1], ys[run, k], ys[run, k + 1])

    def _predict_all(self, model: Any, ts: Array, ys: Array, mask: Array) -> Array:

        def predict(*window: Array) -> Array:
            return self._predict(model, *window)

        if self.window == 1 or isinstance(self.solver, AbstractImplicitRungeKutta):
            return predict_lanes(predict, ts, ys, mask, solver=self.solver)
        # The samples before the one that cannot be predicted keep value and derivative.
        once = lax.stop_gradient(jax.vmap(predict)(ts, ys, mask))
        reached = lax.cummin((finite_samples(once) | ~mask[:, 1:]).astype(int), axis=1) > 0
        lanes = ts, ys, mask.at[:, 1:].set(mask[:, 1:] & reached)
        # What is missing stands for the first segment once more: that one must be healthy.
        failed = ~finite_samples(once)[:, 0]
        again = predict_healthy(predict, failed, lanes, once)
        return jnp.where(reached[..., None], again, once)

    def _predict(
        self,
        model: Any,
        ts: Float[Array, " times"],
        ys: Float[Array, "times n"],
        mask: Bool[Array, " times"],
    ) -> Float[Array, "times-1 n"]:
        model = paramax.unwrap(model)

        def predict(y: Array, samples: Any, _: None) -> tuple[Array, Array]:
            ta, tb, _ya, yb = samples
            y = predict_segment(self.solver, model, None, self.substeps, ta, tb, y, yb)
            return y, y

        return scan_window(predict, ys[0], ts, ys, mask)


def failed_step(model: Any, ta: Any, tb: Any, ya: Any, yb: Any) -> str:
    """Why the step from sample `ya` at `ta` to sample `yb` at `tb` could not be solved.

    Found afterwards, by calling the model at both samples: steps report no cause, so that solved ones
    pay nothing for it.
    """
    model = paramax.unwrap(model)
    where = f"the step from t = {float(ta):.6g} to {float(tb):.6g}"
    for t, y in ((ta, ya), (tb, yb)):
        if not np.all(np.isfinite(np.asarray(model(jnp.asarray(t), jnp.asarray(y), None)))):
            return f"{where}: the model is not finite at t = {float(t):.6g}, y = {np.asarray(y)}"
    return f"{where}: its equations were not solved, or the solution left the range of numbers"
