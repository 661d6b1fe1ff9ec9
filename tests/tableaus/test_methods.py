import inspect

import numpy as np
import pytest

from stiffrax.tableaus import gauss, lobatto_iiia, order_conditions, radau_iia

# Published to 12 digits.
RADAU_NODES = {
    1: [1],
    2: [1 / 3, 1],
    3: [0.155051025722, 0.644948974278, 1],
    5: [0.0571041961145, 0.276843013638, 0.583590432369, 0.860240135656, 1],
    7: [
        0.0293164271598,
        0.148078599668,
        0.336984690281,
        0.558671518772,
        0.76923386203,
        0.92694567132,
        1,
    ],
}
METHODS = [
    *((radau_iia, s) for s in (1, 2, 3, 5, 7)),
    *((gauss, s) for s in (1, 2, 3)),
    (lobatto_iiia, 2),
]
every_method = pytest.mark.parametrize(("family", "stages"), METHODS)
FAMILIES = [radau_iia, gauss, lobatto_iiia]


@pytest.mark.parametrize("stages", RADAU_NODES)
def test_radau_nodes_are_the_published_ones(stages):
    np.testing.assert_allclose(radau_iia(stages).c, RADAU_NODES[stages], rtol=0, atol=6e-13)


def test_radau_with_two_stages_is_the_published_tableau():
    method = radau_iia(2)
    np.testing.assert_allclose(method.A, [[5 / 12, -1 / 12], [3 / 4, 1 / 4]], rtol=1e-15)
    np.testing.assert_allclose(method.b, [3 / 4, 1 / 4], rtol=1e-15)


def test_gauss_with_two_stages_is_the_published_tableau():
    off = np.sqrt(3) / 6
    published = [[1 / 4, 1 / 4 - off], [1 / 4 + off, 1 / 4]]
    np.testing.assert_allclose(gauss(2).A, published, rtol=1e-15)
    np.testing.assert_allclose(gauss(2).b, [1 / 2, 1 / 2], rtol=1e-15)


def test_lobatto_with_three_stages_is_the_published_tableau():
    published = [[0, 0, 0], [5 / 24, 1 / 3, -1 / 24], [1 / 6, 2 / 3, 1 / 6]]
    np.testing.assert_allclose(lobatto_iiia(3).A, published, rtol=1e-15)


@every_method
def test_rounding_leaves_order_residuals_at_rounding_level(family, stages):
    method = family(stages)
    orders = range(1, min(method.order, 8) + 1)
    assert max(np.max(np.abs(order_conditions(method, p))) for p in orders) < 2e-16


@pytest.mark.parametrize("family", [radau_iia, lobatto_iiia])
@pytest.mark.parametrize("stages", [2, 3, 5, 7])
def test_stiffly_accurate_method_ends_with_its_last_stage(family, stages):
    method = family(stages)
    assert method.stiffly_accurate
    np.testing.assert_array_equal(method.A[-1], method.b)
    np.testing.assert_array_equal(method.d, np.eye(method.num_stages)[-1])
    assert method.c[-1] == 1


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_gauss_is_not_stiffly_accurate(stages):
    method = gauss(stages)
    assert not method.stiffly_accurate
    assert method.c[-1] < 1
    np.testing.assert_allclose(method.d @ method.A, method.b, rtol=1e-14)


def test_a_method_is_computed_once():
    assert radau_iia(3) is radau_iia(3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stages", [-1, 0, 16, True])
def test_stage_count_out_of_range_raises(family, stages):
    with pytest.raises(ValueError, match=rf"an integer from .* Write `{family.__name__}\(3\)`"):
        family(stages)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stages", [3.0, np.nan, "3", None, [3]])
def test_stage_count_of_another_type_raises(family, stages):
    family(3)  # what was computed before must not answer for 3.0
    unchecked = inspect.unwrap(family)  # as users call it, without the tests' type checks
    with pytest.raises(ValueError, match=rf"an integer from .* Write `{family.__name__}\(3\)`"):
        unchecked(stages)


def test_lobatto_refuses_a_single_stage():
    with pytest.raises(
        ValueError, match=r"`stages=1` .* from 2 to 15. Write .*`lobatto_iiia\(3\)`"
    ):
        lobatto_iiia(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_fifteen_stages_are_still_accurate(family):
    method = family(15)
    assert np.max(np.abs(method.A.sum(axis=1) - method.c)) < 1e-15
    assert np.max(np.abs(order_conditions(method, 8))) < 1e-16
