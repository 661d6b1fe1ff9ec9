"""The penalty on growth where there should be decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.tableaus import stability_function, stability_penalty

EULER = (jnp.zeros((1, 1)), jnp.ones(1), jnp.zeros(1))
GRID = np.array([-2.5, -1.0, 0.3j, -0.2 + 2.0j, 1.0])


@pytest.mark.parametrize("family", [srx.tableaus.radau_iia, srx.tableaus.gauss])
def test_it_is_the_mean_square_of_what_exceeds_one(family):
    method = family(4)
    expected = np.mean(np.maximum(np.abs(stability_function(method, GRID)) - 1, 0) ** 2)
    np.testing.assert_allclose(stability_penalty(method, GRID), expected, rtol=1e-10)


def test_of_explicit_methods_too():
    np.testing.assert_allclose(stability_penalty(EULER, [-3.0, -2.0, -0.5]), 1 / 3, rtol=1e-14)


def test_its_gradient_is_finite_where_the_method_is_stable_or_R_vanishes():
    gradient = jax.grad(lambda b: stability_penalty((EULER[0], b, EULER[2]), [-1.0, -0.5]))
    np.testing.assert_array_equal(gradient(jnp.ones(1)), [0.0])


def test_its_gradient_is_that_of_differences():
    solver = srx.LearnableRungeKutta.from_tableau(srx.tableaus.gauss(3))
    b = solver.tableau.b

    def value(b):
        return stability_penalty((solver.tableau.A, b, solver.tableau.c), GRID)

    h = 1e-6
    differences = [(value(b + h * e) - value(b - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(value)(b), differences, rtol=1e-6, atol=1e-9)
