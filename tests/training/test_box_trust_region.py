"""When a search between bounds has converged."""

import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._box_trust_region import Box, minimize
from stiffrax.training._lockstep import Evaluation, run_together
from stiffrax.training._parameter_vector import ParameterVector

FLAT = Evaluation(0.5, np.array([[1e-6, 1e-3], [0.0, 1.0]]), 0)


@pytest.mark.parametrize(("failed", "stopped"), [(0, "converged"), (1, "stalled")])
def test_on_a_flat_cost_a_step_whose_solve_failed_is_none_that_was_tried(failed, stopped):
    box = Box(np.full(1, -9.0), np.full(1, 9.0), np.ones(1))

    def evaluate(xs):
        return [FLAT._replace(num_failed=failed * int(x[0] != 0)) for x in xs]

    (found,) = run_together([minimize(np.zeros(1), box, 100)], evaluate)
    assert found is not None
    assert found.stopped == stopped


def of_residuals(residuals):
    """Evaluations of half a sum of squares in one number, by exact derivatives."""

    def evaluate(xs):
        found = []
        for x in xs:
            rows = np.column_stack([residuals(x[0] + 1e-30j).imag / 1e-30, residuals(x[0]).real])
            triangle = np.linalg.qr(np.concatenate([rows, np.zeros((2, 2))]), mode="r")
            cost = 0.5 * float(rows[:, 1] @ rows[:, 1])
            found.append(Evaluation(cost, triangle, int(not np.isfinite(cost))))
        return found

    return evaluate


def guessed(count):
    return Box(*np.outer([-np.inf, np.inf, 1.0], np.ones(count)), np.full(count, True))


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_plain_numbers_whose_sizes_differ_beyond_rounding_are_all_found(size):
    units, rows = np.array([1.0, size]), np.array([[1.0, 2.0], [3.0, 1.0], [1.0, 1.0]])

    def evaluate(xs):
        found = []
        for x in xs:
            z = rows @ (x * units) - [5.0, 5.0, 3.0]  # zero at 1 and 2
            stacked = np.concatenate([np.column_stack([rows * units, z]), np.zeros((3, 3))])
            found.append(Evaluation(0.5 * float(z @ z), np.linalg.qr(stacked, mode="r"), 0))
        return found

    (found,) = run_together([minimize(np.zeros(2), guessed(2), 20)], evaluate)
    assert found is not None
    assert found.stopped == "converged"
    np.testing.assert_allclose(found.x * units, [1.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e9])
def test_a_number_far_from_the_guess_of_its_size_is_found_after_a_poor_step(size):
    evaluate = of_residuals(lambda k: np.exp(10 * k[None] / size) - np.exp(5.0))
    (found,) = run_together(
        [minimize(np.zeros(1), guessed(1), 100)],
        lambda xs: evaluate([x.astype(complex) for x in xs]),
    )
    assert found is not None
    assert found.stopped == "converged"
    np.testing.assert_allclose(found.x, 0.5 * size, rtol=1e-4)


TIMES = np.array([0.0, 2.0, 4.0, 6.0, 8.0])


@pytest.mark.parametrize(
    ("residuals", "start", "scale"),
    [
        (lambda k: np.exp(10 * k[None]) - np.exp(5.0), 0.0, 1.0),
        (lambda k: (np.exp(np.exp(k) * TIMES) - np.exp(np.exp(0.5) * TIMES)) / 1e3, -2.3, 1.0),
    ],
)
def test_a_step_that_overshot_far_does_not_end_a_search_before_its_minimum(residuals, start, scale):
    box = Box(np.full(1, -5.0), np.full(1, 5.0), np.full(1, scale))
    evaluate = of_residuals(lambda k: residuals(np.asarray(k)))
    (found,) = run_together([minimize(np.full(1, start), box, 200)], evaluate)
    assert found is not None
    assert found.stopped == "converged"
    np.testing.assert_allclose(found.x, 0.5, rtol=1e-4)


