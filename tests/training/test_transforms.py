"""STEER and growing horizons."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.array([0.0, 1e-3, 1e-2, 1.0, 100.0])
DATA = jax.tree.map(
    jnp.asarray, srx.Trajectories.from_arrays([TS, TS[:3]], [np.ones((5, 1)), np.ones((3, 1))])
)
KEY = jax.random.key(0)


steer = eqx.filter_jit(lambda width, key: srx.Steer(width)(DATA, 0, key).ts)


def test_steer_keeps_starts_and_order():
    for seed in range(20):
        ts = steer(0.49, jax.random.key(seed))
        np.testing.assert_array_equal(ts[:, 0], DATA.ts[:, 0])
        assert np.all(np.diff(ts[0]) > 0)
        assert np.all(np.diff(ts[1, :3]) > 0)


def test_steer_moves_no_further_than_its_width():
    gaps = np.diff(TS)
    room = np.append(np.minimum(gaps[:-1], gaps[1:]), gaps[-1])
    moves = [np.asarray(steer(0.2, jax.random.key(k)))[0, 1:] - TS[1:] for k in range(200)]
    largest = np.max(np.abs(moves), axis=0)
    assert np.all(largest <= 0.2 * room * (1 + 1e-9))
    assert np.all(largest > 0.15 * room)


def test_steer_leaves_missing_samples_at_the_last_time():
    ts = srx.Steer(0.2)(DATA, 0, KEY).ts[1]
    np.testing.assert_array_equal(ts[3:], ts[2])


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("transform", [srx.Steer(0.2), srx.GrowingHorizon(1.0, 2)])
def test_measurements_are_refused(transform):
    data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0, 2.0], [2.0, 3.0]], names=["A", "B"])
    with pytest.raises(ValueError, match=r"`data` is a Measurements.*Write .*to_trajectories"):
        transform(data, 0, KEY)


def seen(step):
    return np.asarray(srx.GrowingHorizon(first=1e-2, steps=100)(DATA, step, KEY).mask)


def test_horizon_grows_by_decades():
    # From 1e-2 to 1e2 in 100 steps: 1 is reached at step 50.
    np.testing.assert_array_equal(seen(0)[0], [True, True, True, False, False])
    np.testing.assert_array_equal(seen(49), seen(0))
    np.testing.assert_array_equal(seen(51)[0], [True, True, True, True, False])


def test_horizon_shows_everything_in_the_end_and_nothing_that_is_missing():
    np.testing.assert_array_equal(seen(100), DATA.mask)
    np.testing.assert_array_equal(seen(10_000), DATA.mask)


def test_horizon_always_shows_two_samples():
    tiny = srx.GrowingHorizon(first=1e-9, steps=100)(DATA, 0, KEY)
    np.testing.assert_array_equal(jnp.sum(tiny.mask, axis=1), [2, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: srx.Steer(0.5), "`width=0.5`"),
        (lambda: srx.Steer(0.0), "`width=0.0`"),
        (lambda: srx.GrowingHorizon(first=0.0, steps=1), "`first=0.0`"),
        (lambda: srx.GrowingHorizon(first=1.0, steps=0), "`steps=0`"),
    ],
)
def test_wrong_option_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
