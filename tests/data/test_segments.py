"""Segments: pairs of consecutive present samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx


def ragged():
    """Runs of 4 (one missing in the middle), 2 and 3 samples."""
    ts = [np.array([0.0, 1.0, 2.0, 4.0]), np.array([5.0, 6.0]), np.array([7.0, 8.0, 10.0])]
    ys = [np.stack([t, t**2], axis=-1) for t in ts]
    ys[0][2] = np.nan
    return srx.Trajectories.from_arrays(
        ts, ys, mask=[np.array([True, True, False, True]), np.ones(2, bool), np.ones(3, bool)]
    )


def test_segments_join_the_neighbors_of_a_missing_sample():
    segments = ragged().segments()
    spans = np.stack([segments.t0, segments.t1], axis=-1)[segments.mask]
    np.testing.assert_array_equal(spans, [[0, 1], [1, 4], [5, 6], [7, 8], [8, 10]])


def test_segments_carry_the_states_at_their_ends():
    segments = ragged().segments()
    np.testing.assert_array_equal(segments.y0[:, 1], segments.t0**2)
    np.testing.assert_array_equal(segments.y1[:, 1], segments.t1**2)


def test_segments_without_a_measurement_are_healthy_steps():
    segments = ragged().segments()
    assert len(segments.mask) == 6
    assert segments.mask.sum() == ragged().num_segments == 5
    assert (segments.t1 > segments.t0).all()
    assert all(np.isfinite(values).all() for values in segments)


def test_segments_are_the_same_under_jit():
    compiled = eqx.filter_jit(lambda data: data.segments())(ragged())
    for traced, host in zip(compiled, ragged().segments(), strict=True):
        np.testing.assert_array_equal(traced, host)


def test_segments_of_host_data_keep_double_precision_where_jax_has_single():
    ts = 1e6 + 1e-3 * np.arange(3)
    with jax.enable_x64(False):
        segments = srx.Trajectories.from_arrays(ts, np.ones((3, 1))).segments()
    np.testing.assert_allclose(segments.t1 - segments.t0, 1e-3, rtol=1e-6)


def test_gradient_flows_to_the_samples_that_are_present():
    data = ragged()

    def loss(ys):
        segments = eqx.tree_at(lambda d: d.ys, data, ys).segments()
        return jnp.sum(jnp.where(segments.mask[:, None], segments.y1 - segments.y0, 0.0))

    gradient = jax.grad(loss)(jnp.asarray(data.ys))
    np.testing.assert_array_equal(gradient[1, :, 0], [-1, 1, 0])
