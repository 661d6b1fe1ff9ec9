"""From full coupling to none."""

from typing import final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._arguments import is_positive_below


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
        Ko, Koh, Park and Jhe, *Homotopy-based training of NeuralODEs for accurate dynamics
        discovery*, NeurIPS 36 (2023).

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
        whole = all(isinstance(x, int | np.integer) for x in (self.values, self.steps))
        enough = whole and self.values >= 2 and self.steps >= 1
        if not (enough and is_positive_below(self.ratio, float("inf"))):
            raise ValueError(
                f"`HomotopySchedule(values={self.values!r}, steps={self.steps!r}, "
                f"ratio={self.ratio!r})` "
                "was given; it needs two values or more, one step or more and a positive ratio. "
                "Write `HomotopySchedule(values=6, steps=100)`."
            )

    @property
    def strengths(self) -> Float[np.ndarray, " values"]:
        """The strengths, from 1 to 0."""
        decrements = float(self.ratio) ** np.arange(self.values - 1)
        strengths = 1 - np.append(0.0, np.cumsum(decrements / decrements.sum()))
        strengths[-1] = 0.0  # the sum may miss one by rounding
        return strengths

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.values * self.steps
