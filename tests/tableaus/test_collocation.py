import numpy as np
import pytest

from stiffrax.tableaus import (
    order_conditions,
    quadrature_conditions,
    stage_conditions,
    transposed_stage_conditions,
)
from stiffrax.tableaus._collocation import (
    collocation_coefficients,
    extended_precision,
    gauss_nodes,
    lobatto_nodes,
    radau_nodes,
)

EXACT = 1e-30

# nodes, stages, order, and the highest r of the simplifying assumption D(r)
METHODS = [
    *((radau_nodes, s, 2 * s - 1, s - 1) for s in (1, 2, 3, 5, 7)),
    *((gauss_nodes, s, 2 * s, s) for s in (1, 2, 3)),
    *((lobatto_nodes, s, 2 * s - 2, s - 2) for s in (2, 3)),
]
every_method = pytest.mark.parametrize(
    ("nodes", "stages", "order", "transposed"),
    METHODS,
    ids=[f"{nodes.__name__}-{stages}" for nodes, stages, _, _ in METHODS],
)


def exact_method(nodes, stages):
    """The coefficients as NumPy arrays of extended-precision numbers."""
    mp = extended_precision()
    c = nodes(mp, stages)
    A, b = collocation_coefficients(mp, c)
    A, b = (np.array(matrix.tolist(), dtype=object) for matrix in (A, b))
    return A, b[0], np.array(c, dtype=object)


def largest(residuals):
    return max((abs(x) for x in np.ravel(residuals)), default=0)


@every_method
def test_order_conditions_hold_up_to_the_order(nodes, stages, order, transposed):
    method = exact_method(nodes, stages)
    assert all(largest(order_conditions(method, p)) < EXACT for p in range(1, min(order, 8) + 1))


@pytest.mark.parametrize(("nodes", "stages", "order"), [c[:3] for c in METHODS if c[2] < 10])
def test_order_conditions_fail_one_above_the_order(nodes, stages, order):
    assert largest(order_conditions(exact_method(nodes, stages), order + 1)) > 1e-6


@every_method
def test_weights_integrate_up_to_the_order_and_no_further(nodes, stages, order, transposed):
    residuals = quadrature_conditions(exact_method(nodes, stages), order + 1)
    assert largest(residuals[:-1]) < EXACT
    assert largest(residuals[-1:]) > 1e-10


@every_method
def test_stage_order_is_the_number_of_stages(nodes, stages, order, transposed):
    residuals = stage_conditions(exact_method(nodes, stages), stages + 1)
    assert largest(residuals[:-1]) < EXACT
    assert largest(residuals[-1]) > 1e-8


@every_method
def test_transposed_stage_order_is_the_order_less_the_stages(nodes, stages, order, transposed):
    residuals = transposed_stage_conditions(exact_method(nodes, stages), transposed + 1)
    assert largest(residuals[:-1]) < EXACT
    assert largest(residuals[-1]) > 1e-8


def test_nodes_of_three_stage_radau_are_the_closed_form():
    mp = extended_precision()
    nodes = radau_nodes(mp, 3)
    closed = [(4 - mp.sqrt(6)) / 10, (4 + mp.sqrt(6)) / 10, mp.mpf(1)]
    assert largest([x - y for x, y in zip(nodes, closed, strict=True)]) < EXACT


def test_nodes_of_three_stage_gauss_are_the_closed_form():
    mp = extended_precision()
    nodes = gauss_nodes(mp, 3)
    closed = [(5 - mp.sqrt(15)) / 10, mp.mpf(1) / 2, (5 + mp.sqrt(15)) / 10]
    assert largest([x - y for x, y in zip(nodes, closed, strict=True)]) < EXACT


def test_nodes_of_fifteen_stages_stand_apart_inside_the_step():
    mp = extended_precision()
    for nodes in (radau_nodes(mp, 15), gauss_nodes(mp, 15), lobatto_nodes(mp, 15)):
        assert nodes[0] >= 0
        assert nodes[-1] <= 1
        assert all(right - left > 1e-3 for left, right in zip(nodes, nodes[1:], strict=False))
