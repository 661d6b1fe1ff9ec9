import dataclasses

import numpy as np
import pytest

from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia

METHODS = [
    *((radau_iia, s) for s in (1, 2, 3, 5, 7)),
    *((gauss, s) for s in (1, 2, 3)),
    *((lobatto_iiia, s) for s in (2, 3, 5)),
]
every_method = pytest.mark.parametrize(("family", "stages"), METHODS)

# Published weights of the stage increments in the error estimate.
ERROR_WEIGHTS = {
    1: [-1],
    2: [-4.5, 0.5],
    3: [-(13 + 7 * np.sqrt(6)) / 3, (-13 + 7 * np.sqrt(6)) / 3, -1 / 3],
    5: [-27.7809339441, 3.64147849805, -1.25254772117, 0.592003167185, -0.2],
    7: [
        -54.3744368941,
        7.00002400426,
        -2.35566109199,
        1.13228906611,
        -0.646891326767,
        0.387533385375,
        -1 / 7,
    ],
}


def powers(theta, highest):
    return np.power.outer(np.asarray(theta), np.arange(1, highest + 1))


@pytest.mark.parametrize("stages", ERROR_WEIGHTS)
def test_error_weights_are_the_published_ones(stages):
    weights = radau_iia(stages).error_weights
    np.testing.assert_allclose(weights, ERROR_WEIGHTS[stages], rtol=5e-12)


@every_method
def test_error_weights_give_the_slope_at_the_start(family, stages):
    """They differentiate every polynomial through 0 of degree `m` exactly."""
    method = family(stages)
    slopes = method.error_weights @ powers(method.nodes, method.num_stages)
    np.testing.assert_allclose(slopes, [-1] + [0] * (method.num_stages - 1), atol=1e-13)


@every_method
def test_collocation_polynomial_hits_the_stages(family, stages):
    method = family(stages)
    at_nodes = powers(method.nodes, len(method.c)) @ method.polynomial.T
    np.testing.assert_allclose(at_nodes, np.eye(method.num_stages), atol=1e-12)


@every_method
def test_collocation_polynomial_keeps_the_slope_of_an_explicit_stage(family, stages):
    method = family(stages)
    slope = method.polynomial_explicit
    assert slope[0] == method.explicit_first_stage
    np.testing.assert_allclose(powers(method.nodes, len(method.c)) @ slope, 0, atol=1e-13)
    if method.explicit_first_stage:
        np.testing.assert_allclose(method.polynomial[:, 0], 0, atol=1e-30)


@every_method
def test_engine_form_reproduces_the_butcher_form(family, stages):
    """`A^-1 Z = h f + w h f0` and `y1 = y0 + d Z` for arbitrary slopes `f`."""
    method = family(stages)
    slopes = np.random.default_rng(stages).normal(size=len(method.c))
    implicit = slopes[len(method.c) - method.num_stages :]
    rhs = implicit + method.explicit_weights * slopes[0]
    Z = np.linalg.solve(method.A_inverse, rhs)
    np.testing.assert_allclose(Z, (method.A @ slopes)[-method.num_stages :], rtol=1e-11)
    np.testing.assert_allclose(method.d @ Z, method.b @ slopes, rtol=1e-11)


@pytest.mark.parametrize(("family", "stages"), METHODS[:8])
def test_without_an_explicit_stage_all_stages_are_implicit(family, stages):
    method = family(stages)
    assert not method.explicit_first_stage
    assert method.num_stages == len(method.c) == stages
    np.testing.assert_array_equal(method.explicit_weights, np.zeros(stages))


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_lobatto_has_an_explicit_first_stage(stages):
    method = lobatto_iiia(stages)
    assert method.explicit_first_stage
    assert method.num_stages == stages - 1
    np.testing.assert_array_equal(method.A[0], np.zeros(stages))


@pytest.mark.parametrize("stages", [1, 3, 5, 7])
def test_filter_uses_the_real_eigenvalue_of_an_odd_method(stages):
    method = radau_iia(stages)
    assert method.gamma == method.transform.real[0]


def test_filter_uses_the_smallest_modulus_where_there_is_no_real_eigenvalue():
    assert radau_iia(2).gamma == pytest.approx(np.sqrt(6), rel=1e-15)


@pytest.mark.parametrize(
    ("method", "order", "stage_order", "error_order"),
    [(radau_iia(3), 5, 3, 4), (gauss(3), 6, 3, 4), (lobatto_iiia(2), 2, 2, 2)],
)
def test_orders_are_stated(method, order, stage_order, error_order):
    assert (method.order, method.stage_order, method.error_order) == (
        order,
        stage_order,
        error_order,
    )


@pytest.mark.parametrize("name", ["A", "c", "A_inverse", "polynomial"])
def test_shared_coefficients_cannot_be_overwritten(name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(radau_iia(3), name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(radau_iia(3), name, 0)


def test_representation_names_the_method():
    assert repr(gauss(2)) == "Tableau(Gauss 4, order=4, stages=2)"


def test_arrays_that_were_given_stay_as_they_are():
    method = radau_iia(2)
    b = method.b.copy()
    made = dataclasses.replace(method, b=b)
    b[0] = 7.0
    np.testing.assert_array_equal(made.b, method.b)
    with pytest.raises(ValueError, match="read-only"):
        made.b[0] = 1.0
