"""The error of the model coupled to the data, by which training moves from easy to hard."""

from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._arguments import check_instance
from .._trees import euclidean_norm, is_none
from ..data import (
    SmoothingSpline,
    Trajectories,
    check_same_samples,
    digest_of_samples,
    ranges_and_sizes,
)
from ..models import CoupledField, check_coupling
from ._loss import AbstractLoss, LossValue
from ._model_and_data import check_data, check_known_data, check_model
from ._solve_runs import solve_runs, value_of_runs
from ._trajectory_loss import TrajectoryLoss

# The distance of a model with rates of zero from the samples that hold it, in standard deviations.
# (Three networks each, trained on van der Pol's and FitzHugh and Nagumo's oscillators with 5 % noise:
# errors at 2, 1, 1/2, 1/4 are 0.039, 0.029, 0.017, 0.015 and 0.037, 0.019, 0.012, 0.012.)
_DISTANCE = 0.5


def _coupling_of(splines: SmoothingSpline, data: Trajectories) -> Array:
    """The coupling that holds a model with rates of zero within `_DISTANCE` of the samples."""
    steps, changes = jnp.diff(splines.ts), splines.coefficients[1]
    present = jnp.isfinite(steps)
    slopes = changes / jnp.where(present, steps, 1)[..., None]
    rates = euclidean_norm(slopes, (0, 1)) / jnp.sqrt(jnp.sum(present, dtype=slopes.dtype))
    ys, mask = np.asarray(data.ys), np.asarray(data.mask)
    deviation, (found, _) = jnp.asarray(np.std(ys[mask], axis=0)), ranges_and_sizes(ys, mask)
    return jnp.max(jnp.where(found > 0, rates / deviation, 0.0)) / _DISTANCE


@final
class _Target(eqx.Module):
    """The splines of a data set, one a run, and the digest of its samples."""

    splines: SmoothingSpline
    samples: str = eqx.field(static=True)

    def check_same_data(self, data: Trajectories) -> None:
        """Raises `ValueError` for other samples than those that the splines go through."""
        if len(self.splines.ts) != len(data):
            raise ValueError(
                f"{len(data)} runs were given to a loss with splines of {len(self.splines.ts)}: "
                "homotopy trains on all runs at once. Leave `batch_size`, `held_out` and `mesh` out."
            )
        check_same_samples("splines", self.samples, data)


@final
class HomotopyLoss(AbstractLoss):
    r"""The error of the model coupled to a smoothing spline of the samples.

    $$\frac{du}{dt} = f_\theta(t, u) - \lambda k (u - u_{data}(t))$$

    With $\lambda = 1$ the solution stays near the samples from the start, and the loss has few
    local minima; with $\lambda = 0$ it is that of the `trajectory` loss.
    [`stiffrax.fit_homotopy`][] trains from one to the other.

    **Arguments:**

    - `trajectory`: what is solved, and how errors count: a [`stiffrax.TrajectoryLoss`][] over whole
        runs.
    - `coupling`: `k`, per unit of time, as in [`stiffrax.CoupledField`][]. `"auto"`: twice the
        largest root mean square rate of a state, in its standard deviations. A model with rates
        near zero then follows the samples at half of their spread. Much more makes the loss flat.
    - `alpha`: of the [`stiffrax.SmoothingSpline`][].
    - `strength`: $\lambda$.

    **Raises:** `ValueError` for a coupling that does not fit the data, windows, and minibatches.

    Cost: that of `trajectory`.

    ??? cite "Reference"
        Ko, Koh, Park and Jhe, *Homotopy-based training of NeuralODEs for accurate dynamics
        discovery*, NeurIPS 36 (2023).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> wrong = lambda t, y, args: 2 * y
    >>> losses = [srx.HomotopyLoss(srx.TrajectoryLoss(), coupling=9.0, strength=s) for s in (0, 1)]
    >>> bool(losses[1](wrong, data) < 0.1 * losses[0](wrong, data))
    True

    ```
    """

    trajectory: TrajectoryLoss
    coupling: Any
    alpha: float
    strength: Array
    target: _Target | None
    is_of_one_data_set: ClassVar[bool] = True

    def __init__(
        self,
        trajectory: TrajectoryLoss,
        coupling: Any = "auto",
        alpha: float = 0.0,
        *,
        strength: Any = 1.0,
    ):
        check_instance(
            "trajectory",
            trajectory,
            TrajectoryLoss,
            "a `TrajectoryLoss`, whose solves are coupled to the samples",
            "HomotopyLoss(stiffrax.TrajectoryLoss())",
        )
        if trajectory.window is not None:
            raise ValueError(
                f"The trajectory loss has `window={trajectory.window}`; homotopy trains on whole "
                "runs: leave `window` out."
            )
        if isinstance(coupling, str) and coupling != "auto":
            raise ValueError(
                f'`coupling={coupling!r}` was given; it needs `"auto"`, a number, one number a '
                "state, or a matrix."
            )
        self.trajectory = trajectory
        self.coupling = coupling
        self.alpha = alpha
        self.strength = jnp.asarray(strength, float)
        self.target = None

    def with_strength(self, strength: Any) -> "HomotopyLoss":
        """This loss with another strength of the coupling."""
        return eqx.tree_at(lambda loss: loss.strength, self, jnp.asarray(strength, float))

    def for_data(self, data: Trajectories) -> "HomotopyLoss":
        """This loss with its scale, its splines and its coupling."""
        splines = SmoothingSpline.for_runs(check_known_data(data), self.alpha)
        chosen = isinstance(self.coupling, str)
        coupling = _coupling_of(splines, data) if chosen else self.coupling
        check_coupling(coupling, data.num_states)
        return eqx.tree_at(
            lambda loss: (loss.trajectory, loss.target, loss.coupling),
            self,
            (self.trajectory.for_data(data), _Target(splines, digest_of_samples(data)), coupling),
            is_leaf=is_none,
        )

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error of the coupled solutions, and the number of runs whose solve failed."""
        check_model(model, check_data(data))
        loss = self.for_data(data) if self.target is None else self
        target: Any = loss.target
        target.check_same_data(data)
        ts, ys, mask = data.arrays

        def solve(spline: Any, ts: Array, y0: Array, mask: Array) -> tuple:
            coupled = CoupledField(model, spline, loss.coupling, loss.strength)
            return loss.trajectory.solve_run(coupled, ts, y0, mask)

        adjoint = loss.trajectory.adjoint
        predicted, failed = solve_runs(solve, adjoint, target.splines, ts, ys[:, 0], mask)
        return value_of_runs(loss.trajectory.measure, predicted, failed, data)
