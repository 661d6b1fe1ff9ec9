"""Which terms are dropped, taken back and exchanged."""

import itertools

import numpy as np
import pytest

from stiffrax.training._subset_selection import (
    _sums_of_exchanges,
    addition_path,
    best_subset,
    elimination_path,
    without_terms,
)


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


def test_the_terms_left_are_those_of_the_fit_without_the_others():
    C, _ = planted()
    theta = np.random.default_rng(1).normal(size=10) / np.linalg.norm(C, axis=0)
    dropped, kept = np.array([7, 2]), np.array([0, 1, 3, 4, 5, 6, 8, 9])
    left = without_terms(C, theta, dropped)
    np.testing.assert_array_equal(left[dropped], 0)
    expected = np.linalg.lstsq(C[:, kept], C @ theta, rcond=None)[0]
    np.testing.assert_allclose(left[kept], expected, rtol=1e-8)


def test_without_any_term_nothing_is_left():
    C, _ = planted()
    np.testing.assert_array_equal(without_terms(C, np.ones(10), np.arange(10)), np.zeros(10))


def test_of_two_terms_that_say_the_same_one_is_needed():
    rng = np.random.default_rng(0)
    C = rng.normal(size=(40, 4))
    C[:, 3] = C[:, 1]
    order, costs = elimination_path(C, np.array([2.0, 1.0, 0.5, 1.0]), np.ones(4, bool))
    assert order[0] in (1, 3)
    assert costs[0] < 1e-10
    for k in range(1, 4):
        kept = np.setdiff1d(np.arange(4), order[:k])
        target = C @ [2.0, 1.0, 0.5, 1.0]
        left = C[:, kept] @ np.linalg.lstsq(C[:, kept], target, rcond=None)[0] - target
        assert costs[k - 1] == pytest.approx(np.sum(left**2), rel=1e-6, abs=1e-10)


def test_terms_that_stay_and_say_the_same_do_not_run_away():
    C, _ = planted()
    C = C / np.linalg.norm(C, axis=0)
    C[:, 3] = C[:, 1]
    assert np.max(np.abs(without_terms(C, np.ones(10), np.array([5])))) < 10


def price(sums, terms):
    """A criterion with noise of size one."""
    return sums + 9.0 * terms


def every_subset(C, b, droppable):
    """The best subset by looking at all of them."""
    best = np.inf, None
    for chosen in itertools.product([False, True], repeat=int(np.sum(droppable))):
        kept = ~droppable
        kept[droppable] = chosen
        left = C[:, kept] @ np.linalg.lstsq(C[:, kept], b, rcond=None)[0] - b
        best = min(best, (price(np.sum(left**2), sum(chosen)), tuple(kept)))
    return best[1]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_subset_is_that_of_a_search_of_all(seed):
    rng = np.random.default_rng(seed)
    C = rng.normal(size=(40, 8)) * np.geomspace(1e-3, 1e3, 8)
    C[:, 2] += 1e-2 * C[:, 7]
    droppable = np.arange(8) != 5
    b = C[:, 1] * 4e2 + C[:, 6] * 1e-1 + C[:, 5] + rng.normal(size=40)
    for kept in (np.ones(8, bool), ~droppable, rng.random(8) < 0.5):
        subset, x = best_subset(C, b, kept | ~droppable, droppable, price)
        assert tuple(subset) == every_subset(C, b, droppable)
        expected = np.linalg.lstsq(C[:, subset] / C[0, subset], b, rcond=None)[0] / C[0, subset]
        np.testing.assert_allclose(x[subset], expected, rtol=1e-6)
        np.testing.assert_array_equal(x[~subset], 0)


def test_two_terms_take_the_place_of_a_stand_in():
    # The stand-in is nearly the sum of two terms, and the first choice of every path.
    rng = np.random.default_rng(0)
    C = np.linalg.qr(rng.normal(size=(60, 7)))[0]
    b = 1e3 * (C[:, 0] + C[:, 1])
    C[:, 5] = C[:, 0] + C[:, 1] + 0.05 * C[:, 6]
    C = C[:, :6]
    kept = np.arange(6) == 5
    subset, _ = best_subset(C, b, kept, np.ones(6, bool), price)
    np.testing.assert_array_equal(np.flatnonzero(subset), [0, 1])


def test_of_terms_that_say_the_same_one_is_kept_and_the_exchange_ends():
    C, _ = planted()
    C[:, 3] = 2 * C[:, 1]
    C[:, 8] = 0
    b = C[:, 1] * 1e6
    for kept in (np.ones(10, bool), np.zeros(10, bool), np.arange(10) == 3):
        subset, x = best_subset(C, b, kept, np.ones(10, bool), price)
        assert int(np.sum(subset)) == 1
        np.testing.assert_allclose(C @ x, b, rtol=1e-8)


def test_the_best_subset_stays():
    C, terms = planted()
    b = C[:, terms] @ (1e2 / np.linalg.norm(C[:, terms], axis=0))
    kept = np.isin(np.arange(10), terms)
    subset, _ = best_subset(C, b, kept, np.ones(10, bool), price)
    np.testing.assert_array_equal(subset, kept)


@pytest.mark.parametrize("num", [1, 3])
def test_the_sums_of_exchanges_are_those_of_fits(num):
    C, _ = planted()
    b = np.random.default_rng(3).normal(size=40)
    C = C / np.linalg.norm(C, axis=0)
    kept, droppable = np.arange(10) < num, np.arange(10) != 0
    sums = _sums_of_exchanges(C, b, kept, droppable)
    for i, out in enumerate([None, *range(1, num)]):
        for j in range(11):
            inside = kept & (np.arange(10) != (-1 if out is None else out))
            if j < 10 and kept[j]:
                assert sums[i, j] == np.inf
                continue
            inside[j : j + 1] = True
            left = C[:, inside] @ np.linalg.lstsq(C[:, inside], b, rcond=None)[0] - b
            assert sums[i, j] == pytest.approx(np.sum(left**2), rel=1e-10)
