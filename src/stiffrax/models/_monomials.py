"""The monomials of n states up to a degree, in their one fixed order."""

import functools
import itertools
from typing import NamedTuple, final

import numpy as np


@final
class Monomials(NamedTuple):
    """Index tables of all monomials `y_1^e_1 ... y_n^e_n` with `e_1 + ... + e_n <= degree`.

    They are ordered by degree, and within a degree like
    `itertools.combinations_with_replacement(range(n), degree)`: for two states
    `1, y1, y2, y1^2, y1 y2, y2^2`.

    - `exponents`: integers, monomials x states.
    - `levels`: for every degree d from 2 on a pair `(parents, factors)`: monomial k of that degree
        is monomial `parents[k]` of degree d - 1 times state `factors[k]`.
    - `products`: integers, monomials x states: `products[m, i]` is the number of the monomial
        "m times state i". It has rows for the monomials below the highest degree only.
    """

    exponents: np.ndarray
    levels: tuple[tuple[np.ndarray, np.ndarray], ...]
    products: np.ndarray


@functools.cache
def monomials(num_states: int, degree: int) -> Monomials:
    """Returns the tables; they are built once for each pair of arguments and are read-only."""
    by_degree = [
        list(itertools.combinations_with_replacement(range(num_states), d))
        for d in range(degree + 1)
    ]
    levels = []
    for lower, level in itertools.pairwise(by_degree[1:]):
        place = {states: k for k, states in enumerate(lower)}
        # Dropping the last, largest state leaves a monomial of the lower level.
        parents = np.array([place[states[:-1]] for states in level])
        levels.append((_fixed(parents), _fixed(np.array([states[-1] for states in level]))))
    every = list(itertools.chain.from_iterable(by_degree))
    place = {states: k for k, states in enumerate(every)}
    exponents = np.zeros((len(every), num_states), dtype=int)
    for k, states in enumerate(every):
        np.add.at(exponents[k], list(states), 1)
    products = np.array(
        [
            [place[tuple(sorted((*states, i)))] for i in range(num_states)]
            for states in every
            if len(states) < degree
        ]
    )
    return Monomials(_fixed(exponents), tuple(levels), _fixed(products))


def _fixed(array: np.ndarray) -> np.ndarray:
    # The tables are shared by every model of this size through the cache.
    array.flags.writeable = False
    return array
