"""A polynomial vector field."""

from collections.abc import Sequence
from typing import Any, SupportsIndex, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._checks import check_coefficients, check_count, check_names, check_state
from ._linear import AbstractLinearModel
from ._monomials import monomials


@final
class Polynomial(AbstractLinearModel):
    r"""All monomials up to a degree, with one coefficient for each output and monomial.

    $$f_i(y) = \sum_j c_{ij} \prod_k y_k^{e_{jk}}, \qquad \sum_k e_{jk} \le \mathrm{degree}$$

    The monomials are ordered by degree, and within a degree like
    `itertools.combinations_with_replacement`: for two states `1, y1, y2, y1^2, y1*y2, y2^2`. Each
    is one of a degree lower times a state, so that values and derivatives are exact at zero and for
    negative states. One evaluation costs a multiplication a monomial and a matrix-vector product.

    **Arguments:**

    - `num_states`: the number `n` of states.
    - `degree`: the highest total degree of a monomial, at least 1.
    - `coefficients`: `c`, `Float[Array, "outputs monomials"]`, in the unit of `dy/dt` over that of
        the monomial; default zero. Their dtype is that of the model.
    - `active`: `Bool[Array, "outputs monomials"]`, false for terms that stay exactly zero; default
        all true.
    - `outputs`: the number of components of `f`; default `n`, as a vector field needs.

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
        outputs: SupportsIndex | None = None,
    ):
        self.num_states = check_count("num_states", num_states)
        self.degree = check_count("degree", degree)
        outputs = self.num_states if outputs is None else check_count("outputs", outputs)
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
        names = check_names(names, self.num_states)
        return tuple(_monomial_name(exponents, names) for exponents in self.exponents)


def _monomial_name(exponents: np.ndarray, names: Sequence[str]) -> str:
    factors = (
        name if power == 1 else f"{name}^{power}"
        for name, power in zip(names, exponents, strict=True)
        if power
    )
    return "*".join(factors) or "1"
