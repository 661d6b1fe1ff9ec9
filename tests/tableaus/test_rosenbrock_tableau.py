"""Published coefficients, checked to the digits printed by the conditions that they were made from."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from stiffrax.tableaus import rodas3p, rodas4p, rodas5p, rosenbrock23

METHODS = {make.__name__: make() for make in (rosenbrock23, rodas3p, rodas4p, rodas5p)}
every_method = pytest.mark.parametrize("name", METHODS)
# Order of the method, of its embedded solution, and of its dense output.
ORDERS = {
    "rosenbrock23": (2, 2, 2),
    "rodas3p": (3, 2, 3),
    "rodas4p": (4, 3, 3),
    "rodas5p": (5, 4, 4),
}
ROUNDING = 5e-14


@functools.cache
def trees(order):
    """Rooted trees, as sorted tuples of the trees that hang from their root."""
    if order == 1:
        return [()]
    found = set()
    for sizes in partitions(order - 1, order - 1):
        for branches in itertools.product(*map(trees, sizes)):
            found.add(tuple(sorted(branches)))
    return sorted(found)


def partitions(total, largest):
    if total == 0:
        yield ()
    for first in range(min(total, largest), 0, -1):
        for rest in partitions(total - first, first):
            yield (first, *rest)


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    return size(tree) * np.prod([density(branch) for branch in tree])


def couplings(tableau):
    """`alpha` and `beta = alpha + Gamma` of the usual form of a Rosenbrock method."""
    gamma = np.linalg.inv(np.eye(tableau.num_stages) * tableau.shift - tableau.C)
    alpha = tableau.A @ gamma
    return alpha, alpha + gamma, gamma


def weights_of(tree, alpha, beta):
    """With `beta` where a single branch hangs, `alpha` where several do (Hairer and Wanner, IV.7)."""
    matrix = beta if len(tree) == 1 else alpha
    product = np.ones(len(alpha))
    for branch in tree:
        product = product * (matrix @ weights_of(branch, alpha, beta))
    return product


def largest_residual(tableau, m, order, theta=1.0):
    """Of the conditions of one order, for the solution `y0 + m U` at the fraction `theta`."""
    alpha, beta, gamma = couplings(tableau)
    residuals = [
        (m @ gamma) @ weights_of(tree, alpha, beta) - theta**order / density(tree)
        for tree in trees(order)
    ]
    return np.max(np.abs(residuals))


@every_method
def test_the_conditions_of_its_order_hold_and_those_above_do_not(name):
    tableau, order = METHODS[name], ORDERS[name][0]
    assert tableau.order == order
    for p in range(1, order + 1):
        assert largest_residual(tableau, tableau.m, p) < ROUNDING
    assert largest_residual(tableau, tableau.m, order + 1) > 1e-3


@every_method
def test_so_do_those_of_the_embedded_solution(name):
    tableau, order = METHODS[name], ORDERS[name][1]
    embedded = tableau.m - tableau.e
    for p in range(1, order + 1):
        assert largest_residual(tableau, embedded, p) < ROUNDING
    assert largest_residual(tableau, embedded, order + 1) > 1e-3
    assert tableau.error_order == order + 1


def test_so_do_those_of_the_dense_output_that_is_compared_within_the_step():
    tableau = METHODS["rodas3p"]
    middle = tableau.polynomial @ 0.5 ** np.arange(1, tableau.polynomial.shape[1] + 1)
    for p in (1, 2):
        assert largest_residual(tableau, middle - tableau.e_inside, p, 0.5) < ROUNDING
    assert largest_residual(tableau, middle - tableau.e_inside, 3, 0.5) > 1e-3


@every_method
def test_so_do_those_of_the_dense_output_which_ends_where_the_step_does(name):
    tableau, order = METHODS[name], ORDERS[name][2]
    powers = np.arange(1, tableau.polynomial.shape[1] + 1)
    for theta in (0.3, 0.7):
        m = tableau.polynomial @ theta**powers
        for p in range(1, order + 1):
            assert largest_residual(tableau, m, p, theta) < ROUNDING
        assert largest_residual(tableau, m, order + 1, theta) > 1e-3
    np.testing.assert_allclose(tableau.polynomial.sum(axis=1), tableau.m, atol=ROUNDING)


@every_method
def test_abscissae_and_weights_of_time_are_the_sums_of_the_couplings(name):
    tableau = METHODS[name]
    alpha, _, gamma = couplings(tableau)
    np.testing.assert_allclose(alpha.sum(axis=1), tableau.c, atol=ROUNDING)
    np.testing.assert_allclose(gamma.sum(axis=1), tableau.d, atol=ROUNDING)


@every_method
def test_infinitely_stiff_components_are_damped_to_nothing(name):
    tableau = METHODS[name]
    _, beta, gamma = couplings(tableau)
    at_infinity = 1 - (tableau.m @ gamma) @ np.linalg.solve(beta, np.ones(len(beta)))
    assert abs(at_infinity) < ROUNDING
    assert abs(tableau._stability(-1e9)) < 1e-7


@pytest.mark.parametrize("name", ["rodas3p", "rodas4p", "rodas5p"])
def test_rodas_methods_keep_their_order_on_equations_of_index_one_and_on_parabolic_ones(name):
    tableau = METHODS[name]
    alpha, beta, gamma = couplings(tableau)
    b, a, one = tableau.m @ gamma, alpha.sum(axis=1), np.ones(len(alpha))
    inverse = np.linalg.inv(beta)
    # Hairer and Wanner, section VI.4: orders 2 and 3 of the algebraic component.
    for power in (2, 3)[: tableau.order - 1]:
        assert abs(b @ inverse @ a**power - 1) < ROUNDING
    # Lubich and Ostermann: b^T beta^j (2 beta^2 e - alpha^2) = 0, j = 1, ..., s - 2.
    for j in range(1, len(b) - 1):
        assert abs(b @ np.linalg.matrix_power(beta, j) @ (2 * beta @ beta @ one - a**2)) < ROUNDING


@every_method
def test_growth_is_met_up_to_the_limit_that_is_told_and_not_to_the_pole(name):
    tableau = METHODS[name]
    z = tableau.largest_growth
    assert 1 < z < tableau.shift
    assert abs(tableau._stability(0.9 * z) / np.exp(0.9 * z) - 1) < 0.1
    assert abs(tableau._stability(1.1 * z) / np.exp(1.1 * z) - 1) > 0.1


def test_copies_are_equal_and_others_are_not():
    assert METHODS["rodas4p"] == rodas4p()
    assert METHODS["rodas4p"] != METHODS["rodas5p"]
    assert len({hash(tableau) for tableau in METHODS.values()}) == 4


def test_two_equal_tableaus_are_equal_also_after_one_was_used():
    tableau = rodas5p()
    assert tableau.largest_growth > 0
    assert tableau == dataclasses.replace(tableau)


def test_a_tableau_is_not_equal_to_one_without_its_estimate_within_the_step():
    tableau = rodas3p()
    other = dataclasses.replace(tableau, e_inside=None)
    assert tableau != other
    assert other != tableau
    assert other == dataclasses.replace(other)
