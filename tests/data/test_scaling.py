"""Scaling: the size of states and times."""

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data import default_scale

TS = np.array([0.0, 1.0, 4.0])
YS = np.array([[[-4.0, 1e-6], [1.0, 3e-6], [2.0, 2e-6]], [[0.0, 1.0], [1.0, 1.0], [0.0, 9.0]]])
DATA = srx.Trajectories.from_arrays(
    [TS, TS[:2]], [YS[0], [[0.0, 1e-6], [1.0, 1e-6]]], names=["a", "b"]
)


def constant(value):
    ys = np.stack([TS, np.full(3, value)], axis=1)
    return srx.Trajectories.from_arrays(TS, ys, names=["a", "b"])


def test_range_is_largest_less_smallest():
    np.testing.assert_allclose(srx.Scaling.from_data(DATA).y_scale, [6.0, 2e-6])


def test_max_is_the_largest_absolute_value():
    np.testing.assert_allclose(srx.Scaling.from_data(DATA, kind="max").y_scale, [4.0, 3e-6])


def test_missing_samples_do_not_count():
    ys = YS.copy()
    mask = [[True, True, True], [True, True, False]]
    data = srx.Trajectories.from_arrays(TS, ys, mask=mask)
    ys[1, 2] = 1e6
    again = srx.Trajectories.from_arrays(TS, ys, mask=mask)
    np.testing.assert_array_equal(
        srx.Scaling.from_data(data).y_scale, srx.Scaling.from_data(again).y_scale
    )


def test_time_scale_is_the_longest_run_wherever_it_starts():
    data = srx.Trajectories.from_arrays([TS + 100, TS[:2]], [YS[0], YS[1, :2]])
    assert srx.Scaling.from_data(data).t_scale == 4.0


def test_constant_state_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'b' is 0.3 throughout.*range is zero.*kind=\"max\""):
        srx.Scaling.from_data(constant(0.3))


def test_constant_state_has_a_largest_value():
    np.testing.assert_allclose(srx.Scaling.from_data(constant(-0.3), kind="max").y_scale, [4, 0.3])


@pytest.mark.parametrize("kind", ["range", "max"])
def test_zero_state_is_refused_without_advice_that_would_not_help(kind):
    with pytest.raises(ValueError, match="'b'.*throughout.*`constant=1.0`") as error:
        srx.Scaling.from_data(constant(0.0), kind=kind)
    assert 'kind="max"' not in str(error.value)


def test_constant_state_takes_the_size_given_for_it():
    scaling = srx.Scaling.from_data(constant(0.3), constant=1.0)
    np.testing.assert_allclose(scaling.y_scale, [4.0, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: srx.Scaling([1.0, 0.0], 1.0), r"`y_scale=\[1.0, 0.0\]`"),
        (lambda: srx.Scaling([1.0, np.nan], 1.0), "`y_scale="),
        (lambda: srx.Scaling([[1.0]], 1.0), "`y_scale="),
        (lambda: srx.Scaling("large", 1.0), "`y_scale` is a str .* needs real numbers"),
        (lambda: srx.Scaling([1.0], -2.0), r"`t_scale=\[-2.0\]`"),
        (lambda: srx.Scaling.from_data(DATA, kind="std"), "kind='std'"),
        (lambda: srx.Scaling.from_data(constant(0.0), constant=0.0), "`y_scale="),
    ],
)
def test_wrong_size_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_default_scale_is_the_range_and_never_zero(array):
    mask = np.arange(4) < np.array([4, 2, 3])[:, None]
    ts = np.tile(np.arange(4.0), (3, 1))
    ys = np.stack([ts, np.full(ts.shape, -5.0), np.zeros(ts.shape)], axis=-1)
    ys[~mask] = 1e9
    np.testing.assert_array_equal(default_scale(array(ys), array(mask)), [3.0, 5.0, 1.0])
