"""Implicit tableaus that are stable whatever their parameters are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx
from stiffrax.tableaus import (
    StableTableau,
    gauss,
    is_a_stable,
    learnable_tableau,
    order_residuals,
    radau_iia,
    stability_at_infinity,
)


@eqx.filter_jit
def coefficients_at(start, x):
    """`(A, b, c)` at many parameter values."""
    _, restore = ravel_pytree(start)
    return jax.vmap(lambda x: (lambda t: (t.A, t.b, t.c))(restore(x)))(x)


@pytest.mark.parametrize(("stages", "stability"), [(3, "L"), (4, "L"), (3, "A")])
def test_it_is_stable_at_random_parameter_values(stages, stability):
    start = learnable_tableau(radau_iia(stages), stability=stability)
    size = ravel_pytree(start)[0].size
    A, b, c = coefficients_at(start, jax.random.normal(jax.random.key(1), (40, size)))
    for method in zip(*map(np.asarray, (A, b, c)), strict=True):
        assert is_a_stable(method)
        if stability == "L":
            assert abs(stability_at_infinity(method)) < 1e-9
        B = np.diag(method[1])
        M = B @ method[0] + method[0].T @ B - np.outer(method[1], method[1])
        assert np.min(np.linalg.eigvalsh(M)) > -1e-13
        assert abs(method[1] @ method[2] - 0.5) < 1e-12


@pytest.mark.parametrize(
    ("method", "stability"), [(radau_iia(3), "L"), (gauss(3), "A"), (radau_iia(2), "A")]
)
def test_a_stable_method_is_reproduced(method, stability):
    tableau = learnable_tableau(method, stability=stability)
    np.testing.assert_allclose(tableau.A, method.A, atol=1e-15)
    np.testing.assert_allclose(tableau.b, method.b, atol=1e-15)
    np.testing.assert_allclose(tableau.c, method.c, atol=1e-15)


def test_projection_to_a_higher_order_keeps_the_stability():
    start = learnable_tableau(radau_iia(3), stability="L")
    start = jax.tree.map(lambda x: x + 0.05, start)
    found = srx.tableaus.order_projection(start, 3, 20)
    assert jnp.max(jnp.abs(order_residuals(found, 3))) < 1e-13
    assert is_a_stable(tuple(map(np.asarray, (found.A, found.b, found.c))))


@pytest.mark.parametrize(
    ("method", "stability", "message"),
    [
        (gauss(2), "L", "whose last stage is not the end of the step"),
        (srx.tableaus.lobatto_iiia(3), "L", "not algebraically stable"),
        (radau_iia(1), "A", "not algebraically stable"),
    ],
)
def test_other_methods_are_refused(method, stability, message):
    with pytest.raises(ValueError, match=message):
        learnable_tableau(method, stability=stability, kind="implicit")


def test_parameters_of_other_shapes_are_refused():
    ones = jnp.ones(3)
    with pytest.raises(ValueError, match=r"it needs \(\(1,\), \(1,\), \(1, 1\)\)"):
        StableTableau(ones, ones, ones, jnp.ones((1, 1)), stability="L", order=2)
