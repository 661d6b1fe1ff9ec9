"""Models linear in their coefficients: terms, features of each output, functions of the user."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex, TypeVar, final

import equinox as eqx
import jax.numpy as jnp
import paramax
from jaxtyping import Array, Bool, Float

from .._arguments import check_count
from ..data._names import state_names
from ._checks import check_coefficients, check_single, check_state

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
        """This model with other coefficients; those that are not active become zero.

        **Arguments:**

        - `coefficients`: numbers, shaped like those of the model, whose scale and bounds they lose.

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


class AbstractLinearModel(AbstractTermModel):
    r"""A vector field with one coefficient for each output and feature.

    $$f_i(y) = \sum_j c_{ij} \varphi_j(y)$$

    The features `phi_j` are what a subclass says; the coefficients `c`, in the unit of `dy/dt` over
    that of the feature, are what is learned. Terms are switched off as those of any
    [`stiffrax.AbstractTermModel`][]. Derivative regression and recovery need no more than this.

    **Attributes:**

    - `coefficients`: `c`, `Float[Array, "outputs features"]`.
    - `active`: the mask, `Bool[Array, "outputs features"]`.
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
        """`f(y)`; `t` and `args` are not used. `ValueError` for a stack of models."""
        # `where`, for it cuts the gradient too. A product, for broadcast-multiply-sum measured slower
        # here at 8 states of degree 2, for one lane and for batches. What is off everywhere may
        # overflow, and zero times infinity is NaN.
        features = jnp.where(jnp.any(self.active, axis=-2), self.features(y), 0)
        coefficients = check_single(jnp.where(self.active, self.coefficients, 0), 2)
        return jnp.matmul(coefficients, features, precision="highest")


@final
class Library(AbstractLinearModel):
    r"""A weighted sum of given functions: rational, Michaelis-Menten, Arrhenius-like terms.

    $$f_i(y) = \sum_j c_{ij} \varphi_j(y)$$

    A function is ordinary JAX code: `to_sympy` finds its formula by tracing. It may be an equinox
    module; the arrays in it, such as a saturation constant, are then trained too, and may be wrapped:
    [`stiffrax.positive`][], [`stiffrax.bounded`][], [`stiffrax.fixed`][]. Where a function
    is not finite, the model is not, or its derivatives are not if all its terms are switched off
    (zero times infinity): leave it out.

    **Arguments:**

    - `functions`: the functions `phi_j`, each from a state of shape `(n,)` to a scalar: a mapping
        from name to function, or a sequence, whose names are then `f1, f2, ...`.
    - `num_states`: the number `n` of states.
    - `coefficients`: `c`, `Float[Array, "outputs functions"]`, in the unit of `dy/dt` over that of
        the function; default zero. Their dtype is that of the model.
    - `active`: `Bool[Array, "outputs functions"]`, false for terms that stay exactly zero; default
        all true.
    - `num_outputs`: the number of components of `f`; default `n`, as a vector field needs.

    **Raises:** `ValueError` for an empty library, for counts below 1, for arrays of the wrong shape
    or kind and, when called, for a function that returns no scalar.

    ```python
    >>> import jax.numpy as jnp
    >>> import stiffrax as srx
    >>> functions = {"growth": lambda y: y[0], "uptake": lambda y: y[0] / (0.5 + y[0])}
    >>> model = srx.Library(functions, num_states=1, coefficients=[[0.1, -2.0]])
    >>> print(model(0.0, jnp.array([1.5])))
    [-1.35]
    >>> srx.to_sympy(model)
    (0.1*y1 - 2*y1/(y1 + 0.5),)

    ```
    """

    functions: tuple[Callable[..., Any], ...]
    coefficients: Float[Array, "outputs features"]
    active: Bool[Array, "outputs features"]
    num_states: int = eqx.field(static=True)
    _feature_names: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]] | Sequence[Callable[..., Any]],
        num_states: SupportsIndex,
        *,
        coefficients: Any = None,
        active: Any = None,
        num_outputs: SupportsIndex | None = None,
    ):
        if not isinstance(functions, Mapping):
            functions = {f"f{j + 1}": function for j, function in enumerate(functions)}
        if not functions or not all(map(callable, functions.values())):
            raise ValueError(
                f"`functions` must be one or more functions of the state, got {functions}: write "
                'for example `{"y1": lambda y: y[0]}`.'
            )
        self.functions = tuple(functions.values())
        self._feature_names = tuple(functions)
        self.num_states = check_count("num_states", num_states)
        outputs = check_count(
            "num_outputs", self.num_states if num_outputs is None else num_outputs
        )
        self.coefficients, self.active = check_coefficients(
            coefficients, active, (outputs, len(functions))
        )

    def features(self, y: Array) -> Float[Array, " features"]:
        """The value of every function at the state `y`.

        **Raises:** `ValueError` if a function returns something other than a scalar.
        """
        y = check_state(y, self.num_states)
        values = [jnp.asarray(function(y)) for function in paramax.unwrap(self.functions)]
        for name, value in zip(self._feature_names, values, strict=True):
            if value.shape != ():
                raise ValueError(
                    f"Function `{name}` must return a scalar, got shape {value.shape}: write one "
                    "function for each term, for example `lambda y: y[0]`."
                )
        return jnp.stack(values)

    def feature_names(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The names that came with the functions; those of the states are only checked."""
        state_names(names, self.num_states)
        return self._feature_names
