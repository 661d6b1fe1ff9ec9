"""Models that are linear in their coefficients."""

import abc
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._checks import check_coefficients

# Not `typing.Self`: the run-time check of annotations in the tests cannot resolve it.
Model = TypeVar("Model", bound="AbstractLinearModel")


class AbstractLinearModel(eqx.Module):
    r"""A vector field that is linear in its coefficients.

    $$f_i(y) = \sum_j c_{ij} \varphi_j(y)$$

    The features `phi_j` are what a subclass says; the coefficients `c` are what is learned. A term
    whose entry of `active` is false is switched off: it adds exactly zero and its gradient is zero.
    Derivative regression, pruning and recovery need no more than this.

    **Attributes:**

    - `coefficients`: `c`, `Float[Array, "outputs features"]`, the leaf that is trained, in the unit
        of `dy/dt` over that of the feature.
    - `active`: the mask, `Bool[Array, "outputs features"]`. It is a leaf, so that another mask
        needs no new compilation, and boolean, so that no optimizer touches it.
    - `num_states`: `n`, the length of the state.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.Polynomial(1, degree=2, coefficients=[[1.0, 2.0, 3.0]])
    >>> model = model.with_active([[False, True, True]])
    >>> print(model.coefficients)
    [[0. 2. 3.]]
    >>> isinstance(model, srx.AbstractLinearModel)
    True

    ```
    """

    coefficients: eqx.AbstractVar[Float[Array, "outputs features"]]
    active: eqx.AbstractVar[Bool[Array, "outputs features"]]
    num_states: eqx.AbstractVar[int]

    @abc.abstractmethod
    def features(self, y: Array) -> Float[Array, " features"]:
        """`phi(y)`: the value of every feature at one state."""

    @abc.abstractmethod
    def feature_names(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """A readable name of every feature, given the names of the states."""

    @property
    def num_outputs(self) -> int:
        """The number of components of `f`."""
        return self.coefficients.shape[-2]

    @property
    def num_features(self) -> int:
        """The number of features, the width of `coefficients`."""
        return self.coefficients.shape[-1]

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " outputs"]:
        """`f(y)`; `t` and `args` are not used."""
        # `where`, for it cuts the gradient too. `@`, for broadcast-multiply-sum measured slower
        # here at 8 states of degree 2, for one lane and for batches.
        return jnp.where(self.active, self.coefficients, 0) @ self.features(y)

    def with_coefficients(self: Model, coefficients: Any) -> Model:
        """This model with other coefficients; those that are not active become zero.

        **Arguments:**

        - `coefficients`: `Float[Array, "outputs features"]`.

        **Raises:** `ValueError` if they have another shape or are complex.
        """
        return self._with(coefficients, self.active)

    def with_active(self: Model, active: Any) -> Model:
        """This model with another mask; coefficients that are not active become zero.

        **Arguments:**

        - `active`: `Bool[Array, "outputs features"]`, true where a term is kept. A term that is
            switched on again starts at zero.

        **Raises:** `ValueError` if it has another shape or holds other things than booleans.
        """
        return self._with(self.coefficients, active)

    def _with(self: Model, coefficients: Any, active: Any) -> Model:
        new = check_coefficients(coefficients, active, (self.num_outputs, self.num_features))
        return eqx.tree_at(lambda model: (model.coefficients, model.active), self, new)
