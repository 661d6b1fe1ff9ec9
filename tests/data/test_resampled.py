"""Times at which predictions are drawn."""

import jax
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses import check_measurements


def drawn(ts, points, start=None, **options):
    ts = np.asarray(ts)
    data = srx.Measurements.from_arrays(ts, np.ones((*ts.shape, 1)), names=["A"], start=start)
    return data.resampled(points, **options).ts


def test_the_rows_are_among_the_steps():
    np.testing.assert_allclose(drawn([[0.0, 1e-4, 10.0]], 3), [[0, 1e-4, 5, 10]])


@pytest.mark.parametrize("points", [1, 0, -1])
def test_there_are_two_points_or_more(points):
    with pytest.raises(ValueError, match=f"`points={points}` was given; it needs an integer of at"):
        drawn([[0.0, 1.0]], points)


def test_runs_of_more_rows_do_not_move_the_others():
    found = drawn([[0.0, 0.1, 0.2, 1.0], [0.0, 0.5, 0.5, 1.0]], 3)
    np.testing.assert_allclose(found, [[0, 0.1, 0.2, 0.5, 1], [0, 0.5, 1, 1, 1]])


def test_steps_of_the_logarithm_begin_at_the_first_row_after_the_start():
    found = drawn([[0.0, 1e-4, 1e4]], 10, log_time=True)
    np.testing.assert_allclose(found, [[0, *np.geomspace(1e-4, 1e4, 9)]])
    assert found[0, -1] == 1e4


def test_they_are_of_the_time_since_the_start():
    found = drawn([[2.0, 11.0]], 3, start=1.0, log_time=True)
    np.testing.assert_allclose(found, [[1, 2, 11]])


def test_of_a_run_of_one_row_all_are_the_start():
    np.testing.assert_allclose(drawn([[1.0]], 3, log_time=True), [[1, 1, 1]])


def test_they_go_on_to_a_last_row_without_a_measured_cell_and_begin_at_the_start():
    values = [[np.nan], [1.0], [np.nan]]
    data = srx.Measurements.from_arrays([0.0, 1.0, 3.0], values, names=["A"], start=1.0)
    np.testing.assert_allclose(data.resampled(3).ts, [[1, 2, 3]])


def test_in_single_precision_no_step_is_next_to_a_row():
    rows = np.linspace(0, 1, 11, dtype=np.float32)
    data = srx.Measurements.from_arrays(rows, np.ones((11, 1)), names=["A"])
    with jax.enable_x64(False):
        steps = data.resampled(101)
        check_measurements(steps)
    assert steps.ts.shape == (1, 101)
