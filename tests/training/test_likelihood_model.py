"""Data with the standard deviations that a fit of other data found; nothing is solved."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._likelihood_model import LikelihoodModel, _rows_of_term


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


@pytest.mark.parametrize("size", [1e-13, 1.0, 1e9, 1e13])
def test_what_a_prior_tells_of_a_number_does_not_depend_on_its_unit(size):
    def prior(x):
        return 0.5 * ((x[0] / size - 1) / 0.1) ** 2 + 0.5 * (x[1] / 0.2) ** 2, jnp.zeros(())

    units = jnp.array([size, 1.0])
    found = _rows_of_term(prior, jnp.array([3.0, 0.3]) * units, units)
    for rows in (found.told, found.raised):
        rows = np.asarray(rows[:, :-1]) * np.asarray(units)
        np.testing.assert_allclose(rows.T @ rows, np.diag([100.0, 25.0]), rtol=1e-9, atol=1e-9)
