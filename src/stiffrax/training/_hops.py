"""Searches that go on from the minimum they found, some parameters drawn anew."""

from typing import final

import numpy as np
from jaxtyping import Float

from ._box_trust_region import SMALLEST_GAIN, Box, Found, minimize
from ._lockstep import Search

# A part of the parameters is drawn anew, so many times, and the best of these points is searched
# from. Three draws bring more arrivals for the solves they cost on Boehm than ten
# (docs/benchmarks/petab.md), and of one alone a draw that fails is a hop lost.
_REDRAWN, _DRAWS = 0.3, 3


@final
class Hops:
    """How often a search goes on from its minimum, and the random numbers that lead it there."""

    def __init__(self, count: int, rng: np.random.Generator):
        self._count, self._rng = count, rng

    def search(
        self, points: Float[np.ndarray, "draws p"], box: Box, max_steps: int
    ) -> Search[Found]:
        """The best minimum of a search and its hops, from the first point that can be solved."""
        found = yield from _first(points, box, max_steps)
        for _ in range(self._count):
            if found.stopped in ("failures", "interrupted"):
                break
            found = yield from self._hop(found, box, max_steps)
        return found

    def _hop(self, found: Found, box: Box, max_steps: int) -> Search[Found]:
        """The same minimum or a lower one, whichever a search from near it finds."""
        best, known = found.x, None
        for _ in range(_DRAWS):
            x = self._redrawn(found.x, box)
            there = yield x
            if there is None:
                return found._replace(stopped="interrupted")
            if there.usable and (known is None or there.cost < known.cost):
                best, known = x, there
        found = found._replace(hops=found.hops + 1)
        if known is None:
            return found
        other = yield from minimize(best, box, max_steps, known)
        kept = other if other.cost < found.cost else found
        return kept._replace(
            steps=found.steps + other.steps,
            num_failed_steps=found.num_failed_steps + other.num_failed_steps,
            stopped="interrupted" if other.stopped == "interrupted" else kept.stopped,
            hops=found.hops,
            # The same minimum, found again, ends a little lower as often as not.
            hops_gained=found.hops_gained + (other.cost < found.cost - SMALLEST_GAIN),
        )

    def _redrawn(self, x: Float[np.ndarray, " p"], box: Box) -> Float[np.ndarray, " p"]:
        """The point with at least one of the parameters that have two bounds somewhere between."""
        width = box.upper - box.lower
        bounded = np.flatnonzero(np.isfinite(width) & (width > 0))
        chosen = self._rng.random(bounded.size) < _REDRAWN
        chosen[self._rng.integers(bounded.size)] = True
        new, index = x.copy(), bounded[chosen]
        new[index] = box.lower[index] + width[index] * self._rng.random(index.size)
        return new


def _first(points: Float[np.ndarray, "draws p"], box: Box, max_steps: int) -> Search[Found]:
    for x in points:
        found = yield from minimize(x, box, max_steps)
        if found.stopped != "failures":
            return found
    return found
