"""Data whose unknown standard deviations are those that a fit of other data found."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..data import Measurements
from ._likelihood_model import LikelihoodModel


def with_noise(
    model: LikelihoodModel, data: Measurements, noise: Mapping[str, float]
) -> Measurements:
    """The data with a standard deviation for every measured cell, of columns that have none."""
    sd, values, mask = (np.array(x) for x in (data.sd, data.values, data.mask))
    own = model.likelihood.for_data(data)
    noises, estimated = own.by_column(data), own.estimates(model.vector.given, data)
    for j in np.flatnonzero(estimated):
        name = data.names[j]
        if name not in noise:
            raise ValueError(
                f"Column {name!r} has no standard deviation, and the fit estimated those of "
                f"{sorted(noise)} alone. Write `sd={{{name!r}: ...}}` where the data are read."
            )
        # Rows that runs start from may be zero: they are no residuals.
        relative = noises[j].on_logarithms & (values[..., j] > 0)
        size = np.where(relative, values[..., j], 1.0)
        unknown = mask[..., j] & (sd[..., j] == 0)
        sd[..., j] = np.where(unknown, noise[name] * size, sd[..., j])
    return dataclasses.replace(data, sd=sd)
