"""The order in which terms are dropped and taken back."""

import numpy as np
import pytest

from stiffrax.training._elimination_path import addition_path, elimination_path


def planted(seed=0):
    """Derivatives by ten terms, of which 1, 4 and 6 are what the residuals consist of."""
    rng = np.random.default_rng(seed)
    C = rng.normal(size=(40, 10)) * np.geomspace(1e-3, 1e3, 10)
    return C, np.array([1, 4, 6])


def test_terms_that_are_missed_come_back_first():
    C, missed = planted()
    kept = np.zeros(10, bool)
    kept[[0, 9]] = True
    size = np.linalg.norm(C, axis=0)
    c = C[:, missed] @ (np.array([3.0, 2.0, 1.0]) / size[missed]) + C[:, 9]
    order, left = addition_path(C, c, kept, most=5)
    assert set(order[:3]) == set(missed)
    assert left[2] < 1e-20 * np.sum(c**2)
    assert len(order) == 5
    assert np.all(np.diff(left) <= 0)


def test_what_the_kept_terms_say_as_well_is_no_candidate():
    C, _ = planted()
    C[:, 3] = 2 * C[:, 0]
    kept = np.zeros(10, bool)
    kept[0] = True
    order, _ = addition_path(C, C[:, 5], kept, most=10)
    assert 3 not in order
    assert len(order) == 8


def test_the_costs_are_those_of_fits_without_the_terms():
    C, _ = planted()
    theta = np.random.default_rng(1).normal(size=10) / np.linalg.norm(C, axis=0)
    order, costs = elimination_path(C, theta, np.ones(10, bool))
    for k in range(1, 10):
        kept = np.setdiff1d(np.arange(10), order[:k])
        left = C[:, kept] @ np.linalg.lstsq(C[:, kept], C @ theta, rcond=None)[0] - C @ theta
        assert costs[k - 1] == pytest.approx(np.sum(left**2), rel=1e-8)
