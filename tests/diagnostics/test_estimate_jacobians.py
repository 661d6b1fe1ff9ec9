"""Jacobians from data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import stiffrax as srx
from stiffrax.diagnostics import estimate_jacobians

MATRIX = np.array([[-0.5, 2.0], [-2.0, -0.1]])
TS = np.arange(30) * 0.1
STARTS = np.random.default_rng(0).normal(size=(4, 2))


def linear_runs():
    flows = np.stack([scipy.linalg.expm(MATRIX * t) for t in TS])
    return srx.Trajectories.from_arrays(TS, np.einsum("tij,rj->rti", flows, STARTS))


def pendulum(y):
    return jnp.stack([y[1], -jnp.sin(y[0])])


def many_pendulums():
    def step(y, _):  # Runge-Kutta of order 2 with 20 steps a sample
        for _ in range(20):
            y = y + 0.01 * pendulum(y + 0.005 * pendulum(y))
        return y, y

    starts = jnp.asarray(np.random.default_rng(1).uniform(-2, 2, (60, 2)))
    ys = jax.jit(jax.vmap(lambda y: jax.lax.scan(step, y, length=5)[1]))(starts)
    return srx.Trajectories.from_arrays(np.arange(5) * 0.2, np.asarray(ys))


def test_linear_system_is_found_exactly():
    data = linear_runs()
    fields = estimate_jacobians(data, 8, theiler=0)
    np.testing.assert_allclose(fields, np.broadcast_to(MATRIX, fields.shape), atol=1e-9)


def test_flow_is_the_exponential_and_ends_before_the_last_sample():
    flows = estimate_jacobians(linear_runs(), 8, theiler=0, kind="flow")
    expected = scipy.linalg.expm(MATRIX * 0.1)
    np.testing.assert_allclose(flows[:, :-1], np.broadcast_to(expected, (4, 29, 2, 2)), atol=1e-9)
    assert np.all(np.isnan(flows[:, -1]))


@pytest.mark.slow
def test_nonlinear_system_is_found_to_a_tenth_where_samples_surround_it():
    data = many_pendulums()
    found = estimate_jacobians(data, 10, theiler=0)
    true = jax.vmap(jax.vmap(jax.jacfwd(pendulum)))(data.ys)
    error = np.linalg.norm(found - true, axis=(2, 3)) / np.linalg.norm(true, axis=(2, 3))
    assert np.median(error) < 0.1


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='map'"):
        estimate_jacobians(linear_runs(), 8, kind="map")


def test_too_few_neighbors_are_refused():
    with pytest.raises(ValueError, match="`num_neighbors=2`"):
        estimate_jacobians(linear_runs(), 2)


def test_units_of_the_states_cost_no_digits():
    data, size = linear_runs(), np.array([1e-15, 1e4])
    fields = estimate_jacobians(srx.Trajectories.from_arrays(TS, data.ys * size), 8, theiler=0)
    expected = np.broadcast_to(MATRIX, fields.shape)
    np.testing.assert_allclose(fields / size[:, None] * size, expected, atol=1e-8)
