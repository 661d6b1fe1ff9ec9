"""Runs cut into shorter ones."""

import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx
from stiffrax.data import cut_windows, pick_runs

TS = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
DATA = srx.Trajectories.from_arrays(
    [TS, TS[:3]], [np.arange(12.0).reshape(6, 2), 100 + np.arange(6.0).reshape(3, 2)]
)


def test_windows_share_the_samples_where_they_meet():
    windows = cut_windows(DATA, 2)
    np.testing.assert_array_equal(windows[0][0], TS[:3])
    np.testing.assert_array_equal(windows[1][0], TS[2:5])


def test_last_window_is_shorter():
    ts, ys = cut_windows(DATA, 2)[2]
    np.testing.assert_array_equal(ts, TS[4:])
    np.testing.assert_array_equal(ys, DATA.ys[0, 4:])


def test_every_segment_is_in_one_window():
    for length in range(1, 8):
        assert cut_windows(DATA, length).num_segments == DATA.num_segments


def test_window_without_samples_repeats_the_first_one_masked():
    windows = cut_windows(DATA, 2)
    assert not windows.mask[4].any()
    np.testing.assert_array_equal(windows.ts[4], windows.ts[3])
    np.testing.assert_array_equal(windows.ys[4], windows.ys[3])


def test_window_longer_than_the_run_is_the_run():
    windows = cut_windows(DATA, 50)
    np.testing.assert_array_equal(windows.mask[:, :6], DATA.mask)
    np.testing.assert_array_equal(windows[0][0], TS)


def test_cutting_twice_changes_nothing():
    once = cut_windows(DATA, 2)
    twice = cut_windows(once, 2)
    np.testing.assert_array_equal(twice.ys, once.ys)
    np.testing.assert_array_equal(twice.mask, once.mask)


def test_double_precision_times_stay_on_the_host():
    assert isinstance(cut_windows(DATA, 2).ts, np.ndarray)


def test_runs_are_picked_under_jit():
    @jax.jit
    def pick(index):
        return pick_runs(DATA_ON_DEVICE, index).ys

    DATA_ON_DEVICE = jax.tree.map(jnp.asarray, DATA)
    np.testing.assert_array_equal(pick(jnp.array([1, 1])), DATA.ys[[1, 1]])
