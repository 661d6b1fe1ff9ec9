"""The trainable numbers of a model as one vector, without those that are switched off."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..models import AbstractTermModel, ReactionNetwork


def _is_linear(node: Any) -> bool:
    return isinstance(node, AbstractTermModel)


@final
class FreeParameters:
    """A model split into the vector of its floating-point numbers and everything else.

    Free is every number, but for coefficients that a linear model has switched off: nothing depends
    on them, and they stay in the vector, so that another choice of terms needs no compilation.

    - `index`: which entries of the vector are free.
    - `droppable`: which of the free ones are terms of a linear model.
    - `lower`: bounds of all numbers: zero for the rates of reactions.
    """

    def __init__(self, model: Any):
        self._model = model
        trainable, self._static = eqx.partition(model, eqx.is_inexact_array)
        self._flat, _ = ravel_pytree(trainable)
        self._leaves, self._tree = jax.tree.flatten(trainable)
        self._ends = np.cumsum([leaf.size for leaf in self._leaves])
        free = jax.tree.map(_free_entries, model, is_leaf=_is_linear)
        mask, self._unravel_mask = ravel_pytree(free)
        droppable, _ = ravel_pytree(jax.tree.map(_droppable_entries, model, is_leaf=_is_linear))
        self.index = np.flatnonzero(np.asarray(mask))
        if len(self.index) == 0:
            raise ValueError(
                f"The model {type(model).__name__} has no free parameter to fit: no floating-point "
                "array, or every coefficient is switched off. Pass a model with trainable arrays."
            )

        self.droppable = np.asarray(droppable)[self.index]
        rates, _ = ravel_pytree(jax.tree.map(_rates, model, is_leaf=_is_linear))
        self.lower = np.where(rates, 0.0, -np.inf)

    def without(self, drop: np.ndarray) -> Any:
        """The model with the given free parameters, coefficients all, switched off."""
        mask = np.zeros(self._flat.size, bool)
        mask[np.delete(self.index, drop)] = True
        kept = self._unravel_mask(jnp.asarray(mask))

        def switch(node: Any, active: Any) -> Any:
            return node.with_active(active.coefficients) if _is_linear(node) else node

        return jax.tree.map(switch, self._model, kept, is_leaf=_is_linear)

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


def _free_entries(node: Any) -> Any:
    """A tree of booleans over the floating-point arrays of a leaf or a linear model."""
    trainable = eqx.filter(node, eqx.is_inexact_array)
    free = jax.tree.map(lambda x: jnp.ones(x.shape, bool), trainable)
    if _is_linear(node):
        free = eqx.tree_at(lambda tree: tree.coefficients, free, jnp.asarray(node.active))
    return free


def _rates(node: Any) -> Any:
    """Which entries are rates of reactions."""
    is_network = isinstance(node, ReactionNetwork)
    entries = eqx.filter(node, eqx.is_inexact_array)
    return jax.tree.map(lambda x: jnp.full(x.shape, is_network), entries)


def _droppable_entries(node: Any) -> Any:
    """Which entries are coefficients of a linear model: only a term can be switched off."""
    trainable = eqx.filter(node, eqx.is_inexact_array)
    entries = jax.tree.map(lambda x: jnp.zeros(x.shape, bool), trainable)
    if _is_linear(node):
        ones = jnp.ones(node.coefficients.shape, bool)
        entries = eqx.tree_at(lambda tree: tree.coefficients, entries, ones)
    return entries
