import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages import StageSystem, flat_field
from stiffrax.stages._lanes import linearization_point, while_open
from stiffrax.tableaus import radau_iia


def halvings(start, floor, few=False):
    """How often `start` is halved until it is below `floor`, and what is left."""
    is_open = lambda floor, carry: carry[0] > floor["floor"]
    body = lambda floor, carry: (carry[0] / 2, carry[1] + 1)
    fixed, carry = {"floor": floor, "name": "static"}, (start, jnp.asarray(0))
    return while_open(is_open, body, fixed, carry, few)


def by_hand(start, floor):
    count = 0
    while start > floor:
        start, count = start / 2, count + 1
    return start, count


STARTS = 2.0 ** np.random.default_rng(0).integers(-3, 40, size=200)


def test_one_lane_is_a_while_loop():
    assert halvings(jnp.asarray(9.0), jnp.asarray(1.0)) == by_hand(9.0, 1.0)


# Below and above the size from which the last lanes are packed, once and twice.
@pytest.mark.parametrize(
    ("lanes", "few"), [(1, False), (5, False), (63, False), (64, False), (100, True), (200, False)]
)
def test_every_lane_of_a_batch_ends_where_it_would_alone(lanes, few):
    run = jax.jit(jax.vmap(lambda start: halvings(start, jnp.asarray(1.0), few)))
    found = run(jnp.asarray(STARTS[:lanes]))
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
    assert 64 + 29 <= len(calls) <= 64 + 8 * 30


def test_a_loop_for_few_lanes_has_its_body_once_in_the_program():
    def bodies(few):
        start = jnp.full(64, 2.0)
        program = str(jax.make_jaxpr(jax.vmap(lambda x: halvings(x, 1.0, few)))(start))
        return program.count("div")

    assert 0 < bodies(few=True) < bodies(few=False)


TABLEAU = radau_iia(1)


def point(ok, y0, p):
    """The start and the parameter of the system at which derivatives are taken, and its stage."""
    t, h = jnp.array(0.0), jnp.array(0.1)
    field, flat, _ = flat_field(lambda t, y: p * jnp.sqrt(y), t, y0)
    system = StageSystem(TABLEAU, field, t, h, h, flat, None)
    system, Z = linearization_point(system, jnp.full((1, 1), 7.0), ok)
    # The slope at one shows the parameter, which is hidden in the closure of the field.
    return system.y0[0], system.field(t, jnp.ones(1))[0], Z[0, 0]


def test_a_healthy_step_is_its_own_point():
    assert point(jnp.array(True), jnp.array([2.0]), 3.0) == (2.0, 3.0, 7.0)


def test_a_failed_step_alone_is_linearized_at_its_start():
    assert point(jnp.array(False), jnp.array([2.0]), 3.0) == (2.0, 3.0, 0.0)


def test_a_start_without_finite_derivative_is_replaced_by_ones():
    for start in (jnp.nan, -1.0, 0.0):  # at zero the root is finite, its derivative is not
        assert point(jnp.array(False), jnp.array([start]), 3.0) == (1.0, 3.0, 0.0)


def test_a_failed_lane_borrows_all_that_a_healthy_lane_has_of_its_own():
    ok = jnp.array([False, True, True])
    y0, p = jnp.array([[jnp.nan], [2.0], [4.0]]), jnp.array([jnp.nan, 3.0, 5.0])
    y0, p, Z = jax.vmap(point)(ok, y0, p)
    assert y0.tolist() == [2.0, 2.0, 4.0]
    assert p.tolist() == [3.0, 3.0, 5.0]
    assert Z.tolist() == [7.0, 7.0, 7.0]


def test_a_batch_that_failed_as_a_whole_borrows_from_the_next_batch():
    ok = jnp.array([[False, False], [False, True]])
    y0 = jnp.array([[jnp.nan, jnp.nan], [jnp.nan, 2.0]])[..., None]
    batched = jax.vmap(jax.vmap(point, (0, 0, None)), (0, 0, None))
    y0, _, _ = batched(ok, y0, 3.0)
    assert y0.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_lanes_that_failed_all_are_linearized_as_if_alone():
    y0, _, Z = jax.vmap(point, (0, 0, None))(
        jnp.array([False, False]), jnp.array([[2.0], [jnp.nan]]), 3.0
    )
    assert y0.tolist() == [2.0, 1.0]
    assert Z.tolist() == [0.0, 0.0]


def test_shared_parameters_are_not_copied_for_every_lane():
    def slopes(p):
        batched = jax.vmap(lambda ok, y0: point(ok, y0, jnp.sum(p)))
        return batched(jnp.array([True, False]), jnp.ones((2, 1)))

    parameters = jnp.full(1000, 3.0)
    program = str(jax.make_jaxpr(slopes)(parameters))
    assert "f64[1000]" in program
    assert "f64[2,1000]" not in program


def matrix_of_point(ok, y0, P):
    """The matrix in the field of the system at which derivatives are taken."""
    t, h = jnp.array(0.0), jnp.array(0.1)
    field, flat, _ = flat_field(lambda t, y: P @ y, t, y0)
    system, _ = linearization_point(
        StageSystem(TABLEAU, field, t, h, h, flat, None), jnp.ones((1, 2)), ok
    )
    arrays = jax.tree.leaves(eqx.filter(system.field, eqx.is_array))
    return next(x for x in arrays if x.shape == (2, 2))


def test_what_all_lanes_share_they_share_at_the_point_too():
    P, ok = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([False, True, False])
    # `out_axes=None` is refused for an array that has one entry a lane.
    shared = jax.vmap(matrix_of_point, (0, 0, None), None)(ok, jnp.ones((3, 2)), P)
    assert shared.tolist() == P.tolist()


def test_a_batch_that_failed_borrows_the_parameters_that_its_lanes_share():
    P = jnp.array([[[jnp.nan, 1.0], [1.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    ok = jnp.array([[False, False], [False, True]])
    over_lanes = jax.vmap(matrix_of_point, (0, 0, None), None)
    points = jax.vmap(over_lanes)(ok, jnp.ones((2, 2, 2)), P)
    assert points.tolist() == [P[1].tolist()] * 2


def test_what_is_lent_is_a_point_and_no_dependence():
    def lent(y0):
        return jnp.sum(jax.vmap(point, (0, 0, None))(jnp.array([False, True]), y0, 3.0)[0])

    assert jax.grad(lent)(jnp.array([[5.0], [2.0]])).tolist() == [[0.0], [1.0]]
