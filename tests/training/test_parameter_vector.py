"""Which numbers of a system are parameters, under which names and bounds; nothing is solved."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._parameter_vector import ParameterVector

REACTIONS, RATES = ["A -> B", "B -> A", "A -> 0"], [0.5, 0.1, 0.2]
ACTIVE = [True, False, True]


def vector(rates: object = RATES, active: object = ACTIVE):
    network = srx.ReactionNetwork(REACTIONS, rates=rates, active=active)
    return ParameterVector(srx.System(network, jnp.array([1.0, 0.0])))


def test_rates_of_reactions_are_named_by_them_and_never_negative():
    found = vector()
    assert found.names == ["field.rates['A -> B']", "field.rates['A -> 0']"]
    assert found.index("A -> 0") == 1
    assert (found.lower.tolist(), found.upper.tolist()) == ([0, 0], [np.inf, np.inf])


def test_rates_on_a_scale_of_their_own_have_its_bounds():
    found = vector(srx.positive(RATES, 1e-3, 10.0))
    np.testing.assert_allclose(np.exp(found.lower), 1e-3)
    np.testing.assert_allclose(np.exp(found.upper), 10.0)
    np.testing.assert_allclose(found.system(np.log([3.0, 4.0])).field.rates, [3, 0, 4])


def test_the_scale_of_a_linear_parameter_is_a_guess():
    fields = [
        srx.bounded(2.0, 0.0, 5.0),
        srx.bounded(1e-11, 0.0),
        srx.positive(3.0),
        jnp.array(0.0),
    ]
    found = ParameterVector(fields)
    np.testing.assert_allclose(found.scale, [0.5, 1e-11, 1.0, 1.0])
    assert found.guessed.tolist() == [True, True, False, True]


def test_what_is_switched_off_is_no_parameter_and_stays():
    np.testing.assert_allclose(vector().start, [0.5, 0.2])
    np.testing.assert_allclose(vector().system(np.array([3.0, 4.0])).field.coefficients, [3, 0, 4])
    assert len(vector(active=None)) == 3


def test_two_parameters_of_one_name_are_refused():
    class Rates(eqx.Module):
        k: Any
        _k: Any

    rates = Rates(srx.positive(1.0), srx.positive([2.0]))
    assert ParameterVector(rates).names == ["k", "k[0]"]
    with pytest.raises(ValueError, match=r"one name of \['k', 'k'\]"):
        ParameterVector(Rates(srx.positive(1.0), srx.positive(2.0)))


@pytest.mark.usefixtures("unchecked_types")
def test_a_list_of_names_is_no_name():
    with pytest.raises(ValueError, match=r"no parameter \['A -> B'\]"):
        vector().index(["A -> B"])


def test_terms_within_terms_are_found():
    inner = srx.Polynomial(1, degree=1, coefficients=[[0.0, 2.0]], active=[[False, True]])
    library = srx.Library([inner], num_states=1, coefficients=[[3.0]])
    found = ParameterVector(srx.System(library))
    assert found.names == ["field.functions[0].coefficients[0][1]", "field.coefficients[0][0]"]
    assert found.start.tolist() == [2, 3]


def test_rates_that_are_fixed_are_none():
    with pytest.raises(ValueError, match="no parameter to fit"):
        vector(srx.fixed(jnp.array(RATES)))


def test_a_network_of_which_all_is_off_has_none():
    with pytest.raises(ValueError, match="no parameter to fit"):
        vector(active=[False] * 3)


def test_a_rate_that_another_fit_left_below_zero_begins_there():
    network = srx.ReactionNetwork(["A -> B"]).with_coefficients([-1.0])
    assert ParameterVector(srx.System(network)).start.tolist() == [0.0]


def test_names_that_differ_by_an_underscore_are_two_parameters():
    parameters = {"k": jnp.array(1.0), "_k": jnp.array(2.0)}
    found = ParameterVector(srx.System(lambda t, y, args: -y, jnp.ones(1), parameters=parameters))
    assert {"parameters.k", "parameters._k"} <= set(found.names)
