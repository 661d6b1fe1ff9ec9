"""Numbers of single precision that are stored in double."""

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data import default_scale, find_neighborhoods, unit_of_rounding

SINGLE, DOUBLE = 2.0**-23, 2.0**-52
TS = np.linspace(0.0, 1.0, 30)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_numbers_that_single_precision_holds_are_known_to_it(make):
    x = np.array([[0.1, 1 / 3], [0.7, 1.0]])
    x[:, 0] = x[:, 0].astype(np.float32)
    np.testing.assert_array_equal(unit_of_rounding(make(x), axis=0), [SINGLE, DOUBLE])
    present = np.array([[True], [False]])
    assert unit_of_rounding(make(x[:, 1:]), present, 0) == DOUBLE
    assert unit_of_rounding(make(x[:, 1:]), ~present, 0) == SINGLE


def conserved(dtype):
    ys = np.stack([np.exp(-TS), 1 + 1e-7 * np.sin(37 * TS)], axis=1).astype(dtype)
    return srx.Trajectories.from_arrays(TS, ys)


def test_a_state_that_varies_by_rounding_of_single_precision_has_no_range():
    data = conserved(np.float32)
    with pytest.raises(ValueError, match="'y2' is 1 throughout the data"):
        srx.Scaling.from_data(data)
    for make in (np.asarray, jnp.asarray):
        assert default_scale(make(data.ys), make(data.mask))[1] == pytest.approx(1)


def test_the_same_range_in_double_precision_is_one():
    assert 1e-7 < srx.Scaling.from_data(conserved(float)).y_scale[1] < 3e-7


def test_equal_steps_of_single_precision_are_equal():
    ts = np.linspace(0, 100, 401, dtype=np.float32)
    ys = np.random.default_rng(0).normal(size=(401, 2))
    find_neighborhoods(srx.Trajectories.from_arrays(ts, ys), 4)
    uneven = srx.Trajectories.from_arrays(ts + np.where(np.arange(401) % 2, 1e-3, 0), ys)
    with pytest.raises(ValueError, match="Take equally spaced samples"):
        find_neighborhoods(uneven, 4)


def test_a_missing_day_of_a_calendar_is_no_rounding():
    # Days since 4713 BC: halves, which single precision holds.
    days = 2459000.5 + np.delete(np.arange(60.0), [3, 17])
    ys = np.random.default_rng(0).normal(size=(58, 1))
    with pytest.raises(ValueError, match="samples are 1 to 2 apart"):
        find_neighborhoods(srx.Trajectories.from_arrays(days, ys), 4)
