"""Parameters with a scale and bounds, and parameters that stay fixed."""

import contextlib
import math
from typing import Any, SupportsFloat, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from .._arguments import real_numbers
from ._reaction_network import ReactionNetwork


@final
class Parameter(paramax.AbstractUnwrappable):
    r"""A trainable number, or array of numbers, with a scale and bounds.

    Training moves `raw`: the value itself, or its natural logarithm on a logarithmic scale. A
    `paramax.unwrap` of the tree puts the value in its place. What is predicted of a
    [`stiffrax.System`][] is by values; a function that is added to a loss, and whoever calls a fitted
    `field` by hand, unwraps it: `paramax.unwrap(system).field.k`. Made by [`stiffrax.positive`][] and
    [`stiffrax.bounded`][].

    **Attributes:**

    - `raw`: what is trained, of any shape.
    - `lower`, `upper`: bounds of `raw`, infinite where there are none.
    - `log`: whether `raw` is the logarithm of the value.

    ```python
    >>> import stiffrax as srx
    >>> srx.positive(2.0, 0.1, 10.0)
    Parameter(2, from 0.1 to 10, log scale)

    ```
    """

    raw: Float[Array | np.ndarray, "..."]
    lower: float = eqx.field(static=True)
    upper: float = eqx.field(static=True)
    log: bool = eqx.field(static=True)

    def unwrap(self) -> Float[Array, "..."]:
        """The value."""
        return jnp.exp(self.raw) if self.log else jnp.asarray(self.raw)

    def __repr__(self) -> str:
        if not isinstance(self.raw, np.ndarray | Array) or not hasattr(self.raw, "tolist"):
            return f"Parameter({self.raw!r})"
        change = np.exp if self.log else np.asarray
        value = np.array2string(change(np.asarray(self.raw)), precision=6)
        ends = f"from {change(self.lower):.4g} to {change(self.upper):.4g}"
        return f"Parameter({value.rstrip('.')}, {ends}{', log scale' if self.log else ''})"


def positive(value: Any, lower: float = 0.0, upper: float = math.inf) -> Parameter:
    r"""A positive parameter that is trained on a logarithmic scale.

    $$\theta = e^r, \qquad \log lower \le r \le \log upper$$

    **Arguments:**

    - `value`: where training begins, a number or an array, in the parameter's unit.
    - `lower`, `upper`: bounds in the same unit. [`stiffrax.fit_parameters`][] draws its starts
        between them and never leaves them; [`stiffrax.fit`][] stops there.

    **Returns:** a [`stiffrax.Parameter`][].

    **Raises:** `ValueError` for a value that is not positive or outside its bounds.

    ```python
    >>> import paramax, stiffrax as srx
    >>> rates = {"k_on": srx.positive(3.0, 1e-3, 1e3)}
    >>> print(f"{paramax.unwrap(rates)['k_on']:.1f}")
    3.0

    ```
    """
    value = real_numbers("positive", value)
    if not np.all(value > 0) or (_is_number(lower) and lower < 0):
        raise ValueError(
            f"`positive({value}, lower={lower})` was given; value and bounds on a logarithmic scale "
            "are positive. Write `srx.bounded(value, lower, upper)` for numbers of any sign."
        )
    _check_bounds("positive", value, lower, upper)
    low = math.log(lower) if lower > 0 else -math.inf
    high = math.log(upper) if upper < math.inf else upper
    # In double precision: single has no 1e-40.
    return Parameter(_within(np.log(value), low, high), low, high, True)


def bounded(value: Any, lower: float = -math.inf, upper: float = math.inf) -> Parameter:
    """A parameter between two bounds, on its own scale.

    **Arguments:**

    - `value`: where training begins, a number or an array, in the parameter's unit.
    - `lower`, `upper`: bounds in the same unit; infinite where there are none.

    **Returns:** a [`stiffrax.Parameter`][].

    **Raises:** `ValueError` for a value outside its bounds.

    ```python
    >>> import stiffrax as srx
    >>> srx.bounded(0.0, -1.0, 1.0)
    Parameter(0, from -1 to 1)

    ```
    """
    value = real_numbers("bounded", value)
    _check_bounds("bounded", value, lower, upper)
    return Parameter(_within(value, lower, upper), float(lower), float(upper), False)


def _within(value: Any, lower: float, upper: float) -> Array:
    """In the precision of JAX, whose rounding may not lead beyond a bound."""
    value = jnp.asarray(value)
    with np.errstate(over="ignore"):
        least, most = (np.asarray(x, float).astype(value.dtype) for x in (lower, upper))
    least = np.where(
        least.astype(float) < lower, np.nextafter(least, np.inf, dtype=value.dtype), least
    )
    most = np.where(
        most.astype(float) > upper, np.nextafter(most, -np.inf, dtype=value.dtype), most
    )
    return jnp.clip(value, jnp.asarray(least), jnp.asarray(most))


