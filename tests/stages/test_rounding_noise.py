import jax.numpy as jnp
import pytest

from stiffrax.stages import explained_by_rounding

EPS = 2.0**-23


def explained(displacement, y, size=None):
    y = jnp.asarray(y, jnp.float32)
    size = jnp.abs(y) if size is None else jnp.asarray(size, jnp.float32)
    return bool(explained_by_rounding(displacement, y, displacement(y), size, jnp.asarray(True)))


@pytest.mark.parametrize(("digits", "is_noise"), [(5.0, True), (1e3, False)])
def test_a_few_last_digits_of_a_component_are_rounding_and_many_are_not(digits, is_noise):
    dy = jnp.array([0.0, 1e-3 * digits * EPS], jnp.float32)
    assert explained(lambda y: dy, [1.0, 1e-3]) == is_noise


@pytest.mark.parametrize(("digits", "is_noise"), [(4.0, True), (1e4, False)])
def test_a_small_difference_of_large_terms_is_rounded_as_these_are(digits, is_noise):
    def displacement(y):
        return jnp.stack([0 * y[0], 0 * y[1] + (y[0] + 1e-3 - 1.001) + digits * EPS])

    assert explained(displacement, [1.0, 1e-4]) == is_noise


def test_how_fast_an_iteration_with_a_frozen_jacobian_diverges_is_not_rounding():
    assert not explained(lambda y: 1e4 * (1 - y), [1 + 1e-2])


def test_stages_of_a_component_are_measured_together():
    def displacement(y):
        # Only the first stage is seen to be rounded.
        return jnp.stack([jnp.sin(1e9 * y[0]) * 1e-4, 0 * y[1] + 1e-4])

    assert explained(displacement, [[1.0], [1.0]], size=[1.0])
    assert not explained(displacement, [[1.0], [1.0]], size=[[1.0], [1.0]])


@pytest.mark.parametrize(("digits", "is_noise"), [(2.0, True), (1e4, False)])
def test_the_edge_of_a_domain_tells_nothing(digits, is_noise):
    assert explained(lambda y: jnp.sqrt(y - 1) + digits * EPS, [1.0]) == is_noise
