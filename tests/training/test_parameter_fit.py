"""Bands of a linear model whose information is given, without any solve."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.training._box_trust_region import Box, Found
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._lockstep import Evaluation
from stiffrax.training._parameter_fit import ParameterFit

# Rows and columns of what is predicted; the data tell the sum of the first two parameters and, less
# well, the third.
SLOPES = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
ROWS = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 0.5]])


class Linear(LikelihoodModel):  # type: ignore
    def __init__(self):
        system = lambda x: None  # noqa: E731
        self.vector = SimpleNamespace(names=["a", "b", "c"], log=np.zeros(3, bool), system=system)
        self.likelihood = SimpleNamespace(estimates=lambda system, data: [False])
        self.data = SimpleNamespace(ts=np.arange(4.0)[None])

    def on(self, data):
        return self

    def cost(self, x):
        return jnp.sum(x**2)

    def log_volume(self, x):
        return x[0]

    def sensitivities(self, x):
        return (SLOPES @ x)[None, :, None], SLOPES[None, :, None, :]


def fitted(upper=9.0):
    rows = np.concatenate([np.column_stack([ROWS, np.zeros(2)]), np.zeros((2, 4))])
    best = Found(np.zeros(3), Evaluation(0.0, np.linalg.qr(rows, "r"), 0), 0, 0, "converged")
    ends = np.array([9.0, 9.0, upper])
    return ParameterFit(Linear(), Box(np.full(3, -9.0), ends, np.ones(3)), [best])


def test_the_log_density_adds_the_volume_of_what_terms_are_densities_of():
    assert fitted().log_density(jnp.array([2.0, 1.0, 0.0])) == -5 + 2


@pytest.mark.parametrize("bound", ["none", "upper"])
def test_a_band_is_infinite_where_it_depends_on_what_the_data_do_not_tell(bound):
    fit = fitted(0.0 if bound == "upper" else 9.0)
    assert fit.estimates["c"].bound == bound.replace("none", "")
    band = fit.band(0.6826894921370859)
    # One standard deviation: of a + b it is 1/2, of c it is 2, also at a bound.
    half = [0.5, np.sqrt(0.25 + 16), np.inf, 2.0]
    np.testing.assert_allclose((band.upper - band.values)[0, :, 0], half, rtol=1e-9)
    np.testing.assert_allclose((band.values - band.lower)[0, :, 0], half, rtol=1e-9)