def fixed(value: Any) -> Any:
    """A number, array or module that is not trained.

    **Arguments:**

    - `value`: what stays as it is; a number, or a list of numbers in rows of one length, becomes a
        floating-point array.

    **Returns:** a `paramax.NonTrainable`; its value after `paramax.unwrap`.

    ```python
    >>> import paramax, stiffrax as srx
    >>> print(paramax.unwrap(srx.fixed(8.314)))
    8.314

    ```
    """
    plain, leaves = np.isscalar(value), jax.tree.leaves(value)
    if type(value) in (list, tuple) and leaves and all(map(np.isscalar, leaves)):
        with contextlib.suppress(ValueError):
            plain = np.asarray(value).dtype.kind in "biuf"
    return paramax.NonTrainable(jnp.asarray(value, float) if plain else value)


def split_trainable(tree: Any) -> tuple[Any, Any]:
    """The floating-point arrays of a tree that are not fixed, and the rest of it."""
    # A stopped gradient alone would not keep what is fixed from weight decay, and least squares
    # would see columns of zeros.
    return eqx.partition(tree, eqx.is_inexact_array, is_leaf=is_fixed)


def check_trainable(tree: Any) -> None:
    """Refuses complex arrays, and one `Parameter` at two places, among what would be trained.

    Gradients of complex arrays in JAX are conjugated, and optimizers, bounds and logarithms know real
    numbers. What is one object no transformation of JAX knows to be one.
    """
    seen: dict[int, str] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_whole)[0]:
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, Parameter) and seen.setdefault(id(leaf), name) != name:
            raise ValueError(
                f"`{seen[id(leaf)]}` and `{name}` are one `Parameter`, which would be trained as two. "
                "Keep it at one place that both read, such as `srx.System(..., parameters={'k': k})` "
                "and `args['k']`, or make two."
            )
    paths, _ = jax.tree_util.tree_flatten_with_path(split_trainable(tree)[0])
    for path, leaf in paths:
        if jnp.iscomplexobj(leaf):
            raise ValueError(
                f"The model has a complex array, `{jax.tree_util.keystr(path)}`, and real numbers "
                "alone are trained. Give its real and its imaginary part as two, or keep it with "
                "`srx.fixed(...)`."
            )


def _is_whole(node: Any) -> bool:
    return isinstance(node, Parameter) or is_fixed(node)


def is_fixed(node: Any) -> bool:
    """Whether a part of a tree is not trained."""
    return isinstance(node, paramax.NonTrainable)


def bounds_of(node: Any) -> tuple[float, float]:
    """The bounds of what is trained in a part of a tree that has some."""
    if isinstance(node, Parameter):
        return node.lower, node.upper
    return (0.0 if isinstance(node, ReactionNetwork) else -math.inf), math.inf


def has_bounds(node: Any) -> bool:
    """Whether a part of a tree is trained within bounds of its own."""
    return isinstance(node, Parameter | ReactionNetwork)


def within_bounds(tree: Any) -> Any:
    """The tree with every number that is trained moved to the nearest of its bounds, if beyond one."""

    def clip(node: Any, lower: float, upper: float) -> Any:
        if math.isinf(lower) and math.isinf(upper):
            return node
        trainable, rest = split_trainable(node)
        return eqx.combine(jax.tree.map(lambda x: jnp.clip(x, lower, upper), trainable), rest)

    def within(node: Any) -> Any:
        if isinstance(node, ReactionNetwork):
            # A rate that is a parameter has bounds of its own, which may be those of its logarithm.
            return jax.tree.map(
                lambda x: clip(x, *(bounds_of(x if isinstance(x, Parameter) else node))),
                node,
                is_leaf=lambda x: isinstance(x, Parameter) or is_fixed(x),
            )
        return clip(node, *bounds_of(node))

    return jax.tree.map(within, tree, is_leaf=lambda node: has_bounds(node) or is_fixed(node))


def _is_number(bound: Any) -> bool:
    return np.ndim(bound) == 0 and isinstance(bound, SupportsFloat) and not math.isnan(bound)


def _check_bounds(name: str, value: np.ndarray, lower: float, upper: float) -> None:
    if not (_is_number(lower) and _is_number(upper)):
        raise ValueError(
            f"`{name}({value}, lower={lower!r}, upper={upper!r})` was given; bounds are numbers, "
            "infinite where there are none. Write a parameter for each number that has its own."
        )
    if not (lower < upper and np.all(value >= lower) and np.all(value <= upper)):
        raise ValueError(
            f"`{name}({value}, lower={lower}, upper={upper})` was given; it needs lower < upper and "
            "a value between them."
        )
