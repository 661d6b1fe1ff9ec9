"""Learned derivatives under exact constraints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def rates(t, y, args):
    return jnp.stack([-y[1], y[2]])


def total(t, y, args):
    return jnp.sum(y) - 1


Y = jnp.array([0.5, 0.2, 0.1])


def test_rows_are_derivatives_and_constraints_each_in_its_place():
    model = srx.ConstrainedField(rates, total, num_states=3, differential=(2, 0))
    np.testing.assert_allclose(model(0.0, Y), [0.1, -0.2, -0.2], rtol=1e-15)
    assert model.algebraic == (1,)
    np.testing.assert_array_equal(model.mass, [1, 0, 1])


def test_by_default_the_last_state_is_algebraic():
    assert srx.ConstrainedField(rates, total, num_states=3).differential == (0, 1)


def test_several_constraints_are_given_as_one_vector():
    model = srx.ConstrainedField(
        lambda t, y, args: -y[:1], lambda t, y, args: y[1:] - y[0], num_states=3, differential=(0,)
    )
    np.testing.assert_allclose(model(0.0, Y), [-0.5, -0.3, -0.4], rtol=1e-15)


def test_gradients_reach_the_learned_and_the_constraint():
    def loss(weights):
        model = srx.ConstrainedField(
            lambda t, y, args: weights[0] * rates(t, y, args),
            lambda t, y, args: weights[1] * total(t, y, args),
            num_states=3,
        )
        return jnp.sum(model(0.0, Y))

    np.testing.assert_allclose(jax.grad(loss)(jnp.ones(2)), [-0.1, -0.2], rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"differential": (0, 1, 2)}, "lists all 3 states"),
        ({"differential": (0, 3)}, "`differential` must be"),
        ({"differential": 0}, r"got 0: write for example `differential=\(0,\)`"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_states_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        srx.ConstrainedField(rates, total, num_states=3, **options)


@pytest.mark.parametrize(
    ("learned", "constraint", "name"),
    [(lambda t, y, args: y, total, "learned"), (rates, lambda t, y, args: y, "constraint")],
)
def test_parts_of_other_shapes_are_refused(learned, constraint, name):
    with pytest.raises(ValueError, match=f"`{name}` must return"):
        srx.ConstrainedField(learned, constraint, num_states=3)(0.0, Y)
