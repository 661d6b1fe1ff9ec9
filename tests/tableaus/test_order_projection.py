"""The projection to the tableaus of an order."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx
from stiffrax.tableaus import learnable_tableau, order_projection, order_residuals

RK4 = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)


def moved(tableau, size):
    """Every coefficient that the tableau uses moved at random."""
    x, restore = ravel_pytree(tableau)
    noise = jax.random.normal(jax.random.key(2), x.shape)
    return restore(x + size * jnp.where(x != 0, noise, 0.0))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_conditions_hold_to_rounding(order):
    found = order_projection(moved(learnable_tableau(RK4), 0.03), order)
    assert jnp.max(jnp.abs(order_residuals(found, order))) < 1e-15


def test_a_tableau_that_satisfies_them_stays_where_it_is():
    found = order_projection(learnable_tableau(RK4))
    np.testing.assert_allclose(found.A, RK4[0], atol=1e-14)
    np.testing.assert_allclose(found.b, RK4[1], atol=1e-14)


def test_for_order_one_it_is_the_euclidean_projection():
    start = moved(learnable_tableau(RK4), 0.03)
    found = order_projection(start, 1, 1)
    np.testing.assert_allclose(found.b, start.b - (jnp.sum(start.b) - 1) / 4, rtol=1e-12)
    np.testing.assert_allclose(found.c, jnp.sum(found.A, axis=1), atol=1e-15)


def test_explicit_methods_stay_explicit():
    found = order_projection(moved(learnable_tableau(RK4), 0.03), 4)
    np.testing.assert_array_equal(found.A, jnp.tril(found.A, -1))


def test_dependent_conditions_do_no_harm():
    # At Radau IIA and order 5 there are more conditions than coefficients.
    radau = learnable_tableau(srx.tableaus.radau_iia(3))
    found = order_projection(moved(radau, 1e-3), 5, 40)
    assert jnp.max(jnp.abs(order_residuals(found, 5))) < 1e-13


def test_as_a_reparametrization_it_has_the_derivative_of_what_it_does():
    start = moved(learnable_tableau(RK4), 0.03)
    x, restore = ravel_pytree(start)

    @jax.jit
    def value(x):
        tableau = order_projection(restore(x), 3)
        return jnp.sum(jnp.sin(3 * tableau.A)) + tableau.b @ tableau.c**3

    h = 1e-6
    found = jax.grad(value)(x)
    differences = [(value(x + h * e) - value(x - h * e)) / (2 * h) for e in np.eye(x.size)]
    np.testing.assert_allclose(found, differences, atol=1e-8)


def test_single_precision_stays_single():
    single = jax.tree.map(lambda x: x.astype(jnp.float32), moved(learnable_tableau(RK4), 0.03))
    found = order_projection(single, 4)
    assert found.A.dtype == jnp.float32
    assert jnp.max(jnp.abs(order_residuals(found, 4))) < 1e-6


def test_the_solver_offers_it_as_well():
    free = srx.LearnableRungeKutta.from_tableau(moved(learnable_tableau(RK4), 0.03))
    projected = free.projected(2)
    assert eqx.tree_equal(projected.tableau, order_projection(free.tableau, 2))
