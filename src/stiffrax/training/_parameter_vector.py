"""The trainable numbers of a model as one vector; those of a system with names and bounds."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..models import (
    AbstractTermModel,
    Parameter,
    PartiallyKnown,
    ReactionNetwork,
    bounds_of,
    check_trainable,
    has_bounds,
    is_fixed,
    split_trainable,
)


def _is_wrapped(node: Any) -> bool:
    return isinstance(node, Parameter | paramax.NonTrainable)


@final
class _Terms(NamedTuple):
    """What a model of terms says of its coefficients: those that are on, bounds, and their names."""

    active: Bool[np.ndarray, "..."]
    lower: float
    upper: float
    names: tuple[str, ...]


@final
class ParameterVector:
    """Every trainable number of a system in one vector: of a `Parameter` what it trains.

    Coefficients that a model has switched off are none: nothing depends on them.

    **Attributes:**

    - `names`: the path of each number in the tree, such as `field.k_on` or `field.weights[3]`; of
        the rate of a reaction `field.rates['A -> B']`.
    - `start`: the numbers of the system given.
    - `lower`, `upper`: their bounds, infinite where there are none.
    - `log`: which are logarithms of what they stand for.
    - `scale`: a change that is neither small nor large: one on a logarithmic scale; others are
        `guessed`, as a tenth of the way between two bounds, else as the root mean square of the array,
        or one.
    - `places`: of each array that is trained which of its numbers are in the vector; `None`: all.
    """

    def __init__(self, system: Any):
        check_trainable(system)
        self.given = system
        paths, _ = jax.tree_util.tree_flatten_with_path(system, is_leaf=_is_wrapped)
        terms = _terms_by_path(system)
        self.names: list[str] = []
        self.places: list[Int[np.ndarray, " numbers"] | None] = []
        parts: list[tuple[np.ndarray, float, float, bool]] = []
        sizes: list[np.ndarray] = []
        for path, leaf in paths:
            value = _trained(leaf)
            if value is None:
                continue
            of_terms = terms.get(jax.tree_util.keystr(path))
            numbers, shape = np.asarray(value, float).ravel(), np.shape(value)
            names = [_name(path) + "".join(f"[{k}]" for k in one) for one in np.ndindex(shape)]
            lower, upper, place = -np.inf, np.inf, None
            if of_terms is not None:
                lower, upper = of_terms.lower, of_terms.upper
                names = [_name(path[:-1]) + x for x in of_terms.names] or names
                if not of_terms.active.all():
                    place = np.flatnonzero(of_terms.active)
                    names, numbers = [names[k] for k in place], numbers[place]
            self.names += names
            self.places.append(place)
            own = leaf if isinstance(leaf, Parameter) else Parameter(value, lower, upper, False)
            parts.append((np.clip(numbers, own.lower, own.upper), own.lower, own.upper, own.log))
            # One size for an array: a weight that happens to be small may move as far as the others.
            size = float(np.sqrt(np.mean(numbers**2))) if numbers.size else 0.0
            sizes.append(np.full(numbers.size, size if size > 0 else 1.0))
        if not self.names:
            raise ValueError(
                "The system has no parameter to fit: no floating-point array that is not fixed. "
                "Write `srx.positive(1.0, 1e-3, 1e3)` for a rate."
            )
        if len({*self.names}) < len(self.names):
            raise ValueError(
                f"Two parameters have one name of {self.names}, without leading underscores. "
                "Rename a field."
            )
        self.start = np.concatenate([x for x, *_ in parts])
        self.lower, self.upper, self.log = (
            np.concatenate([np.full(x.size, ends[k]) for x, *ends in parts]) for k in range(3)
        )
        self.log = self.log.astype(bool)
        width = self.upper - self.lower
        # Bounds may be generous, beyond all that a number can be.
        self.guessed = ~self.log
        without = (width == 0) | ~np.isfinite(width)
        self.scale = np.where(without, np.concatenate(sizes), width / 10)
        self.scale = np.where(self.log, 1.0, self.scale)

    def __len__(self) -> int:
        return len(self.names)

    def system(self, x: Float[Array | np.ndarray, " parameters"]) -> Any:
        """The system with these numbers."""
        return filled(self.given, x, self.places)

    def index(self, name: str) -> int:
        """The place of a parameter, by its name or the end of it, `k_on` of `field.k_on`."""
        found = [i for i, own in enumerate(self.names) if own == name]
        found = found or [
            i for i, own in enumerate(self.names) if own.endswith((f".{name}", f"[{name!r}]"))
        ]
        if len(found) != 1:
            what = "no parameter" if not found else f"{len(found)} parameters"
            raise ValueError(f"The system has {what} {name!r}; it has {self.names}.")
        return found[0]


def filled(system: Any, x: Float[Array | np.ndarray, " parameters"], places: list[Any]) -> Any:
    """A system with other parameters, in the order of its tree, and where `places` says."""
    leaves, tree = jax.tree.flatten(system, is_leaf=_is_wrapped)
    new, done, remaining = [], 0, iter(places)
    for leaf in leaves:
        value = _trained(leaf)
        if value is None:
            new.append(leaf)
            continue
        place = next(remaining)
        size = value.size if place is None else place.size
        part = jnp.asarray(x)[done : done + size].astype(value.dtype)
        part = part if place is None else jnp.ravel(value).at[place].set(part)
        part = part.reshape(value.shape)
        done += size
        is_own = isinstance(leaf, Parameter)
        new.append(Parameter(part, leaf.lower, leaf.upper, leaf.log) if is_own else part)
    return jax.tree.unflatten(tree, new)


def _trained(leaf: Any) -> Any:
    value = leaf.raw if isinstance(leaf, Parameter) else leaf
    return value if eqx.is_inexact_array(value) else None


def _terms_by_path(tree: Any, above: tuple[Any, ...] = ()) -> dict[str, _Terms]:
    def is_other(node: Any) -> bool:
        return node is not tree and isinstance(node, AbstractTermModel)

    found = {}
    if isinstance(tree, AbstractTermModel):
        reactions = tree.reactions() if isinstance(tree, ReactionNetwork) else ()
        names = tuple(f".rates[{text!r}]" for text in reactions)
        key = jax.tree_util.keystr((*above, jax.tree_util.GetAttrKey("coefficients")))
        found[key] = _Terms(np.asarray(tree.active), *bounds_of(tree), names)
    below, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: is_other(node) or _is_wrapped(node)
    )
    for path, node in below:
        if is_other(node):
            found |= _terms_by_path(node, (*above, *path))
    return found


def _name(path: tuple[Any, ...]) -> str:
    """`field.rates.k` of a path; an entry of a sequence is a number in brackets."""
    name = ""
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            name += f"[{key.idx}]"
        elif isinstance(key, jax.tree_util.GetAttrKey):
            # A private field, such as the known part of a model, is read by a property.
            name += f".{key.name.lstrip('_')}"
        else:
            name += f".{getattr(key, 'key', key)}"
    return name.removeprefix(".")


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
        check_trainable(model)
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
