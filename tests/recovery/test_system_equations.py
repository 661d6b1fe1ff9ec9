"""Equations of measured systems, whose functions read the conditions of a run."""

import jax.numpy as jnp
import pytest
import sympy

import stiffrax as srx

DATA = srx.Measurements.from_arrays(
    [0.0, 1.0], [[1.0], [0.5]], names=["A"], constants={"ligand": [4.0]}, run_names=["a"]
)


def system(field, **options):
    parameters = {"k": srx.positive(2.0)}
    return srx.System(field, jnp.ones(1), states=["A"], parameters=parameters, **options)


def test_parameters_need_no_args_and_names_are_those_of_the_states():
    found = system(lambda t, y, args: -args["k"] * y)
    assert srx.to_sympy(found) == (-2 * sympy.Symbol("A"),)
    assert srx.to_text(found) == "dA/dt = -2*A"
    assert srx.to_text(system(lambda t, y, args: -args.parameters["k"] * y)) == "dA/dt = -2*A"


def test_those_of_a_network_are_its_species():
    network = srx.ReactionNetwork(["A -> B"], rates=srx.positive([3.0]))
    assert srx.to_text(srx.System(network)) == "dA/dt = -3*A\ndB/dt = 3*A"


def test_conditions_are_put_in():
    found = system(lambda t, y, args: -args["ligand"] * y)
    args = DATA.conditions("a")
    assert srx.to_sympy(found, args=args) == (-4 * sympy.Symbol("A"),)


def test_conditions_of_data_have_the_parameters_of_the_system():
    found = system(lambda t, y, args: -args["k"] * args["ligand"] * y)
    assert srx.to_sympy(found, args=DATA.conditions("a")) == (-8 * sympy.Symbol("A"),)


@pytest.mark.parametrize(
    ("field", "what"),
    [
        (lambda t, y, args: -args["ligand"] * y, r"args\['ligand'\]"),
        (lambda t, y, args: -args.run * y, "args.run"),
    ],
)
def test_without_args_they_are_asked_for(field, what):
    with pytest.raises(ValueError, match=f"read `{what}`, and no `args` were given"):
        srx.to_sympy(system(field))


def test_a_field_under_a_mass_matrix_is_no_rate_of_change():
    with pytest.raises(ValueError, match="has a mass matrix"):
        srx.to_sympy(system(lambda t, y, args: -y, mass=2 * jnp.eye(1)))


def test_states_without_names_have_numbers():
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -1.0]])
    assert srx.to_text(srx.System(model)) == "dy1/dt = -y1"
    assert srx.compare(srx.System(model), model).summary().startswith("recovered 1 of 1")


def test_an_input_is_given_as_a_number():
    feed = {"feed": ("step", {"t": [0.0, 1.0], "feed": [1.0, 2.0]})}
    data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0], [0.5]], names=["A"], inputs=feed)
    found = system(lambda t, y, args: args["feed"](t) - y)
    with pytest.raises(ValueError, match="as inputs do"):
        srx.to_sympy(found, args=data.conditions(0))
    given = data.conditions(0).replace(feed=3.0)
    assert srx.to_sympy(found, args=given) == (3 - sympy.Symbol("A"),)
