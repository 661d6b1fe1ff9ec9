import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.tableaus import (
    gauss,
    lobatto_iiia,
    quadrature_conditions,
    radau_iia,
    stage_conditions,
    transposed_stage_conditions,
)

ASSUMPTIONS = [quadrature_conditions, stage_conditions, transposed_stage_conditions]


def arbitrary_method():
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)


def test_quadrature_conditions_are_the_moments():
    A, b, c = arbitrary_method()
    expected = [b.sum() - 1, b @ c - 1 / 2, b @ c**2 - 1 / 3]
    np.testing.assert_allclose(quadrature_conditions((A, b, c), 3), expected, rtol=1e-12)


def test_stage_conditions_are_the_moments_of_each_row():
    A, b, c = arbitrary_method()
    expected = [A.sum(axis=1) - c, A @ c - c**2 / 2]
    np.testing.assert_allclose(stage_conditions((A, b, c), 2), expected, rtol=1e-12)


def test_transposed_stage_conditions_are_the_moments_of_each_column():
    A, b, c = arbitrary_method()
    expected = [b @ A - b * (1 - c), (b * c) @ A - b * (1 - c**2) / 2]
    np.testing.assert_allclose(transposed_stage_conditions((A, b, c), 2), expected, rtol=1e-12)


@pytest.mark.parametrize("method", [radau_iia(7), gauss(7), lobatto_iiia(7)], ids=str)
def test_quadrature_reaches_the_order_of_a_seven_stage_method(method):
    residuals = quadrature_conditions(method, method.order + 1)
    assert np.max(np.abs(residuals[:-1])) < 1e-15
    assert abs(residuals[-1]) > 1e-9


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_jax_arrays_give_the_same_residuals_under_jit(assumption):
    method = arbitrary_method()
    traced = jax.jit(lambda *method: assumption(method, 4))(*map(jnp.asarray, method))
    np.testing.assert_allclose(traced, assumption(method, 4), rtol=1e-12)


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
@pytest.mark.parametrize("order", [0, -2, True])
def test_order_below_one_raises(assumption, order):
    with pytest.raises(ValueError, match=rf"a positive integer. Write `{assumption.__name__}\("):
        assumption(radau_iia(2), order)
