"""Samples that lie close to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data import cloud_size, find_neighborhoods

TS = np.arange(60) * 0.25
# Two turns of a circle and a half.
CIRCLE = np.stack([np.cos(TS), np.sin(TS)], axis=1)
DATA = srx.Trajectories.from_arrays([TS, TS[:40]], [CIRCLE, 1.1 * CIRCLE[:40]])


def distances(found):
    flat = DATA.ys.reshape(-1, 2) / np.std(DATA.ys[DATA.mask], axis=0)
    return np.linalg.norm(flat[found.neighbors] - flat[found.centers][:, None], axis=-1)


def test_neighbors_are_the_nearest_that_are_not_close_in_time():
    found = find_neighborhoods(DATA, 4, steps=2, theiler=5)
    flat = DATA.ys.reshape(-1, 2) / np.std(DATA.ys[DATA.mask], axis=0)
    run, place = np.divmod(np.arange(120), 60)
    usable = place < np.where(run == 0, 58, 38)
    for center, neighbors in zip(found.centers, found.neighbors, strict=True):
        near_in_time = (run == run[center]) & (np.abs(place - place[center]) <= 5)
        distance = np.linalg.norm(flat - flat[center], axis=1)
        distance[near_in_time | ~usable] = np.inf
        assert set(np.asarray(neighbors)) == set(np.argsort(distance)[:4])
    assert len(found.centers) == 58 + 38


def test_samples_after_centers_and_neighbors_follow_in_time():
    found = find_neighborhoods(DATA, 3, steps=2, theiler=5)
    centers, neighbors = found.following(jnp.asarray(DATA.ys), 2)
    np.testing.assert_array_equal(centers[0], DATA.ys[0, :3])
    run, place = divmod(int(found.neighbors[0, 1]), 60)
    np.testing.assert_array_equal(neighbors[0, :, 1], DATA.ys[run, place : place + 3])


def test_annulus_holds_random_samples_at_its_distances():
    found = find_neighborhoods(DATA, 3, theiler=0, annulus=(0.3, 0.9))
    assert np.all((distances(found) > 0.3) & (distances(found) <= 0.9))
    other = find_neighborhoods(DATA, 3, theiler=0, annulus=(0.3, 0.9), seed=1)
    assert np.any(found.neighbors != other.neighbors)


def test_a_draw_takes_centers_and_different_neighbors_of_each_at_random():
    found = find_neighborhoods(DATA, 4, theiler=5)
    drawn = found.draw(jax.random.key(0), 200, 3)
    rows = dict(zip(np.asarray(found.centers), np.asarray(found.neighbors), strict=True))
    for center, neighbors in zip(*map(np.asarray, (drawn.centers, drawn.neighbors)), strict=True):
        assert len(set(neighbors) & set(rows[center])) == 3
    assert len(set(np.asarray(drawn.centers))) > 80
    other = found.draw(jax.random.key(1), 200, 3)
    assert np.any(other.centers != drawn.centers)


def test_more_neighbors_than_were_found_are_not_drawn():
    with pytest.raises(ValueError, match="`neighbors=5` was given; 4 of each"):
        find_neighborhoods(DATA, 4).draw(jax.random.key(0), 2, 5)


def test_size_of_a_cloud_does_not_depend_on_where_it_is():
    cloud = jnp.array([[0.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(cloud_size(jnp.stack([cloud, cloud + 7]))[:, 0, 0], 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_neighbors": 1}, "2 states need 2 neighbors or more"),
        ({"num_neighbors": 3, "steps": 60}, "The series have 0 samples with 60 more after them"),
        ({"num_neighbors": 3, "theiler": 60, "annulus": (5.0, 6.0)}, "No sample has 3 neighbors"),
    ],
)
def test_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        find_neighborhoods(DATA, **options)


def test_constant_state_is_named():
    ys = np.stack([CIRCLE[:, 0], np.ones(60)], axis=1)
    with pytest.raises(ValueError, match="State y2 is constant"):
        find_neighborhoods(srx.Trajectories.from_arrays(TS, ys), 3)


def test_samples_not_equally_spaced_are_refused():
    with pytest.raises(ValueError, match="neighbors are compared over equal times"):
        find_neighborhoods(srx.Trajectories.from_arrays(TS**1.1, CIRCLE), 3)


def test_the_number_of_neighbors_is_an_integer_of_any_library():
    assert find_neighborhoods(DATA, np.int64(3)).neighbors.shape[1] == 3


def test_neighbors_do_not_depend_on_the_unit_in_single_precision():
    ts = np.arange(12.0)
    ys = np.stack([np.sin(ts), np.cos(ts / 2)], axis=1)
    found = [
        find_neighborhoods(
            srx.Trajectories.from_arrays(ts, (ys * unit).astype(np.float32)), 3, theiler=1
        ).neighbors
        for unit in (1.0, 2.0**-100)
    ]
    np.testing.assert_array_equal(*found)


def test_a_state_that_is_constant_but_for_rounding_is_named():
    total = 1 + np.spacing(1.0) * np.random.default_rng(0).integers(-1, 2, 30)
    data = srx.Trajectories.from_arrays(
        np.arange(30.0), np.column_stack([np.sin(np.arange(30.0)), total])
    )
    with pytest.raises(ValueError, match="State y2 is constant"):
        find_neighborhoods(data, 3)
