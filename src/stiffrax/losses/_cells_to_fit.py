"""Refuses to fit data that leave nothing to fit, or a column that tells no size of noise."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..data import Measurements
from ..models import System
from ._likelihood_loss import LikelihoodLoss


def check_cells_to_fit(likelihood: LikelihoodLoss, system: System, data: Measurements) -> None:
    """Refuses data of no residual, and columns with an estimated spread whose values are all equal.

    The likelihood of such a column has no largest value: the closer the parameters come to its one
    number, the smaller its spread. Only where a fit begins: predictions are made of such data too.
    """
    counted: Any = likelihood.counted(system, data)
    if not isinstance(counted, np.ndarray):
        return  # measurements may be traced
    if not counted.any():
        raise ValueError(
            "The data have no measured cell but those that runs start from, which are no residuals. "
            "Give `System(..., initial_state=...)`, or data with later rows."
        )
    estimated = likelihood.estimates(system, data)
    eps: Any = np.finfo(jnp.result_type(float)).eps
    for j in np.flatnonzero(estimated):
        cells = counted[..., j] & (np.asarray(data.sd)[..., j] == 0)
        values = np.asarray(data.values)[..., j][cells]
        # Equal but for rounding, as sums of the others are, is as unbounded as equal.
        if values.size and np.ptp(values) <= 10 * eps * np.max(np.abs(values)):
            name = data.names[j]
            which = (
                "in its only value" if values.size == 1 else f"in all of its {values.size} values"
            )
            raise ValueError(
                f"Column {name!r} is {values[0]:g} {which}, which tells no size of noise. Write "
                f"`sd={{{name!r}: 0.01}}`, with the resolution of the instrument, where the data are "
                "read, or leave the column out with `columns=`."
            )
