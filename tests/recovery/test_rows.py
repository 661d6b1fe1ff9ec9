"""Rate equations of networks, without a list of all monomials."""

import jax.numpy as jnp
import numpy as np
import pytest
import sympy

import stiffrax as srx

y1, y2 = sympy.symbols("y1 y2")


def test_a_network_of_many_species_needs_no_list_of_all_monomials():
    texts = ["y1 + y2 + y3 -> y200", *(f"y{i} -> y{i + 1}" for i in range(1, 200))]
    network = srx.ReactionNetwork(texts, [f"y{i}" for i in range(1, 201)], rates=np.full(200, 2.0))
    rows = srx.to_sympy(network)
    assert rows[0] == -2 * y1 * y2 * sympy.Symbol("y3") - 2 * y1
    assert rows[1] == -2 * y1 * y2 * sympy.Symbol("y3") + 2 * y1 - 2 * y2


def test_rates_that_are_not_finite_are_named():
    network = srx.ReactionNetwork(["A -> B"]).with_coefficients([np.nan])
    with pytest.raises(ValueError, match="Only finite rates make equations, got nan for `A -> B`"):
        srx.to_sympy(network)


def test_a_function_that_is_switched_off_needs_no_formula():
    table = {"decay": lambda y: y[0], "table": lambda y: jnp.interp(y[0], jnp.arange(2.0), y[:1])}
    model = srx.Library(table, 1, coefficients=[[-1.0, 0.0]], active=[[True, False]])
    assert srx.to_text(model) == "dy1/dt = -y1"
