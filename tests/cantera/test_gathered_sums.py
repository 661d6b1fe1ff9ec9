"""Sums by gathers."""

import jax
import jax.numpy as jnp
import numpy as np

from stiffrax.cantera._gathered_sums import GatheredSums


def test_sums_of_all_lengths_are_those_of_a_scatter():
    rng = np.random.default_rng(0)
    place = np.repeat([7, 2, 9, 4], [1, 2, 3, 37])
    source, weight = rng.integers(0, 5, place.size), rng.normal(size=place.size)
    mixed = rng.permutation(place.size)
    x, expected = rng.normal(size=5), np.zeros(10)
    np.add.at(expected, place, weight * x[source])
    sums = GatheredSums(place[mixed], source[mixed], weight[mixed], 10)
    np.testing.assert_allclose(jax.jit(sums)(jnp.asarray(x)), expected, rtol=1e-13, atol=1e-14)
