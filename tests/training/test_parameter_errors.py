"""Errors of linear models whose columns have estimated spreads, against least squares."""

import jax
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose

import stiffrax as srx
from stiffrax.training._parameter_errors import ParameterErrors, Rows

TS, MANY = np.array([0.0, 1.0, 2.0, 4.0]), np.linspace(0.0, 4.0, 100)
LINE = np.stack([np.ones(4), TS], axis=1)
COUNTS = np.array([4, 100])


def rows(own, spreads=(1.0, 1.0), shared=np.zeros((4, 2))):
    """A short column with these slopes and a long one; spreads are those of maximum likelihood."""
    long = np.stack([np.ones(100), MANY], axis=1)
    first = np.concatenate([own, shared], axis=1) / spreads[0]
    second = np.concatenate([np.zeros((100, own.shape[1])), long], axis=1) / spreads[1]
    column = np.repeat([0, 1], COUNTS)
    return Rows(np.concatenate([first, second]), column, COUNTS)


def test_a_short_column_with_its_own_parameters_has_the_errors_of_its_own_least_squares():
    errors = ParameterErrors(rows(LINE, (0.3, 2.0)))
    own = np.linalg.inv(LINE.T @ LINE) * 0.3**2 * 4 / (4 - 2)
    assert_allclose(errors.covariance()[:2, :2], own, rtol=1e-10)
    unit = np.eye(4)
    assert_allclose(errors.quantile(unit, 0.95)[:2], scipy.stats.t.ppf(0.975, 2), rtol=1e-10)
    assert_allclose(errors.quantile(unit, 0.95)[2:], scipy.stats.t.ppf(0.975, 98), rtol=1e-10)
    # Its part of the cost is 4 / 2 times the logarithm of its sum of squares.
    rise = 2 * np.log1p(scipy.stats.t.ppf(0.975, 2) ** 2 / 2)
    assert_allclose(errors.rise(0, 0.95), rise, rtol=1e-10)


def test_what_two_columns_tell_has_degrees_of_freedom_between_theirs_and_of_their_sum():
    weight = np.zeros((2, 1))
    weight[:] = 1.0
    sides = Rows(np.repeat(weight, [6, 6], axis=0), np.repeat([0, 1], 6), np.array([6, 6]))
    # Each column takes half of the parameter; both tell as much of it.
    assert_allclose(
        ParameterErrors(sides).quantile(np.eye(1), 0.95), scipy.stats.t.ppf(0.975, 11), rtol=1e-10
    )


def test_a_column_that_its_parameters_go_through_tells_nothing_of_them():
    errors = ParameterErrors(rows(np.eye(4), (1e-8, 1.0)))
    assert np.isinf(np.diagonal(errors.covariance())[:4]).all()
    assert np.isfinite(np.diagonal(errors.covariance())[4:]).all()
    assert errors.rise(0, 0.95) == np.inf


def test_with_spreads_that_are_given_quantiles_are_normal():
    errors = ParameterErrors(Rows(LINE, np.full(4, -1), np.zeros(0, int)))
    assert_allclose(errors.quantile(np.eye(2), 0.95), scipy.stats.norm.ppf(0.975), rtol=1e-12)
    assert_allclose(errors.rise(1, 0.95), scipy.stats.chi2.ppf(0.95, 1) / 2, rtol=1e-12)


@pytest.mark.slow
def test_columns_of_a_fit_have_their_own_degrees_of_freedom():
    a, b = np.array([0.9, 1.2, 1.1, 0.7]), 3 + np.sin(np.arange(40))
    values = np.full((40, 2), np.nan)
    values[::10, 0], values[:, 1] = a, b
    data = srx.Measurements.from_arrays(np.arange(40.0), values, names=["A", "B"])
    start = srx.bounded([2.0, 2.0], -9.0, 9.0)
    fit = srx.fit_parameters(srx.System(lambda t, y, _: 0 * y, start), data, srx.LikelihoodLoss())
    for one, x in zip(fit.estimates.values(), (a, b), strict=True):
        assert_allclose(one.standard_error, scipy.stats.sem(x), rtol=1e-5)
        half = scipy.stats.t.ppf(0.975, len(x) - 1) * scipy.stats.sem(x)
        assert_allclose([one.lower, one.upper], x.mean() + np.array([-half, half]), rtol=1e-5)


def test_rounding_of_single_precision_is_no_move_along_what_is_unknown():
    # Of two parameters the data tell the sum alone, and the prediction depends on no more.
    rng, tells = np.random.default_rng(0), np.linspace(1.0, 2.0, 30)[:, None]
    values = (tells * (1 + 3e-8 * rng.normal(size=(30, 2)))).astype(np.float32)
    slopes = (np.ones((5, 2)) * (1 + 3e-8 * rng.normal(size=(5, 2)))).astype(np.float32)
    given = Rows(values.astype(float), np.full(30, -1), np.zeros(0, int))
    with jax.enable_x64(False):
        errors = ParameterErrors(given)
        assert np.isfinite(errors.variance(slopes.astype(float))).all()
        assert np.isinf(errors.variance(np.eye(2)[:1])).all()


def test_a_prediction_that_is_not_finite_makes_no_other_known():
    # Nothing is known of the second parameter, and one run could not be solved.
    errors = ParameterErrors(Rows(np.eye(3, 2) * [1.0, 0.0], np.full(3, -1), np.zeros(0, int)))
    slopes = np.ones((2, 3, 1, 2))
    slopes[1] = np.nan
    assert np.isinf(errors.variance(slopes)[0]).all()
