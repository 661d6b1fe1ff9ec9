"""Names of states and columns that one data set gave and others are held to."""

import dataclasses

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from lines_without_solves import LOSS, by_formula, measured, system

import stiffrax as srx
from stiffrax.losses import check_columns, with_states
from stiffrax.losses._model_and_data import columns_with_spread

A_B = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 0.4], "B": [0.0, 0.6]})
B_A = srx.Measurements.from_table({"t": [0.0, 1.0], "B": [0.0, 0.6], "A": [1.0, 0.4]})
A = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 0.4]})
B = srx.Measurements.from_table({"t": [0.0, 1.0], "B": [0.0, 0.6]})


def decay(t, y, args):
    return jnp.stack([-y[0], y[0]])


def test_states_that_the_columns_name_stay_in_their_order():
    named = with_states(srx.System(decay), A_B)
    assert named.states == ("A", "B")
    values = eqx.filter_jit(srx.LikelihoodLoss(diffrax.Bosh3()).simulate)(named, B_A).values
    np.testing.assert_allclose(values[0, 1], [1 - np.exp(-1), np.exp(-1)], rtol=1e-3)


@pytest.mark.parametrize("way", ["fit_parameters", "fit"])
def test_a_fit_keeps_them(way):
    unnamed = dataclasses.replace(system(), states=())
    train = measured()
    with by_formula():
        if way == "fit":
            assert srx.fit(unnamed, train, LOSS, steps=1).model.states == ("A", "B")
        else:
            found = srx.fit_parameters(unnamed, train, LOSS, max_steps=1)
            assert found.system.states == ("A", "B")


def listed(t, y, args):
    return y


def by_name(t, y, args):
    return {"A": y[0], "B": y[1]}


@pytest.mark.parametrize(
    ("parts", "name"),
    [({"observe": listed}, "observe"), ({"sd": listed}, "sd"), ({"sd": [0.1, 0.2]}, "sd")],
)
def test_arrays_in_the_order_of_the_columns_refuse_others(parts, name):
    listing = srx.System(decay, jnp.ones(2), states=["A", "B"], **parts)
    check_columns(listing, A_B, A_B)
    for other in (B_A, B):
        with pytest.raises(ValueError, match=rf"\('B'.*\('A', 'B'\).*`{name}` returns an array"):
            check_columns(listing, A_B, other)


def test_what_goes_by_name_takes_any():
    for sd in (None, 0.1, by_name, {"A": 0.1}):
        check_columns(srx.System(decay, observe=by_name, sd=sd), A_B, B_A)


def test_a_spread_by_states_that_have_no_names_is_asked_at_the_start_given():
    def spread(t, y, args):
        a, b = y
        return {"A": 0.1 + a * b}

    unnamed = srx.System(decay, jnp.ones(2), observe=lambda t, y, args: {"A": y[0]}, sd=spread)
    assert columns_with_spread(unnamed, A) == ("A",)
