"""A warning to those who train a plain model on states of very different sizes."""

import warnings
from typing import Any

import jax
import numpy as np

from ..data import Trajectories
from ..models import ScaledField

_LARGEST_RATIO = 1e3


def warn_if_unscaled(model: Any, data: Trajectories) -> None:
    """Warns if state ranges differ by more than 1e3 and no part of the model is scaled."""
    ys = np.asarray(data.ys)[np.asarray(data.mask)]
    ranges = np.ptp(ys, axis=0)
    ranges = ranges[ranges > 0]
    if not ranges.size or ranges.max() <= _LARGEST_RATIO * ranges.min():
        return
    parts = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, ScaledField))
    if any(isinstance(part, ScaledField) for part in parts):
        return
    warnings.warn(
        f"The ranges of the states differ by a factor of {ranges.max() / ranges.min():.0e}, which "
        "keeps a model with outputs of one size from learning. Wrap it: `scaling = "
        "stiffrax.Scaling.from_data(data)`, `stiffrax.ScaledField(net, scaling.y_scale, "
        "scaling.t_scale)`.",
        stacklevel=3,
    )
