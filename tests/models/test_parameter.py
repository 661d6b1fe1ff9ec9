"""Parameters with scales and bounds."""

import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx


def test_a_positive_one_is_trained_by_its_logarithm():
    one = srx.positive(2.0, 0.5, 8.0)
    np.testing.assert_allclose([one.raw, one.lower, one.upper], np.log([2.0, 0.5, 8.0]))
    np.testing.assert_allclose(paramax.unwrap(one), 2.0)


def test_a_bounded_one_by_itself():
    assert paramax.unwrap(srx.bounded([1.0, -1.0], -2.0, 2.0)).tolist() == [1.0, -1.0]


def test_a_fixed_one_stays():
    assert paramax.unwrap({"a": srx.fixed(3.0)})["a"] == 3.0


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (srx.positive, (0.0,), "value and bounds on a logarithmic scale are positive"),
        (srx.positive, (1.0, -1.0), "value and bounds on a logarithmic scale are positive"),
        (srx.positive, (1.0, 2.0, 3.0), "it needs lower < upper and a value between them"),
        (srx.bounded, (0.0, 1.0, -1.0), "it needs lower < upper and a value between them"),
    ],
)
def test_values_outside_of_bounds_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


def test_plain_numbers_of_a_system_are_known_and_those_of_its_field_are_not():
    system = srx.System(lambda t, y, args: -y, jnp.ones(1), sd={"A": 0.1}, states=["A"])
    assert isinstance(system.initial_state, paramax.NonTrainable)
    assert isinstance(system.sd["A"], paramax.NonTrainable)
