"""Matrix products of models keep the digits of single precision, which a GPU may cut by default."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import stiffrax as srx

NET = srx.PiNet(2, width=3, degree=2, key=jax.random.key(0))


def is_program(x):
    return isinstance(x, Jaxpr | ClosedJaxpr)


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in filter(is_program, jax.tree.leaves(equation.params, is_leaf=is_program)):
            yield from products(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize(
    "function",
    [
        lambda y: srx.Polynomial(2, 2)(0.0, y),
        lambda y: srx.ReactionNetwork(["A -> B"], rates=[1.0])(0.0, y),
        lambda y: NET(0.0, y),
        lambda y: NET.to_polynomial().coefficients * y[0],
    ],
    ids=["polynomial", "network", "pi-net", "pi-net multiplied out"],
)
def test_products_are_of_the_highest_precision(function):
    jaxpr = jax.make_jaxpr(jax.vmap(function))(jnp.ones((3, 2)))
    found = list(products(jaxpr.jaxpr))
    assert found
    assert set(found) == {(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)}
