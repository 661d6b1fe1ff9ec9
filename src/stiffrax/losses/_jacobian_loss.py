"""The error of a model's Jacobians."""

from typing import Any, ClassVar, final

import diffrax
import jax
import jax.numpy as jnp
import paramax
from jaxtyping import Array

from .._arguments import check_count, real_numbers
from ..data import Trajectories
from ..solvers import FixedStepFlow, predict_lanes
from ._loss import AbstractLoss, LossValue, check_parts
from ._model_and_data import check_data, check_model


@final
class JacobianLoss(AbstractLoss):
    r"""The mean square error of the entries of the Jacobians at the samples.

    $$\frac{1}{N n^2} \sum_k |\nabla f_\theta(t_k, y_k) - J_k|_F^2$$

    Added to another loss, `SegmentLoss() + 0.1 * JacobianLoss(J)`: data on an attractor say little
    about directions off it, and those decide the contracting Lyapunov exponents.

    **Arguments:**

    - `jacobians`: `J` at the samples, known or from
        [`stiffrax.diagnostics.estimate_jacobians`][]; NaN where there is none,
        `Float[Array, "runs times n n"]`, per unit of time.
    - `flow_solver`: with it, `jacobians` are derivatives of the flow from each sample to the next,
        and those of the model are taken with this solver.
    - `substeps`: equal steps for each segment, with `flow_solver`.

    **Raises:** `ValueError` for Jacobians whose shape does not fit the data, and `substeps` without a
    `flow_solver`.

    Cost: `n` jvps of the model (of `substeps` steps) for each sample; once more, without
    derivatives, to find what is not finite.

    ??? cite "Reference"
        Park, Yang and Chandramoorthy, *When are dynamical systems learned from time series data
        statistically accurate?*, NeurIPS 37 (2024).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss = srx.JacobianLoss(np.full((1, 5, 1, 1), -1.0))
    >>> print(loss(lambda t, y, args: -3 * y, data))
    4.0

    ```
    """

    jacobians: Array
    flow_solver: diffrax.AbstractSolver | None
    substeps: int
    is_of_one_data_set: ClassVar[bool] = True

    def __init__(
        self,
        jacobians: Any,
        *,
        flow_solver: diffrax.AbstractSolver | None = None,
        substeps: int = 1,
    ):
        self.jacobians = jnp.asarray(real_numbers("jacobians", jacobians))
        self.substeps = check_count("substeps", substeps)
        if flow_solver is not None:
            check_parts(solver=flow_solver)
        elif self.substeps != 1:
            raise ValueError(
                f"`substeps={substeps!r}` was given without a `flow_solver`, whose steps they are. "
                "Write `flow_solver=srx.RadauIIA5()` beside it."
            )
        self.flow_solver = flow_solver

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, and the number of Jacobians of the model that are not finite."""
        check_model(model, check_data(data))
        expected = (*data.ys.shape, data.num_states)
        if self.jacobians.shape != expected:
            raise ValueError(
                f"`jacobians` of shape {self.jacobians.shape} were given for data that need "
                f"(runs, times, n, n) = {expected}: one for each sample, NaN where there is none; "
                "leave `batch_size`, `held_out` and `mesh` out."
            )
        ts, ys, mask = data.arrays
        ends = jnp.concatenate([ts[:, 1:], ts[:, -1:]], axis=1)
        known = mask & jnp.all(jnp.isfinite(self.jacobians), axis=(-2, -1))
        if self.flow_solver is not None:
            known = known & jnp.append(mask[:, 1:], jnp.zeros_like(mask[:, :1]), axis=1)

        model = paramax.unwrap(model)

        def jacobian(t: Array, end: Array, y: Array, known: Array) -> Array:
            if self.flow_solver is None:
                return jax.jacfwd(lambda y: model(t, y, None))(y)
            # Where there is no segment, some step is solved that no one looks at.
            length = jnp.where(known, end - t, ts[0, 1] - ts[0, 0])
            flow = FixedStepFlow(model, self.flow_solver, length, self.substeps)

            def twice(y: Array) -> tuple[Array, Array]:
                y1 = flow(t, y)
                return y1, y1

            flow_jacobian, y1 = jax.jacfwd(twice, has_aux=True)(y)
            # The end of a step that failed is a constant, NaN, whose derivative is zero.
            return jnp.where(jnp.all(jnp.isfinite(y1)), flow_jacobian, jnp.nan)

        samples = [x.reshape(-1, *x.shape[2:]) for x in (ts, ends, ys, known)]
        jacobians = predict_lanes(jacobian, *samples, solver=self.flow_solver).reshape(expected)
        target = jnp.asarray(self.jacobians, ys.dtype)
        finite = jnp.all(jnp.isfinite(jacobians), axis=(-2, -1))
        usable = (finite & known)[..., None, None]
        error = jnp.where(usable, jacobians - jnp.where(usable, target, 0), 0)
        solved = jnp.sum(finite & known)
        count = jnp.maximum(solved * data.num_states**2, 1).astype(error.dtype)
        return LossValue(jnp.sum(error**2) / count, jnp.sum(known & ~finite), solved)
