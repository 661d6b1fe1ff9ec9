"""The examples of equation recovery find what they say."""

import functools
import runpy
from pathlib import Path

import jax
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ORDERS = {"backward Euler": 1, "trapezoid": 2, "Radau IIA 3": 3, "Radau IIA 5": 5}


def run(name):
    # As users run them, without the strict promotion of the tests.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.slow
def test_the_rates_of_robertson_are_found_within_a_thousandth():
    comparison = run("24_robertson_rates")["comparison"]
    assert comparison.num_missing == 0
    assert comparison.num_extra == 0
    assert comparison.largest_relative_error < 1e-3


@pytest.mark.slow
def test_the_missing_reaction_of_hires_is_found_from_four_runs():
    found = run("25_partially_known_hires")
    assert found["data"].num_runs == 4
    assert found["comparison"].num_missing == 0
    assert found["comparison"].num_extra == 0
    assert found["comparison"].largest_relative_error < 1e-3


@functools.cache
def stand_ins():
    return run("21_quadratic_stand_ins")["slopes"]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["Kaps' problem", "three equations"])
def test_errors_of_recovered_coefficients_fall_with_the_order_of_the_method(system):
    for method, order in ORDERS.items():
        assert stand_ins()[system][method] == pytest.approx(order, abs=0.3)
