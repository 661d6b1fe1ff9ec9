"""Hops between the minima of a cost that has a closed form, without any solve."""

import functools

import numpy as np
import pytest

from stiffrax.training._box_trust_region import SMALLEST_GAIN, Box, Hops, minimize
from stiffrax.training._lockstep import Evaluation, run_together

# In each of two parameters seven minima, near multiples of pi; the least is 0, at 0.
BOX = Box(np.full(2, -10.0), np.full(2, 10.0), np.ones(2))


def evaluation(x):
    """Half the sum of (0.1 x)^2 + (2 sin x)^2, with its Gauss-Newton model."""
    c = np.concatenate([0.1 * x, 2 * np.sin(x)])
    J = np.concatenate([0.1 * np.eye(2), 2 * np.diag(np.cos(x))])
    rows: np.ndarray = np.concatenate([J, c[:, None]], axis=1)
    return Evaluation(0.5 * float(c @ c), np.linalg.qr(rows, "r"), 0)


@functools.cache
def searches(hops, seed):
    """From twenty random points; a solve fails where the first parameter is above 7."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-10, 7, (20, 1, 2))
    own = [
        Hops(hops, one).search(x, BOX, 100) for one, x in zip(rng.spawn(20), points, strict=True)
    ]

    def evaluate(xs):
        return [evaluation(x)._replace(num_failed=int(x[0] > 7)) for x in xs]

    return [found for found in run_together(own, evaluate) if found is not None]


def arrived(found):
    return sum(one.cost < 0.01 for one in found)


@pytest.mark.parametrize("seed", range(3))
class TestManyMinima:
    def test_few_searches_find_the_least_without_hops(self, seed):
        assert arrived(searches(0, seed)) <= 2

    def test_many_find_it_with_hops(self, seed):
        assert arrived(searches(8, seed)) >= 5

    def test_no_hop_makes_a_search_worse(self, seed):
        pairs = zip(searches(0, seed), searches(8, seed), strict=True)
        assert all(more.cost <= first.cost for first, more in pairs)

    def test_hops_are_counted_and_their_steps_too(self, seed):
        found = searches(8, seed)
        assert all(one.hops == 8 and 0 <= one.hops_gained <= 8 for one in found)
        for first, more in zip(searches(0, seed), found, strict=True):
            assert (more.hops_gained > 0) == (more.cost < first.cost - SMALLEST_GAIN)
            assert more.steps > first.steps

    def test_where_solves_fail_no_search_ends(self, seed):
        assert all(one.evaluation.usable and one.x[0] <= 7 for one in searches(8, seed))


def test_the_same_numbers_make_the_same_hops():
    first = searches(8, 0)
    searches.cache_clear()
    assert [one.x.tolist() for one in first] == [one.x.tolist() for one in searches(8, 0)]


def test_an_interrupted_hop_keeps_what_was_found():
    search = Hops(5, np.random.default_rng(0)).search(np.zeros((1, 2)), BOX, 100)
    x = next(search)
    for _ in range(2):
        x = search.send(evaluation(x))
    with pytest.raises(StopIteration) as end:
        search.send(None)
    assert end.value.value.stopped == "interrupted"
    assert end.value.value.cost == 0.0


def test_a_parameter_without_bounds_is_not_drawn():
    box = Box(np.array([-np.inf, -10.0]), np.array([np.inf, 10.0]), np.ones(2))
    search = Hops(1, np.random.default_rng(0)).search(np.zeros((1, 2)), box, 100)
    asked = [next(search)]
    for _ in range(3):
        asked.append(search.send(evaluation(asked[-1])))
    assert {x[0] for x in asked} == {0.0}
    assert len({x[1] for x in asked}) == 4


def test_a_search_that_is_interrupted_before_its_first_answer_has_not_failed():
    search = minimize(np.zeros(2), BOX, 100)
    next(search)
    with pytest.raises(StopIteration) as end:
        search.send(None)
    assert end.value.value.stopped == "interrupted"
    assert end.value.value.cost == np.inf
