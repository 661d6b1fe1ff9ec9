"""Strengths of the coupling from one to zero."""

import numpy as np
import pytest

import stiffrax as srx


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (2, [1, 0]),
        (6, [1, 0.5663, 0.3060, 0.1499, 0.0562, 0]),
        (8, [1, 0.5885, 0.3416, 0.1934, 0.1045, 0.0512, 0.0192, 0]),
    ],
)
def test_decrements_shrink_by_the_ratio(values, expected):
    schedule = srx.HomotopySchedule(values=values, steps=10)
    np.testing.assert_allclose(schedule.strengths, expected, atol=6e-5)
    assert schedule.strengths[-1] == 0.0
    assert schedule.total_steps == 10 * values


@pytest.mark.parametrize("options", [{"values": 1}, {"steps": 0}, {"ratio": -0.5}])
def test_wrong_option_is_named(options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        srx.HomotopySchedule(**options)


def test_a_ratio_whose_powers_no_number_holds_has_strengths_all_the_same():
    strengths = srx.HomotopySchedule(values=4, ratio=1e200).strengths
    np.testing.assert_array_equal(strengths, [1.0, 1.0, 1.0, 0.0])
