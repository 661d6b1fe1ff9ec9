"""Training along a homotopy, from data that hold the model to data that only judge it."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from .._arguments import check_count, check_instance, check_positive
from ..data import Trajectories
from ..losses import HomotopyLoss
from ._batches import make_batches
from ._fit import Fit, result_of, trained_part
from ._progress import progress_bar
from ._session import Judgement, Session
from ._training_loop import MOST_STEPS, Training, check_optimizer

_ADAMW = optax.adamw(0.02)


@final
class HomotopySchedule(eqx.Module):
    r"""Coupling strengths from 1 to 0, with decrements that shrink by a constant ratio.

    $$\lambda_{j+1} = \lambda_j - \frac{\kappa^j}{\sum_{i=0}^{s-2} \kappa^i}, \qquad
    \lambda_0 = 1, \quad \lambda_{s-1} = 0$$

    **Arguments:**

    - `values`: `s`, how many strengths; 6 to 8 do for most problems.
    - `steps`: training steps at each; 100 for periodic series, 300 for irregular ones.
    - `ratio`: $\kappa$.

    **Raises:** `ValueError` for fewer than two values, and for numbers that are not positive.

    ??? cite "Reference"
        Ko and others, *Homotopy-based training of NeuralODEs* (2023).

    ```python
    >>> import stiffrax as srx
    >>> srx.HomotopySchedule(values=6).strengths.round(4)
    array([1.    , 0.5663, 0.306 , 0.1499, 0.0562, 0.    ])

    ```
    """

    values: int = eqx.field(static=True, default=6)
    steps: int = eqx.field(static=True, default=100)
    ratio: float = eqx.field(static=True, default=0.6)

    def __check_init__(self):
        check_count("values", self.values, least=2)
        check_count("steps", self.steps)
        check_positive("ratio", self.ratio, write="ratio=0.6")

    @property
    def strengths(self) -> Float[np.ndarray, " values"]:
        """The strengths, from 1 to 0."""
        # The largest is one.
        powers = np.arange(self.values - 1) - (self.values - 2) * (self.ratio > 1)
        decrements = float(self.ratio) ** powers
        strengths = 1 - np.append(0.0, np.cumsum(decrements / decrements.sum()))
        strengths[-1] = 0.0  # the sum may miss one by rounding
        return strengths

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.values * self.steps


def fit_homotopy(
    model: Any,
    data: Trajectories,
    loss: Any,
    *,
    schedule: HomotopySchedule | None = None,
    optimizer: optax.GradientTransformation | None = None,
    judge_every: int = 1,
    progress: bool | None = None,
) -> Fit:
    r"""Trains a model that is coupled to the data, and anneals the coupling to zero.

    $$\theta_{k+1} = \theta_k + \mathrm{optimizer}(\nabla_\theta \mathrm{loss}_{\lambda(k)}(\theta_k)),
    \qquad \lambda: 1 \to 0$$

    The model returned is that with the lowest *uncoupled* error, the one of $\lambda = 0$. The
    optimizer keeps its state from one strength to the next. Ctrl-C ends the training and returns the
    best so far.

    **Arguments:**

    - `model`: any equinox module; its floating-point arrays are trained.
    - `data`: the measured runs; every step sees all of them.
    - `loss`: a [`stiffrax.HomotopyLoss`][].
    - `schedule`: by default `HomotopySchedule(values=6, steps=100)`.
    - `optimizer`: any `optax.GradientTransformation`; by default `optax.adamw(0.02)`.
    - `judge_every`: steps between two looks at the uncoupled error.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.Fit`][]; `history.held_out_loss` is the uncoupled error.

    **Raises:** `ValueError` for a count below one, another loss, and a model without parameters.

    Cost: one value and gradient of the loss a step, and a value for each look.

    ??? cite "Reference"
        Ko and others, *Homotopy-based training of NeuralODEs* (2023).

    ```python
    >>> import numpy as np, optax, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> loss = srx.HomotopyLoss(srx.TrajectoryLoss())
    >>> fit = srx.fit_homotopy(
    ...     srx.Polynomial(1, degree=1), data, loss, optimizer=optax.adam(0.1),
    ...     schedule=srx.HomotopySchedule(values=3, steps=40), judge_every=20, progress=False)
    >>> fit.loss < 1e-3
    True

    ```
    """
    schedule = HomotopySchedule() if schedule is None else schedule
    write = "loss=HomotopyLoss(TrajectoryLoss(...))"
    check_instance("loss", loss, HomotopyLoss, "a `HomotopyLoss`", write)
    check_count("judge_every", judge_every, most=MOST_STEPS)
    parameters, static = trained_part(model)
    loss = loss.for_data(data)
    training = Training(
        static=static,
        loss=loss,
        optimizer=check_optimizer(optimizer) or _ADAMW,
        transforms=(),
        batches=make_batches(loss, data, None, None),
        seed=jnp.asarray(0),
        keep_best=False,
    )
    judgement = Judgement(
        training.batches.data, judge_every, training=_with_strength(training, 0.0)
    )
    session = Session(training.start(parameters), judgement)
    stages = [
        (_with_strength(training, strength), (stage + 1) * schedule.steps)
        for stage, strength in enumerate(schedule.strengths)
    ]
    bar = progress_bar(progress, schedule.total_steps, "fit_homotopy")
    stopped = session.run(stages, bar)
    return result_of(training, session.now, stopped, loss.with_strength(0.0), data)


def _with_strength(training: Training, strength: float) -> Training:
    loss = training.loss
    return eqx.tree_at(lambda t: t.loss, training, loss.with_strength(strength))
