"""The error along adaptive solves through the samples."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..adjoints import DiscreteAdjoint
from ..data import Trajectories, cut_windows
from ..solvers import AbstractImplicitRungeKutta, RadauIIA5
from ._error_measures import AbstractErrorMeasure, ScaledMAE
from ._loss import AbstractLoss, LossValue
from ._segment_loss import check_positive
from ._solve_runs import solve_runs


@final
class TrajectoryLoss(AbstractLoss):
    r"""The error along adaptive solves, from the first sample of each run through all others.

    $$\frac{1}{N} \sum_{k, i} w_{ki} \rho\left(\frac{\hat y_i(t_k) - y_{ki}}{scale_i}\right),
    \qquad \frac{d \hat y}{dt} = f_\theta(t, \hat y), \quad \hat y(t_0) = y_0$$

    The steps follow the model, and the samples may be as far apart as they are. A solve that fails
    (too many steps, or no more finite numbers) is counted; its samples from there on count with
    $\rho(1)$, and the other runs are not disturbed.

    **Arguments:**

    - `solver`: any diffrax solver; [`stiffrax.RadauIIA5`][] by default.
    - `measure`: $\rho$, scale and weights; [`stiffrax.ScaledMAE`][] by default.
    - `rtol`: relative tolerance of the solve.
    - `atol`: absolute tolerance, in the unit of the states, one or `n` numbers; by default `rtol`
        times the scale of the measure.
    - `adjoint`: any diffrax adjoint; by default [`stiffrax.DiscreteAdjoint`][] with the solvers of
        stiffrax, `diffrax.RecursiveCheckpointAdjoint` with others.
    - `max_steps`: the most steps of a solve.
    - `window`: solve anew from every `window`-th sample through the `window` samples after it,
        instead of from the first through all.
    - `controller`: any diffrax step size controller, in place of `rtol` and `atol`.

    **Raises:** `ValueError` for tolerances that are not positive and counts below one.

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
        self.measure = ScaledMAE() if measure is None else measure
        self.rtol = float(check_tolerance("rtol", rtol))
        self.atol = None if atol is None else check_tolerance("atol", atol)
        if adjoint is None:
            ours = isinstance(self.solver, AbstractImplicitRungeKutta)
            adjoint = DiscreteAdjoint() if ours else diffrax.RecursiveCheckpointAdjoint()
        self.adjoint = adjoint
        self.max_steps = check_positive("max_steps", max_steps)
        self.controller = controller
        self._window = None if window is None else check_positive("window", window)

    @property
    def window(self) -> int | None:
        """Segments of one solve; `None`: whole runs."""
        return self._window

    def for_data(self, data: Trajectories) -> "TrajectoryLoss":
        """This loss with a scale: its own, or the one measured on the data."""
        return eqx.tree_at(lambda loss: loss.measure, self, self.measure.for_data(data))

    def predict(self, model: Any, data: Trajectories) -> Float[Array, "runs predicted n"]:
        """The solution at the samples after the first; not finite where there is none."""
        return self.for_data(data)._solve_all(model, data)[0]

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, and the number of runs (or windows) whose solve failed."""
        loss = self.for_data(data)
        if self.window is not None:
            data = cut_windows(data, self.window)
        predicted, failed = loss._solve_all(model, data)
        ts, ys, mask = (jnp.asarray(x)[:, 1:] for x in (data.ts, data.ys, data.mask))
        value = loss.measure(predicted, ts, ys, mask)
        return LossValue(value, jnp.sum(failed & mask[:, 0]))

    def _solve_all(
        self, model: Any, data: Trajectories
    ) -> tuple[Float[Array, "runs predicted n"], Bool[Array, " runs"]]:
        ts, ys, mask = (jnp.asarray(x) for x in (data.ts, data.ys, data.mask))

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
        # Missing samples, all at the end, are asked for at the time of the last present one; a run
        # without any is solved to its second time like a healthy one.
        last = ts[jnp.maximum(jnp.sum(mask), 2) - 1]
        ts = jnp.minimum(ts, last)
        atol = self.rtol * jnp.asarray(self.measure.scale) if self.atol is None else self.atol
        controller = self.controller
        if controller is None:
            controller = diffrax.PIDController(
                rtol=self.rtol, atol=jnp.broadcast_to(jnp.asarray(atol, y0.dtype), y0.shape)
            )
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(model),
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
        return jnp.asarray(solution.ys), solution.result != diffrax.RESULTS.successful


def check_tolerance(name: str, value: Any) -> Any:
    """`value`, if all of it is positive and finite."""
    values = np.asarray(value)
    if values.ndim > 1 or not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(
            f"`{name}={value}` was given; it needs positive numbers. Write `{name}=1e-6`."
        )
    return value
