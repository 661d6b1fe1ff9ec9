"""The fixed order of the monomials and the tables built on it."""

import itertools
import math

import numpy as np
import pytest

from stiffrax.models._polynomial import monomials


@pytest.mark.parametrize(("n", "degree"), [(1, 1), (1, 4), (2, 2), (3, 3), (8, 2), (20, 2)])
def test_every_monomial_up_to_the_degree_is_there_once(n, degree):
    exponents = monomials(n, degree).exponents
    assert len(exponents) == math.comb(n + degree, degree)
    assert len({tuple(row) for row in exponents}) == len(exponents)
    assert exponents.sum(1).max() == degree


def test_order_is_by_degree_then_as_documented():
    expected = [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    assert monomials(2, 2).exponents.tolist() == expected
    cubes = itertools.combinations_with_replacement(range(3), 3)
    expected = [[states.count(i) for i in range(3)] for states in cubes]
    assert monomials(3, 3).exponents[-10:].tolist() == expected


@pytest.mark.parametrize(("n", "degree"), [(1, 3), (3, 3), (8, 2)])
def test_products_add_one_to_the_exponent(n, degree):
    exponents, _, products = monomials(n, degree)
    assert len(products) == np.sum(exponents.sum(1) < degree)
    for m, i in np.ndindex(products.shape):
        assert (exponents[products[m, i]] == exponents[m] + np.eye(n, dtype=int)[i]).all()


def test_tables_are_shared_and_cannot_be_written():
    assert monomials(3, 2) is monomials(3, 2)
    with pytest.raises(ValueError, match="read-only"):
        monomials(3, 2).exponents[0, 0] = 1
