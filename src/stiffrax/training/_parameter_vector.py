"""The parameters of a system as one vector, with names and bounds."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from ..models import Parameter


def _is_part(node: Any) -> bool:
    return isinstance(node, Parameter | paramax.NonTrainable)


@final
class ParameterVector:
    """Every trainable number of a system in one vector: of a `Parameter` what it trains.

    **Attributes:**

    - `names`: the path of each number in the tree, such as `field.k_on` or `field.weights[3]`.
    - `start`: the numbers of the system given.
    - `lower`, `upper`: their bounds, infinite where there are none.
    - `log`: which are logarithms of what they stand for.
    - `scale`: a change that is neither small nor large: one on a logarithmic scale, a tenth of the
        way between two bounds, else the root mean square of its array, or one.
    """

    def __init__(self, system: Any):
        self.given = system
        paths, _ = jax.tree_util.tree_flatten_with_path(system, is_leaf=_is_part)
        self.names: list[str] = []
        parts: list[tuple[np.ndarray, float, float, bool]] = []
        sizes: list[np.ndarray] = []
        for path, leaf in paths:
            value = _trained(leaf)
            if value is None:
                continue
            name, shape = _name(path), np.shape(value)
            index = np.ndindex(shape)
            self.names += [name + "".join(f"[{k}]" for k in one) for one in index]
            numbers = np.asarray(value, float).ravel()
            own = leaf if isinstance(leaf, Parameter) else Parameter(value, -np.inf, np.inf, False)
            parts.append((numbers, own.lower, own.upper, own.log))
            # One size for an array: a weight that happens to be small may move as far as the others.
            size = float(np.sqrt(np.mean(numbers**2))) if numbers.size else 0.0
            sizes.append(np.full(numbers.size, size if size > 0 else 1.0))
        if not parts:
            raise ValueError(
                "The system has no parameter to fit: no floating-point array that is not fixed. "
                "Write `srx.positive(1.0, 1e-3, 1e3)` for a rate."
            )
        self.start = np.concatenate([x for x, *_ in parts])
        self.lower, self.upper, self.log = (
            np.concatenate([np.full(x.size, ends[k]) for x, *ends in parts]) for k in range(3)
        )
        self.log = self.log.astype(bool)
        width = np.where(np.isfinite(self.upper - self.lower), self.upper - self.lower, 0.0)
        self.scale = np.where(width > 0, width / 10, np.concatenate(sizes))
        self.scale = np.where(self.log, 1.0, self.scale)

    def __len__(self) -> int:
        return len(self.names)

    def system(self, x: Float[Array | np.ndarray, " parameters"]) -> Any:
        """The system with these numbers."""
        return filled(self.given, x)

    def values(self, x: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, " parameters"]:
        """What the numbers stand for, in the units of the parameters."""
        with np.errstate(over="ignore"):
            return np.where(self.log, np.exp(np.where(self.log, x, 0.0)), x)

    def index(self, name: str) -> int:
        """The place of a parameter, by its name or the end of it, `k_on` of `field.k_on`."""
        found = [i for i, own in enumerate(self.names) if own == name]
        found = found or [
            i for i, own in enumerate(self.names) if own.endswith(("." + name, f"[{name!r}]"))
        ]
        if len(found) != 1:
            what = "no parameter" if not found else f"{len(found)} parameters"
            raise ValueError(f"The system has {what} {name!r}; it has {self.names}.")
        return found[0]


def filled(system: Any, x: Float[Array | np.ndarray, " parameters"]) -> Any:
    """A system with other parameters, in the order of its tree."""
    leaves, tree = jax.tree.flatten(system, is_leaf=_is_part)
    new, done = [], 0
    for leaf in leaves:
        value = _trained(leaf)
        if value is None:
            new.append(leaf)
            continue
        part = jnp.asarray(x)[done : done + value.size].reshape(value.shape).astype(value.dtype)
        done += value.size
        is_own = isinstance(leaf, Parameter)
        new.append(Parameter(part, leaf.lower, leaf.upper, leaf.log) if is_own else part)
    return jax.tree.unflatten(tree, new)


def _trained(leaf: Any) -> Any:
    """The numbers of a leaf that are trained, or `None`."""
    value = leaf.raw if isinstance(leaf, Parameter) else leaf
    return value if eqx.is_inexact_array(value) else None


def _name(path: tuple[Any, ...]) -> str:
    """`field.rates.k` of a path; an entry of a sequence is a number in brackets."""
    name = ""
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            name += f"[{key.idx}]"
        else:
            # A private field, such as the known part of a model, is read by a property.
            name += f".{str(getattr(key, 'name', getattr(key, 'key', key))).lstrip('_')}"
    return name.removeprefix(".")
