import math

import jax.numpy as jnp
import pytest

from stiffrax.stages import explained_by_rounding

EPS = 2.0**-23


def judged(displacement, y, size, timed=None, near=lambda dy: jnp.asarray(True)):
    asked, dy = jnp.asarray(True), displacement(y, jnp.asarray(0))
    timed = None if timed is None else jnp.asarray(timed)
    return bool(explained_by_rounding(displacement, y, dy, size, near, asked, timed=timed))


def explained(displacement, y, size=None):
    y = jnp.asarray(y, jnp.float32)
    size = jnp.abs(y) if size is None else jnp.asarray(size, jnp.float32)
    return judged(lambda y, digits: displacement(y), y, size)


@pytest.mark.parametrize(("change", "is_noise"), [(1e-11, True), (1e-9, False)])
def test_in_double_precision_a_negligible_part_of_a_component_is_as_good(change, is_noise):
    y = jnp.array([1e3, 1e-15])
    dy = jnp.array([0.0, 1e-15 * change])
    assert judged(lambda y, digits: dy, y, jnp.abs(y)) == is_noise


@pytest.mark.parametrize(("digits", "is_noise"), [(5.0, True), (1e3, False)])
def test_a_few_last_digits_of_a_component_are_rounding_and_many_are_not(digits, is_noise):
    dy = jnp.array([0.0, 1e-3 * digits * EPS], jnp.float32)
    assert explained(lambda y: dy, [1.0, 1e-3]) == is_noise


@pytest.mark.parametrize(("digits", "is_noise"), [(4.0, True), (1e4, False)])
def test_a_small_difference_of_large_terms_is_rounded_as_these_are(digits, is_noise):
    def displacement(y):
        # Of a single sum or product neighbors may all be rounded alike.
        large = jnp.exp(y[0]) + jnp.sin(3 * y[0])
        same = math.exp(0.83) + math.sin(2.49) + 1e-4
        return jnp.stack([0 * y[0], (large + y[1] - same) + digits * EPS])

    assert explained(displacement, [0.83, 1e-4]) == is_noise


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


@pytest.mark.parametrize(("digits", "is_noise"), [(3.0, True), (10.0, False)])
def test_a_few_last_digits_of_the_time_are_rounding_and_many_are_not(digits, is_noise):
    y, dy = jnp.array([1.0, 2.0]), jnp.array([0.0, 1e-5])

    def displacement(y, later):
        return dy * (1 + later.astype(y.dtype) / digits)

    # Far more than near the iterate counts as rounding: only what the time makes of it does not.
    near = lambda dy: jnp.all(dy < 1e-12)
    assert judged(displacement, y, jnp.abs(y), timed=True, near=near) == is_noise
    assert not judged(displacement, y, jnp.abs(y), timed=False, near=near)


def test_a_jump_in_time_next_to_a_stage_is_not_rounding():
    y, dy = jnp.array([1.0]), jnp.array([1e-5])
    near = lambda dy: jnp.all(dy < 1e-12)
    jumps = lambda y, digits: dy + jnp.where(digits < 0, 1.0, 0.0)
    assert not judged(jumps, y, y, timed=True, near=near)
