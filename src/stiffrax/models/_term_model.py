"""Models made of terms that can be switched off one by one."""

import abc
from typing import Any, TypeVar

import equinox as eqx
import paramax
from jaxtyping import Array, Bool, Float

from ._checks import check_coefficients

# Not `typing.Self`: the run-time check of annotations in the tests cannot resolve it.
Model = TypeVar("Model", bound="AbstractTermModel")


class AbstractTermModel(eqx.Module):
    """A vector field that is a sum of terms, linear in the coefficient of each.

    A term whose entry of `active` is false is switched off: it adds exactly zero and its gradient
    is zero. Least squares, pruning and the search for terms need no more than this.

    **Attributes:**

    - `coefficients`: `Float[Array, "..."]`, the leaf that is trained, one number a term.
    - `active`: the mask, booleans of the same shape. A leaf, so that another mask needs no new
        compilation; boolean, so that no optimizer touches it.
    - `num_states`: `n`, the length of the state.

    ```python
    >>> import stiffrax as srx
    >>> decay = srx.ReactionNetwork(["A -> B", "B -> A"], rates=[2.0, 1.0])
    >>> print(decay.with_active([True, False]))
    A -> B  2

    ```
    """

    coefficients: eqx.AbstractVar[Float[Array, "..."]]
    active: eqx.AbstractVar[Bool[Array, "..."]]
    num_states: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " outputs"]:
        """`f(y)`."""

    def with_coefficients(self: Model, coefficients: Any) -> Model:
        """This model with other coefficients, plain numbers; those that are not active become zero.

        **Arguments:**

        - `coefficients`: numbers, shaped like those of the model.

        **Raises:** `ValueError` if they have another shape or are complex.
        """
        return self._with(coefficients, self.active)

    def with_active(self: Model, active: Any) -> Model:
        """This model with another mask; coefficients that are not active become zero.

        **Arguments:**

        - `active`: booleans shaped like the coefficients, true where a term is kept. A term that is
            switched on again starts at zero.

        **Raises:** `ValueError` if it has another shape or holds other things than booleans.
        """
        return self._with(self.coefficients, active)

    def _with(self: Model, coefficients: Any, active: Any) -> Model:
        old = paramax.unwrap(self.coefficients)
        same = coefficients is self.coefficients
        new = check_coefficients(old if same else coefficients, active, old.shape)
        if same and isinstance(coefficients, paramax.AbstractUnwrappable):
            new = coefficients, new[1]  # a logarithm has no zero: what is off stays what it is
        return eqx.tree_at(lambda model: (model.coefficients, model.active), self, new)
