import equinox as eqx
import jax
import jax.numpy as jnp

from stiffrax.stages import StageSystem, flat_field
from stiffrax.stages._lanes import linearization_point
from stiffrax.tableaus import radau_iia

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
