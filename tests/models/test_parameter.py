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


@pytest.mark.parametrize(
    "number",
    ["0.5", 1j, np.array(1j), [1.0, "2"], [None, "2"], [None, np.timedelta64(5, "s")]],
    ids=repr,
)
def test_text_and_complex_numbers_are_no_parameters(number):
    for make in (srx.positive, srx.bounded):
        with pytest.raises(ValueError, match=r"`(positive|bounded)` is a .* needs real numbers"):
            make(number)


def test_a_bound_is_a_number():
    for make in (srx.positive, srx.bounded):
        with pytest.raises(ValueError, match="bounds are numbers"):
            make(1.0, np.nan)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("make", [srx.positive, srx.bounded])
def test_an_array_of_bounds_is_refused(make):
    with pytest.raises(ValueError, match="Write a parameter for each number"):
        make([1.0, 2.0], lower=np.array([0.1, 0.2]))


def test_a_system_names_a_parameter_that_is_no_number():
    for wrong, message in (("0.5", "real numbers"), (1j, "real numbers"), (np.nan, "is NaN")):
        with pytest.raises(ValueError, match=r"`parameters\['k'\]` .*" + message):
            srx.System(lambda t, y, args: y, [1.0], parameters={"k": wrong})
    with pytest.raises(ValueError, match="`initial_state` is a"):
        srx.System(lambda t, y, args: y, ["1.0"])
