"""Errors of whole adaptive solves of the runs."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import check_count, check_shapes
from .._trees import is_none
from ..adjoints import default_adjoint
from ..data import Trajectories, cut_windows, default_scale
from ..solvers import RadauIIA5
from ._error_measures import AbstractErrorMeasure, ScaledMSE
from ._loss import AbstractLoss, LossValue, check_parts, loss_tolerances
from ._model_and_data import check_data, check_model
from ._solve_runs import solve_runs, value_of_runs


@final
class TrajectoryLoss(AbstractLoss):
    r"""The error along adaptive solves, from the first sample of each run through all others.

    $$\frac{1}{N} \sum_{k, i} w_{ki} \rho\left(\frac{\hat y_i(t_k) - y_{ki}}{scale_i}\right),
    \qquad \frac{d \hat y}{dt} = f_\theta(t, \hat y), \quad \hat y(t_0) = y_0$$

    The steps follow the model, however far apart the samples are. A solve that fails is counted and
    takes part in no sum; other runs are not disturbed.

    **Arguments:**

    - `solver`: any diffrax solver; [`stiffrax.RadauIIA5`][] by default.
    - `measure`: $\rho$, scale and weights; [`stiffrax.ScaledMSE`][] by default.
    - `rtol`: relative tolerance of the solve.
    - `atol`: absolute tolerance, in the unit of the states, one or `n` numbers; by default `rtol`
        times the scale of the measure, or else the range of each state in the data.
    - `adjoint`: any diffrax adjoint; by default [`stiffrax.DiscreteAdjoint`][] with the solvers of
        stiffrax, `diffrax.RecursiveCheckpointAdjoint` with `LearnableRungeKutta` and others.
    - `max_steps`: the most steps of a solve.
    - `window`: restart at every `window`-th sample and solve through the `window` samples after it.
    - `controller`: a step size controller that chooses its first step itself, or `diffrax.StepTo`
        where all runs have the same times, in place of `rtol` and `atol`.

    **Raises:** `ValueError` for tolerances that are not positive, counts below one, parts of another
    kind, and with data for an `atol` of another size than their states.

    Cost: one solve and one adjoint for each run, all in one batch that takes as long as its slowest.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31,
        093122 (2021).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.geomspace(1e-3, 1.0, 7)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss = srx.TrajectoryLoss(srx.RadauIIA5(), rtol=1e-8)
    >>> bool(loss(lambda t, y, args: -y, data) < 1e-7)
    True

    ```
    """

    solver: diffrax.AbstractSolver
    measure: AbstractErrorMeasure
    rtol: float
    atol: Any
    adjoint: diffrax.AbstractAdjoint
    max_steps: int
    controller: diffrax.AbstractStepSizeController | None
    _window: int | None

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        measure: AbstractErrorMeasure | None = None,
        *,
        rtol: float = 1e-5,
        atol: Any = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int = 1024,
        window: int | None = None,
        controller: diffrax.AbstractStepSizeController | None = None,
    ):
        self.solver = RadauIIA5() if solver is None else solver
        self.measure = ScaledMSE() if measure is None else measure
        self.rtol, self.atol = loss_tolerances("TrajectoryLoss", rtol, atol)
        self.adjoint = default_adjoint(self.solver) if adjoint is None else adjoint
        self.max_steps = check_count("max_steps", max_steps)
        self.controller = controller
        check_parts(
            solver=self.solver, measure=self.measure, adjoint=self.adjoint, controller=controller
        )
        self._window = None if window is None else check_count("window", window)

    @property
    def window(self) -> int | None:
        """Segments of one solve; `None`: whole runs."""
        return self._window

    def for_data(self, data: Trajectories) -> "TrajectoryLoss":
        """This loss with scale and tolerance: its own, or those measured on the data."""
        measure, atol = self.measure.for_data(data), self.atol
        if atol is None:
            # Not the scale of a measure with weights, which is one whatever the states.
            scale = self.measure.scale
            if scale is None:
                scale = default_scale(jnp.asarray(data.ys), jnp.asarray(data.mask))
            # Derivatives by the samples do not reach the sizes of steps.
            atol = self.rtol * lax.stop_gradient(jnp.asarray(scale))
        else:
            check_shapes(self.rtol, jnp.asarray(atol), jnp.zeros(data.num_states))
        return eqx.tree_at(
            lambda loss: (loss.measure, loss.atol), self, (measure, atol), is_leaf=is_none
        )

    def predict(self, model: Any, data: Trajectories) -> Float[Array, "runs predicted n"]:
        """The solution of whole runs, whatever `window`, at the samples after the first.

        It is not finite where a solve fails.
        """
        check_model(model, check_data(data))
        return self.for_data(data)._solve_all(model, data)[0]

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, and the number of runs (or windows) whose solve failed."""
        check_model(model, check_data(data))
        loss = self.for_data(data)
        if self.window is not None:
            data = cut_windows(data, self.window)
        predicted, failed = loss._solve_all(model, data)
        return value_of_runs(loss.measure, predicted, failed, data)

    def first_failure(self, model: Any, data: Trajectories) -> str:
        """The first run (or window) whose solve fails, and why."""
        if self.window is not None:
            data = cut_windows(data, self.window)
        loss = self.for_data(data)
        _, failed = loss._solve_all(model, data)
        failed = np.flatnonzero(np.asarray(failed & jnp.asarray(data.mask)[:, 1]))
        if not len(failed):
            return ""
        run = int(failed[0])
        ts, ys, mask = (x[run] for x in data.arrays)
        solution = loss._solution(model, ts, ys[0], mask)
        what = f"run {data.run_names[run]}" if self.window is None else f"window {run}"
        cause = diffrax.RESULTS[solution.result].strip() or "the state is not finite"
        return f"the solve of {what} from t = {float(ts[0]):.6g}: {cause}"

    def _solve_all(
        self, model: Any, data: Trajectories
    ) -> tuple[Float[Array, "runs predicted n"], Bool[Array, " runs"]]:
        ts, ys, mask = data.arrays

        def solve(*run: Array) -> tuple[Array, Array]:
            return self.solve_run(model, *run)

        return solve_runs(solve, self.adjoint, ts, ys[:, 0], mask)

    def solve_run(
        self,
        model: Any,
        ts: Float[Array, " times"],
        y0: Float[Array, " n"],
        mask: Bool[Array, " times"],
    ) -> tuple[Float[Array, "predicted n"], Bool[Array, ""]]:
        """The solution of one run at the samples after the first, and whether it failed."""
        solution = self._solution(model, ts, y0, mask)
        ys, failed = jnp.asarray(solution.ys), solution.result != diffrax.RESULTS.successful
        # Explicit fixed steps of diffrax report success wherever they end.
        return ys, failed | ~jnp.all(jnp.isfinite(ys))

    def _solution(self, model: Any, ts: Array, y0: Array, mask: Array) -> diffrax.Solution:
        # Missing samples, all at the end, are asked for at the time of the last present one; a run
        # without any is solved to its second time like a healthy one.
        last = ts[jnp.maximum(jnp.sum(mask), 2) - 1]
        ts = jnp.minimum(ts, last)
        controller = self.controller
        if controller is None:
            controller = diffrax.PIDController(
                rtol=self.rtol, atol=jnp.broadcast_to(jnp.asarray(self.atol, y0.dtype), y0.shape)
            )
        return diffrax.diffeqsolve(
            diffrax.ODETerm(paramax.unwrap(model)),
            self.solver,
            ts[0],
            last,
            None,
            y0,
            saveat=diffrax.SaveAt(ts=ts[1:]),
            stepsize_controller=controller,
            adjoint=self.adjoint,
            max_steps=self.max_steps,
            throw=False,
        )
