"""What a training leaves behind of every step."""

from typing import NamedTuple, final

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int


@final
class History(eqx.Module):
    """Loss and gradient norm of every step of a training.

    **Attributes:**

    - `solved_loss`: before each step, on the data of that step, `Float[ndarray, " steps"]`. What
        could not be predicted takes no part in it.
    - `loss`: the same, but infinite where a solve failed: what leads to failures does not look like
        an improvement.
    - `gradient_norm`: Euclidean, before any clipping, `Float[ndarray, " steps"]`.
    - `num_failed`: solves that failed, `Int[ndarray, " steps"]`.
    - `held_out_steps`, `held_out_loss`: how many steps had been taken when the runs held out were
        looked at, and the loss on them.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> fit = srx.fit(srx.Polynomial(1, degree=1), data, srx.SegmentLoss(), steps=5)
    >>> fit.history.loss.shape
    (5,)

    ```
    """

    solved_loss: Float[np.ndarray, " steps"]
    gradient_norm: Float[np.ndarray, " steps"]
    num_failed: Int[np.ndarray, " steps"]
    held_out_steps: Int[np.ndarray, " judged"]
    held_out_loss: Float[np.ndarray, " judged"]

    @property
    def loss(self) -> Float[np.ndarray, " steps"]:
        """The loss before each step, infinite where a solve failed."""
        return np.where(self.num_failed > 0, np.inf, self.solved_loss)

    def __repr__(self) -> str:
        if not self.loss.size:
            return "History(0 steps)"
        failed = np.count_nonzero(self.num_failed)
        failures = f", solves failed in {failed}" if failed else ""
        losses = f"loss {self.loss[0]:.3e} to {self.loss[-1]:.3e}"
        return f"History({self.loss.size} steps, {losses}{failures})"


@final
class Record(NamedTuple):
    """The rows of a history so far; never changed, so that it always agrees with its state."""

    rows: tuple[Float[np.ndarray, "_ 3"], ...] = ()
    judged: tuple[tuple[int, float], ...] = ()

    def with_rows(self, rows: Float[np.ndarray, "_ 3"]) -> "Record":
        """Loss, gradient norm and failures of more steps."""
        return self._replace(rows=(*self.rows, rows.astype(float)))

    def with_judgement(self, step: int, loss: float) -> "Record":
        """The loss on the runs held out."""
        return self._replace(judged=(*self.judged, (step, loss)))

    def history(self) -> History:
        """Everything as arrays."""
        rows = np.concatenate([np.zeros((0, 3)), *self.rows])
        steps, losses = zip(*self.judged, strict=True) if self.judged else ((), ())
        return History(
            solved_loss=rows[:, 0],
            gradient_norm=rows[:, 1],
            num_failed=rows[:, 2].astype(int),
            held_out_steps=np.asarray(steps, int),
            held_out_loss=np.asarray(losses, float),
        )


def record_of(history: History) -> Record:
    """The record that a history was made of."""
    columns = history.solved_loss, history.gradient_norm, history.num_failed.astype(float)
    pairs = zip(history.held_out_steps.tolist(), history.held_out_loss.tolist(), strict=True)
    return Record((np.stack(columns, axis=1),), tuple(pairs))
