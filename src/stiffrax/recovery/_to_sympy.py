"""The equations of a model."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models import AbstractLinearModel, PartiallyKnown, PiNet
from ._names import TIME, state_names
from ._numbers import check_digits, to_number
from ._symbolic_model import SymbolicModel
from ._trace import trace

if TYPE_CHECKING:
    import sympy


def to_sympy(
    model: Callable[..., Any],
    names: Sequence[str] | None = None,
    *,
    args: Any = None,
    digits: int | None = None,
    threshold: float = 0.0,
) -> "tuple[sympy.Expr, ...]":
    """The equations of a model as SymPy expressions.

    A linear model gives its coefficients times its features, a `PiNet` is multiplied out first, a
    `PartiallyKnown` gives the sum of its parts. The functions of a `Library`, the known part, and
    any other vector field are traced by JAX, and their formula is read from the trace: they are
    written once, as JAX code.

    **Arguments:**

    - `model`: a model, or any function `f(t, y, args) -> dy/dt` made of arithmetic, powers and
        elementary functions; for the latter `names` must be given. The time is the symbol `t`.
    - `names`: the names of the states; default `y1 ... yn`.
    - `args`: the `args` with which parts are traced.
    - `digits`: significant digits to which coefficients are rounded; default all.
    - `threshold`: coefficients of at most this size are left out.

    **Returns:** one expression for each output. Coefficients keep every digit: SymPy prints 15 of
    a float, `float` of it has all.

    **Raises:** `ValueError` for names that do not fit, for coefficients that are not finite, and
    for functions that have no formula, such as a loop.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.Polynomial(1, degree=2, coefficients=[[0.0, 1.5, -0.25]])
    >>> srx.to_sympy(model, names=["x"])
    (-0.25*x**2 + 1.5*x,)

    ```
    """
    import sympy

    check_digits(digits)
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(
            f"`threshold` must be a number of at least 0, got {threshold!r}: write for example "
            "`threshold=1e-8`."
        )
    size = getattr(model, "num_states", None if names is None else len(names))
    if size is None:
        raise ValueError(
            "`names` must be given for a function that does not tell its number of states: write "
            'for example `names=["y1", "y2"]`.'
        )
    time, states = sympy.Symbol(TIME), [sympy.Symbol(s) for s in state_names(names, size)]

    def expressions_of(part: Any, states: Sequence[Any]) -> list[Any]:
        if isinstance(part, PiNet):
            part = part.to_polynomial()
        if isinstance(part, AbstractLinearModel):
            return _linear(part, states, digits, threshold)
        if isinstance(part, SymbolicModel):
            old = [sympy.Symbol(name) for name in part.names]
            return [e.xreplace(dict(zip(old, states, strict=True))) for e in part.expressions]
        if isinstance(part, PartiallyKnown):
            total = expressions_of(part.known, states)
            learned = expressions_of(part.learned, [states[i] for i in part.inputs])
            for i, expression in zip(part.outputs, learned, strict=True):
                total[i] = total[i] + expression
            return total
        return list(trace(lambda t, y: part(t, y, args), time, states))

    return tuple(expressions_of(model, states))


def _linear(
    model: AbstractLinearModel, states: Sequence[Any], digits: int | None, threshold: float
) -> list[Any]:
    import sympy

    coefficients = np.where(model.active, model.coefficients, 0)
    if not np.all(np.isfinite(coefficients)):
        i, j = np.argwhere(~np.isfinite(coefficients))[0]
        raise ValueError(
            f"Only finite coefficients make equations, got {coefficients[i, j]} for the term "
            f"`{model.feature_names()[j]}` in output {i + 1}: the fit has failed."
        )
    features = trace(model.features, states)
    return [
        sympy.Add(*(to_number(row[j], digits) * features[j] for j in np.flatnonzero(kept)))
        for row, kept in zip(coefficients, np.abs(coefficients) > threshold, strict=True)
    ]
