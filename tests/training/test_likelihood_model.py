"""Data with the standard deviations that a fit of other data found; nothing is solved."""

from types import SimpleNamespace
from typing import Any

import numpy as np

import stiffrax as srx
from stiffrax.training._likelihood_model import LikelihoodModel


def test_a_start_of_zero_under_noise_on_logarithms_has_a_spread_too(unchecked_types):
    # It is no residual, and a column has standard deviations for all of its cells or none.
    data = srx.Measurements.from_table({"t": [0.0, 1.0, 2.0], "A": [0.0, 3.0, 5.0]})
    system = srx.System(lambda t, y, args: 1 - y, states=["A"])
    model: Any = SimpleNamespace(
        likelihood=srx.LikelihoodLoss(noise=srx.LogNormalNoise()),
        vector=SimpleNamespace(given=system),
    )
    found = LikelihoodModel.with_noise(model, data, {"A": 0.1})
    np.testing.assert_allclose(found.sd[0, :, 0], [0.1, 0.3, 0.5])
