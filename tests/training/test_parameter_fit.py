"""Bands of a linear model whose information is given, without any solve."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._box_trust_region import Box, Found, _moved
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._lockstep import Evaluation
from stiffrax.training._parameter_fit import ParameterFit

# Rows and columns of what is predicted; the data tell the sum of the first two parameters and, less
# well, the third.
SLOPES = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
ROWS = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 0.5]])


class Linear(LikelihoodModel):  # type: ignore
    def __init__(self):
        system = lambda x: None
        names = ["a", "b", "c"]
        self.vector = SimpleNamespace(
            names=names, log=np.zeros(3, bool), system=system, index=names.index
        )
        self.likelihood = SimpleNamespace(
            estimates=lambda system, data: [False], by_column=lambda data: [srx.NormalNoise()]
        )
        self.data = SimpleNamespace(ts=np.arange(4.0)[None])
        self._parts = SimpleNamespace(others=(), kinked=None)

    def on(self, data):
        return self

    def cost(self, x):
        return jnp.sum(x**2)

    def log_volume(self, x):
        return x[0]

    def sensitivities(self, x):
        return (SLOPES @ x)[None, :, None], SLOPES[None, :, None, :]


def fitted(upper=9.0, lower=-9.0, start=0.0, size=1.0):
    rows = np.column_stack([ROWS * [1.0, 1.0, size], np.zeros(2)])
    rows = np.concatenate([rows, np.zeros((2, 4))])
    x = np.array([0.0, 0.0, start])
    best = Found(x, Evaluation(0.0, np.linalg.qr(rows, "r"), 0), 0, 0, "converged")
    ends = np.array([-9.0, -9.0, lower]), np.array([9.0, 9.0, upper])
    return ParameterFit(Linear(), Box(*ends, np.ones(3), np.full(3, size != 1)), [best])


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


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_plain_numbers_whose_sizes_differ_beyond_rounding_are_known(size):
    # At the value found, a number that is large tells that its unit is.
    fit = fitted(np.inf, -np.inf, 1 / size, size)
    np.testing.assert_allclose(fit.estimates["c"].standard_error, 2 / size, rtol=1e-9)
    band = fit.band(0.6826894921370859)
    ends = [0.5, 2 / size + np.sqrt(0.25 + (4 / size) ** 2), 3 / size]
    np.testing.assert_allclose(band.upper[0, [0, 1, 3], 0], ends, rtol=1e-9)


def test_profiles_go_by_the_sizes_that_were_found(monkeypatch):
    boxes = []
    profile = lambda model, box, *rest, **options: boxes.append(box) or {}
    monkeypatch.setattr("stiffrax.training._parameter_fit.profile_searches", profile)
    fitted(np.inf, -np.inf, 1e20, 1e-20).profile("c")
    np.testing.assert_allclose(boxes[0].scale, [1.0, 1.0, 1e20], rtol=10)


@pytest.mark.parametrize(("value", "bound"), [(0.5, ""), (1e-8, ""), (0.0, "lower")])
def test_a_value_near_zero_of_a_wide_box_is_not_at_its_bound(value, bound):
    fit = fitted(start=value, lower=0.0, upper=1e6)
    assert fit.estimates["c"].bound == bound
    assert np.isnan(fit.estimates["c"].standard_error) == (bound == "lower")


@pytest.mark.parametrize("x", [0.5, 3.0, 1e5])
def test_a_step_to_a_bound_ends_on_it(x):
    box = Box(np.zeros(1), np.full(1, 1e6), np.full(1, 1e5 / 3))
    step = box.scale * (-x / box.scale * (1 - 2e-16))
    assert _moved(np.array([x]), step, box) == 0
    assert _moved(np.array([x]), 0.999 * step, box) > 0


@pytest.mark.parametrize("method", [srx.ParameterFit.band, srx.ParameterFit.profile])
def test_percents_are_refused_where_parts_are_asked_for(method):
    with pytest.raises(ValueError, match=r"`level=95\.0`.*Write `level=0\.95`"):
        method(None, level=95.0)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_added_and_not_finite_where_a_search_starts_is_told_from_a_failed_solve(value):
    start = Found(np.zeros(1), Evaluation(value, np.zeros((2, 2)), 0), 0, 0, "failures")
    with pytest.raises(
        ValueError, match=f"The cost is {value} where .* to the likelihood is finite"
    ):
        ParameterFit.of(Linear(), Box(*np.zeros((3, 1))), [start])
