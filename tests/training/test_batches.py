"""What losses, plain functions and transforms see of the runs in a step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._batches import make_batches, replicate, whole

TS = np.array([0.0, 0.1, 0.3, 0.7, 1.5, 2.0])
RAGGED = srx.Trajectories.from_arrays(
    [TS, TS[:3]], [np.exp(-TS)[:, None], 2 * np.exp(-TS[:3])[:, None]]
)
SEGMENTS = srx.SegmentLoss()
KEY = jax.random.key(0)


def plain(model, data):
    return jnp.zeros(())


def unchanged(data):
    return data


def drawn(loss, size=None, transform=None, step=0):
    batches = make_batches(loss, RAGGED, size, None, transformed=transform is not None)
    return eqx.filter_jit(batches.draw)(KEY, jnp.asarray(step), transform or unchanged)


def early(data):
    return srx.GrowingHorizon(first=0.35, steps=10)(data, jnp.asarray(0), KEY)


def test_segments_of_ragged_runs_are_drawn_without_those_that_are_missing():
    data = drawn(SEGMENTS)
    assert data.ts.shape == (7, 2)
    assert np.all(data.mask)


@pytest.mark.parametrize("loss", [SEGMENTS + plain, 2.0 * (0.5 * SEGMENTS + plain)])
def test_a_plain_function_in_a_sum_sees_whole_runs(loss):
    np.testing.assert_array_equal(drawn(loss).ts, RAGGED.ts)


def test_losses_of_segments_in_a_sum_see_segments():
    assert drawn(SEGMENTS + 0.1 * SEGMENTS).ts.shape == (7, 2)


@pytest.mark.parametrize("term", [plain, srx.RoughnessPenalty()], ids=["function", "penalty"])
def test_on_a_mesh_what_is_added_to_segments_sees_whole_runs(term):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("runs",))
    data = make_batches(SEGMENTS + term, RAGGED, None, mesh).data
    np.testing.assert_array_equal(data.ts, RAGGED.ts)
    np.testing.assert_array_equal(whole(SEGMENTS + term, RAGGED, mesh).ts, RAGGED.ts)


@pytest.mark.parametrize("size", [None, 7])
def test_a_growing_horizon_counts_from_the_start_of_runs_not_of_segments(size):
    data = drawn(SEGMENTS, size, early)
    seen = np.asarray(data.mask[:, 1])
    np.testing.assert_array_equal(np.sort(np.asarray(data.ts[:, 1])[seen]), [0.1, 0.1, 0.3, 0.3])


def with_arrays(data, *arrays):
    return eqx.tree_at(lambda d: (d.ts, d.ys, d.mask), data, arrays)


def thinned(data):
    """Every second sample, the longer run last."""
    return with_arrays(data, *(x[::-1, ::2] for x in (data.ts, data.ys, data.mask)))


def copied(data):
    twice = (jnp.concatenate([x, x]) for x in (data.ts, data.ys, data.mask))
    return with_arrays(data, *twice)


def filled(data):
    """The samples that the second run lacks are made up."""
    ts = jnp.broadcast_to(TS, data.ts.shape)
    return with_arrays(data, ts, 2 * jnp.exp(-ts)[..., None], jnp.ones_like(data.mask))


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("transform", "ends"),
    [
        (thinned, [0.3, 0.3, 1.5]),
        (copied, [0.1, 0.3] * 4 + [0.7, 1.5, 2.0] * 2),
        (filled, [*TS[1:]] * 2),
    ],
)
def test_each_segment_that_a_transform_leaves_or_makes_is_seen_once(transform, ends, size):
    steps = range(1 if size is None else len(ends))
    batches: list[Any] = [drawn(SEGMENTS, size, transform, step) for step in steps]
    seen = np.concatenate([np.asarray(data.ts[:, 1])[data.mask[:, 1]] for data in batches])
    np.testing.assert_allclose(np.sort(seen), np.sort(ends))


def test_a_batch_of_more_windows_than_a_transform_leaves_is_refused():
    with pytest.raises(
        ValueError, match="`batch_size=7` was given; it needs an integer from 1 to 4"
    ):
        drawn(SEGMENTS, 7, thinned)


def test_a_minibatch_under_a_growing_horizon_is_of_samples_that_are_seen():
    data = drawn(SEGMENTS, 4, early)
    assert np.all(data.mask)
    assert np.max(data.ts) <= 0.35


@pytest.mark.parametrize("transform", [None, early], ids=["all", "early"])
def test_no_segment_comes_twice_before_each_that_is_seen_has_come(transform):
    batches: list[Any] = [drawn(SEGMENTS, 2, transform, step) for step in range(2)]
    starts = np.concatenate([data.ys[:, 0, 0] for data in batches])
    assert len(set(starts.tolist())) == 4
    assert all(np.all(data.mask) for data in batches)


def test_a_batch_larger_than_what_is_seen_holds_all_of_it_once():
    data = drawn(SEGMENTS, 6, early)
    assert np.sum(np.asarray(data.mask)[:, 1]) == 4


def test_random_keys_are_put_on_the_devices_of_a_mesh():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("runs",))
    key = jax.random.key(3)
    (copy,) = replicate((key,), mesh)
    assert jnp.array_equal(jax.random.key_data(copy), jax.random.key_data(key))
    assert copy.sharding.mesh == mesh
