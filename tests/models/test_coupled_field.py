"""Vector fields drawn toward a path."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TARGET = srx.SmoothingSpline(np.arange(5.0), np.full((5, 2), [1.0, -1.0]))
Y = jnp.array([3.0, 2.0])


def field(t, y, args):
    return jnp.zeros(2)


@pytest.mark.parametrize(
    ("coupling", "expected"),
    [
        (2.0, [-4.0, -6.0]),
        (np.array([1.0, 0.0]), [-2.0, 0.0]),
        (np.array([[0.0, 1.0], [0.0, 0.0]]), [-3.0, 0.0]),
    ],
    ids=["number", "one a state", "matrix"],
)
def test_coupling_pulls_toward_the_path(coupling, expected):
    coupled = srx.CoupledField(field, TARGET, coupling)
    np.testing.assert_allclose(coupled(0.3, Y), expected, atol=1e-12)


def test_strength_zero_is_the_field_itself():
    coupled = srx.CoupledField(lambda t, y, args: args * y, TARGET, 5.0, strength=0.0)
    np.testing.assert_array_equal(coupled(0.3, Y, 2.0), 2 * Y)


@pytest.mark.slow
def test_strong_coupling_keeps_a_solution_of_the_wrong_field_at_the_path():
    coupled = srx.CoupledField(lambda t, y, args: 0.5 * y, TARGET, 100.0)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(coupled),
        srx.RadauIIA5(),
        0.0,
        4.0,
        None,
        Y,
        stepsize_controller=diffrax.PIDController(1e-6, 1e-6),
    )
    np.testing.assert_allclose(solution.ys[-1], [1.0, -1.0], atol=0.01)


@pytest.mark.parametrize("coupling", [np.ones(3), np.ones((2, 1)), np.ones((2, 2, 2))])
def test_coupling_of_the_wrong_shape_is_refused(coupling):
    with pytest.raises(ValueError, match="for 2 states"):
        srx.CoupledField(field, TARGET, coupling)(0.0, Y)


@pytest.mark.usefixtures("unchecked_types")
def test_whole_states_are_numbers_like_others():
    target = srx.SmoothingSpline(np.linspace(0.0, 1.0, 6), np.full((6, 1), 1.5))
    coupled = srx.CoupledField(lambda t, y, args: -y, target, coupling=0.5, strength=0.5)
    np.testing.assert_allclose(coupled(0.5, jnp.array([3])), [-3.375], rtol=1e-6)
