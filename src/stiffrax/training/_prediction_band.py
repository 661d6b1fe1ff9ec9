"""What a fit predicts, with a band from the errors of its parameters."""

from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._likelihood_model import LikelihoodModel
from ._parameter_errors import ParameterErrors


@final
class Band(NamedTuple):
    """What a fit predicts, and how well that is known.

    **Attributes:**

    - `ts`: `(runs, times)`.
    - `values`, `lower`, `upper`: `(runs, times, columns)`, in the unit of each column.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> line = np.ones((1, 2, 1))
    >>> srx.Band(np.array([[0.0, 1.0]]), line, 0.9 * line, 1.1 * line).values.shape
    (1, 2, 1)

    ```
    """

    ts: Float[np.ndarray, "runs times"]
    values: Float[np.ndarray, "runs times columns"]
    lower: Float[np.ndarray, "runs times columns"]
    upper: Float[np.ndarray, "runs times columns"]


def prediction_band(
    model: LikelihoodModel,
    x: Float[np.ndarray, " p"],
    errors: ParameterErrors,
    scale: Float[np.ndarray, " p"],
    level: float,
) -> Band:
    """The band at the rows of the data of a model, linearized.

    Of a column with noise on logarithms it is a factor either way, and stays positive.
    """
    values, slopes = model.sensitivities(x)
    slopes = slopes * scale
    reach = errors.quantile(slopes, level) * np.sqrt(errors.variance(slopes))
    lower, upper = values - reach, values + reach
    for j, noise in enumerate(model.likelihood.by_column(model.data)):
        if noise.on_logarithms:
            found, positive = values[..., j], values[..., j] > 0
            with np.errstate(over="ignore"):
                factor = np.exp(reach[..., j] / np.where(positive, found, 1))
            lower[..., j] = np.where(positive, found / factor, lower[..., j])
            upper[..., j] = np.where(positive, found * factor, upper[..., j])
    return Band(np.asarray(model.data.ts), values, lower, upper)
