"""A polynomial vector field, a sum of monomials."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arguments import check_count
from ..data._names import state_names
from ._checks import check_coefficients, check_state
from ._linear import AbstractLinearModel


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


@final
class Polynomial(AbstractLinearModel):
    r"""All monomials up to a degree, with one coefficient for each output and monomial.

    $$f_i(y) = \sum_j c_{ij} \prod_k y_k^{e_{jk}}, \qquad \sum_k e_{jk} \le \mathrm{degree}$$

    The monomials are ordered by degree, and within a degree like
    `itertools.combinations_with_replacement`: for two states `1, y1, y2, y1^2, y1*y2, y2^2`. Each
    is one of a lower degree times a state, so that values and derivatives are exact at zero and for
    negative states. Cost: a multiplication a monomial and a matrix-vector product.

    **Arguments:**

    - `num_states`: the number `n` of states.
    - `degree`: the highest total degree of a monomial, at least 1.
    - `coefficients`: `c`, `Float[Array, "outputs monomials"]`, in the unit of `dy/dt` over that of
        the monomial; default zero. Their dtype is that of the model.
    - `active`: `Bool[Array, "outputs monomials"]`, false for terms that stay exactly zero; default
        all true.
    - `num_outputs`: the number of components of `f`; default `n`, as a vector field needs.

    **Raises:** `ValueError` for counts below 1 and for arrays of the wrong shape or kind.

    ```python
    >>> import jax.numpy as jnp
    >>> import stiffrax as srx
    >>> van_der_pol = [[0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0, -1, 5, 0, 0, 0, 0, -5, 0, 0]]
    >>> model = srx.Polynomial(2, degree=3, coefficients=van_der_pol)
    >>> model.feature_names()[-4:]
    ('y1^3', 'y1^2*y2', 'y1*y2^2', 'y2^3')
    >>> print(model(0.0, jnp.array([2.0, -1.0])))
    [-1. 13.]

    ```
    """

    coefficients: Float[Array, "outputs features"]
    active: Bool[Array, "outputs features"]
    num_states: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)

    def __init__(
        self,
        num_states: SupportsIndex,
        degree: SupportsIndex,
        *,
        coefficients: Any = None,
        active: Any = None,
        num_outputs: SupportsIndex | None = None,
    ):
        self.num_states = check_count("num_states", num_states)
        self.degree = check_count("degree", degree)
        outputs = check_count(
            "num_outputs", self.num_states if num_outputs is None else num_outputs
        )
        self.coefficients, self.active = check_coefficients(
            coefficients, active, (outputs, len(self.exponents))
        )

    @property
    def exponents(self) -> Int[np.ndarray, "features states"]:
        """The exponents `e` of every monomial, read-only."""
        return monomials(self.num_states, self.degree).exponents

    def features(self, y: Array) -> Float[Array, " features"]:
        """The value of every monomial at the state `y`, the constant 1 first."""
        y = check_state(y, self.num_states)
        levels = [jnp.ones(1, y.dtype), y]
        for parents, factors in monomials(self.num_states, self.degree).levels:
            levels.append(levels[-1][parents] * y[factors])
        return jnp.concatenate(levels)

    def feature_names(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The monomials as text, such as `1`, `y1`, `y1^2`, `y1*y2`.

        **Arguments:**

        - `names`: the names of the states; default `y1 ... yn`.

        **Raises:** `ValueError` if there is not one name for each state or two are the same.
        """
        names = state_names(names, self.num_states)
        return tuple(_monomial_name(exponents, names) for exponents in self.exponents)


def _monomial_name(exponents: np.ndarray, names: Sequence[str]) -> str:
    factors = (
        name if power == 1 else f"{name}^{power}"
        for name, power in zip(names, exponents, strict=True)
        if power
    )
    return "*".join(factors) or "1"
