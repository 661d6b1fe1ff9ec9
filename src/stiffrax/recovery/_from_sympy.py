"""A JAX vector field from SymPy expressions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ._equations import as_system
from ._symbolic_model import SymbolicModel, compiled

if TYPE_CHECKING:
    import sympy


def from_sympy(
    equations: "Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    names: "Sequence[sympy.Symbol | str] | None" = None,
) -> SymbolicModel:
    """A vector field from SymPy expressions, the inverse of `to_sympy`.

    It is traced once by JAX and then as fast as one written by hand. Every digit of a float is
    kept, and whole powers have exact derivatives at zero and for negative states.

    **Arguments:**

    - `equations`: one expression for each state, in a sequence or by the name of the state:
        arithmetic, powers, elementary functions, `Piecewise`, `Min`, `Max`. The symbol `t` is the
        time.
    - `names`: the states, as symbols or as names, in the order of `y`; default the names in
        `equations`, else `y1 ... yn`.

    **Returns:** a model, called as `model(t, y, args=None)`.

    **Raises:** `ValueError` for symbols that are neither states nor the time, for functions that
    JAX has not, and for text in place of expressions.

    ```python
    >>> import jax.numpy as jnp
    >>> import stiffrax as srx
    >>> import sympy
    >>> x, v = sympy.symbols("x v")
    >>> model = srx.from_sympy((v, (1 - x**2) * v - x), (x, v))
    >>> print(model(0.0, jnp.array([2.0, 1.0])))
    [ 1. -5.]

    ```
    """
    if isinstance(names, str):
        raise ValueError(f"`names` is the string {names!r}: write ({names!r},) for a single state.")
    expressions, states = as_system(equations, None if names is None else [*map(str, names)])
    compiled(expressions, states)
    return SymbolicModel(expressions, states)
