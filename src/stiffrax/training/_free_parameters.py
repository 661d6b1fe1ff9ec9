"""The trainable numbers of a model as one vector, without those that are switched off."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..models import (
    AbstractTermModel,
    Parameter,
    PartiallyKnown,
    bounds_of,
    check_real,
    has_bounds,
    is_fixed,
    split_trainable,
)


def _is_linear(node: Any) -> bool:
    return isinstance(node, AbstractTermModel)


def _is_trained(node: Any) -> bool:
    return _is_linear(node) and not is_fixed(node.coefficients)


def _is_part(node: Any) -> bool:
    return _is_linear(node) or isinstance(node, Parameter) or is_fixed(node)


def _of_parts(entries: Callable[[Any], Any], model: Any) -> Any:
    return jax.tree.map(entries, model, is_leaf=_is_part)


@final
class FreeParameters:
    """A model split into the vector of its floating-point numbers and everything else.

    Free is every number, but for coefficients that a linear model has switched off: nothing depends
    on them, and they stay in the vector, so that another choice of terms needs no compilation.

    - `index`: which entries of the vector are free.
    - `droppable`: which of the free ones are terms of a linear model.
    - `lower`, `upper`: bounds of all numbers: zero from below for the rates of reactions.
    """

    def __init__(self, model: Any):
        self._model = model
        check_real(model)
        trainable, self._static = split_trainable(model)
        self._flat, _ = ravel_pytree(trainable)
        self._leaves, self._tree = jax.tree.flatten(trainable)
        self._ends = np.cumsum([leaf.size for leaf in self._leaves])
        mask, self._unravel_mask = ravel_pytree(_of_parts(_free_entries, model))
        droppable, _ = ravel_pytree(_droppable(model))
        self.index = np.flatnonzero(np.asarray(mask))
        if len(self.index) == 0:
            raise ValueError(
                f"The model {type(model).__name__} has no free parameter to fit: no floating-point "
                "array, or every coefficient is switched off. Pass a model with trainable arrays."
            )

        self.droppable = np.asarray(droppable)[self.index]
        self.lower, self.upper = (
            np.asarray(ravel_pytree(_bounds(end, trainable))[0], float) for end in (0, 1)
        )

    def without(self, drop: np.ndarray) -> Any:
        """The model with the given free parameters, coefficients all, switched off."""
        mask = np.zeros(self._flat.size, bool)
        mask[np.delete(self.index, drop)] = True
        kept = self._unravel_mask(jnp.asarray(mask))

        def switch(node: Any, active: Any) -> Any:
            return node.with_active(active.coefficients) if _is_trained(node) else node

        return jax.tree.map(switch, self._model, kept, is_leaf=_is_part)

    @property
    def values(self) -> Float[Array, " parameters"]:
        """All numbers of the model given."""
        return self._flat

    def model(self, values: Any) -> Any:
        """The model with other values, `(parameters,)`, as arrays of NumPy if they are one."""
        leaves = [
            values[end - leaf.size : end].reshape(leaf.shape).astype(leaf.dtype)
            for end, leaf in zip(self._ends, self._leaves, strict=True)
        ]
        return eqx.combine(jax.tree.unflatten(self._tree, leaves), self._static)


def _full(node: Any, value: Any) -> Any:
    return jax.tree.map(lambda x: jnp.full(x.shape, value), split_trainable(node)[0])


def _free_entries(node: Any) -> Any:
    free = _full(node, True)
    if _is_trained(node):
        free = eqx.tree_at(lambda tree: tree.coefficients, free, jnp.asarray(node.active))
    return free


def _bounds(end: int, trainable: Any) -> Any:
    # Not by parts: a linear model may hold functions with parameters of their own.
    def of(node: Any) -> Any:
        return jax.tree.map(lambda x: np.full(x.shape, bounds_of(node)[end]), node)

    return jax.tree.map(of, trainable, is_leaf=has_bounds)


def _droppable(model: Any) -> Any:
    """Which numbers are coefficients that can be switched off: terms, but those that are known."""

    def entries(node: Any) -> Any:
        if isinstance(node, PartiallyKnown):
            return _droppable(node.learned), _full(node._known, False)
        dropped = _full(node, False)
        if _is_trained(node):
            _check_linear(node)
            ones = jnp.ones(node.coefficients.shape, bool)
            dropped = eqx.tree_at(lambda tree: tree.coefficients, dropped, ones)
        return dropped

    def is_part(node: Any) -> bool:
        return _is_part(node) or isinstance(node, PartiallyKnown)

    return jax.tree.map(entries, model, is_leaf=is_part)


def _check_linear(node: Any) -> None:
    if isinstance(node.coefficients, paramax.AbstractUnwrappable):
        raise ValueError(
            f"The coefficients of the {type(node).__name__} are a {type(node.coefficients).__name__}; "
            "least squares and pruning need plain numbers, in which the model is linear. Write "
            "`paramax.unwrap(model)`, or fit `srx.System(model)` by `srx.fit_parameters`."
        )
