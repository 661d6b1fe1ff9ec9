import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages._lanes import while_open


def halvings(start, floor):
    """How often `start` is halved until it is below `floor`, and what is left."""
    is_open = lambda floor, carry: carry[0] > floor["floor"]
    body = lambda floor, carry: (carry[0] / 2, carry[1] + 1)
    return while_open(is_open, body, {"floor": floor, "name": "static"}, (start, jnp.asarray(0)))


def by_hand(start, floor):
    count = 0
    while start > floor:
        start, count = start / 2, count + 1
    return start, count


STARTS = 2.0 ** np.random.default_rng(0).integers(-3, 40, size=200)


def test_one_lane_is_a_while_loop():
    assert halvings(jnp.asarray(9.0), jnp.asarray(1.0)) == by_hand(9.0, 1.0)


# Below and above the size from which the last lanes are packed, once and twice.
@pytest.mark.parametrize("lanes", [1, 5, 63, 64, 100, 200])
def test_every_lane_of_a_batch_ends_where_it_would_alone(lanes):
    found = jax.jit(jax.vmap(halvings, (0, None)))(jnp.asarray(STARTS[:lanes]), jnp.asarray(1.0))
    expected = [by_hand(start, 1.0) for start in STARTS[:lanes]]
    np.testing.assert_array_equal(found[0], [x for x, _ in expected])
    np.testing.assert_array_equal(found[1], [k for _, k in expected])


def test_batches_of_batches_end_where_each_lane_would_alone():
    starts = jnp.asarray(STARTS).reshape(2, 100)
    floors = jnp.array([1.0, 4.0])
    nested = jax.jit(jax.vmap(jax.vmap(halvings, (0, None))))(starts, floors)
    for k in range(2):
        alone = jax.vmap(halvings, (0, None))(starts[k], floors[k])
        np.testing.assert_array_equal(nested[1][k], alone[1])


def test_a_lane_with_nan_is_done_and_holds_up_nobody():
    starts = jnp.asarray(STARTS).at[7].set(jnp.nan)
    value, count = jax.vmap(halvings, (0, None))(starts, jnp.asarray(1.0))
    assert jnp.isnan(value[7])
    assert count[7] == 0
    assert jnp.all(jnp.delete(value, 7) <= 1.0)


def test_few_slow_lanes_do_not_make_the_others_repeat_the_body():
    calls = []

    def body(floor, carry):
        jax.debug.callback(lambda x: calls.append(x), carry[0])
        return (carry[0] / 2, carry[1] + 1)

    def run(start):
        is_open = lambda floor, carry: carry[0] > floor
        return while_open(is_open, body, jnp.asarray(1.0), (start, jnp.asarray(0)))

    starts = jnp.full(64, 2.0).at[3].set(2.0**30)
    jax.block_until_ready(jax.jit(jax.vmap(run))(starts))
    jax.effects_barrier()
    # One pass over all 64, then eight lanes at a time: the slow one and those that fill the room.
    assert len(calls) <= 64 + 8 * 30