@pytest.mark.parametrize("start", [1e-11, -1e-16])
def test_a_start_close_to_zero_on_an_unbounded_scale_does_not_end_a_search(start):
    ts = np.linspace(0.0, 2.0, 9)
    box = Box(np.full(1, -np.inf), np.full(1, np.inf), np.full(1, abs(start)), np.full(1, True))
    evaluate = of_residuals(lambda k: (np.exp(-k * ts) - np.exp(-ts)) / 0.01)
    (found,) = run_together([minimize(np.full(1, start), box, 200)], evaluate)
    assert found is not None
    assert found.stopped == "converged"
    np.testing.assert_allclose(found.x, 1.0, rtol=1e-4)


def test_a_search_by_guessed_scales_counts_no_step_for_which_nothing_was_tried():
    evaluate, ends = of_residuals(lambda k: np.array([k - 0.5, k - 0.7])), []
    for guessed in (False, True):
        box = Box(np.full(1, -np.inf), np.full(1, np.inf), np.ones(1), np.full(1, guessed))
        (found,) = run_together([minimize(np.zeros(1), box, 30)], evaluate)
        assert found is not None
        ends.append((found.stopped, found.steps))
    assert ends[1] == ends[0]


def test_a_far_step_that_gains_nothing_ends_a_search_on_a_flat_tail():
    # 1 / a vanishes only at infinity.
    box = Box(np.full(1, 0.1), np.full(1, np.inf), np.ones(1), np.full(1, True))
    evaluate = of_residuals(lambda a: np.array([1.0 + 0j, 1.0]) + 1 / np.array([a, -a]))
    (found,) = run_together([minimize(np.ones(1), box, 200)], evaluate)
    assert found is not None
    assert found.stopped == "converged"


@pytest.mark.parametrize("outliers", [[3.0, 0.0, 0.0], [2.0, 0.0, -1.0]])
def test_a_search_converges_where_residuals_are_zero_whose_absolute_values_it_adds(outliers):
    # Where most lie on a curve it has the least sum, whatever the others are.
    ts = np.linspace(0.0, 2.0, 9)
    values = 1.5 * np.exp(-ts) + np.append(np.zeros(6), outliers)

    def residuals(x):
        return (x[1] * np.exp(-x[0] * ts) - values) / 0.1

    def evaluate(xs):
        found = []
        for x in xs:
            z, moved = residuals(x), x + 1e-30j * np.eye(2)
            rows = np.column_stack([residuals(one).imag / 1e-30 for one in moved])
            stacked = np.concatenate([np.column_stack([rows, np.sign(z)]), np.zeros((3, 3))])
            triangle, kinks = np.linalg.qr(stacked, mode="r"), np.column_stack([rows, z])
            found.append(Evaluation(float(np.sum(np.abs(z))), triangle, 0, kinks))
        return found

    box = Box(np.array([-5.0, 0.0]), np.array([5.0, 5.0]), np.array([1.0, 0.5]))
    (found,) = run_together([minimize(np.array([0.3, 1.0]), box, 50)], evaluate)
    assert found is not None
    assert [found.stopped, found.steps < 15] == ["converged", True]
    np.testing.assert_allclose(found.x, [1.0, 1.5], rtol=1e-5)


@pytest.mark.parametrize("upper", [1e-9, 1.0, np.inf])
def test_generous_bounds_do_not_end_a_search_where_it_began(upper):
    # y' = -k y^2 from 1e12 with k = 1e-12, from five times that.
    vector = ParameterVector(srx.bounded(5e-12, 0.0, upper))
    box = Box(vector.lower, vector.upper, vector.scale, vector.guessed)
    evaluate = of_residuals(lambda k: 50 * (1 / (1 + 1e12 * k * TIMES) - 1 / (1 + TIMES)))
    (found,) = run_together(
        [minimize(vector.start, box, 100)], lambda xs: evaluate([x.astype(complex) for x in xs])
    )
    assert found is not None
    assert found.stopped == "converged"
    np.testing.assert_allclose(found.x, 1e-12, rtol=1e-3)
