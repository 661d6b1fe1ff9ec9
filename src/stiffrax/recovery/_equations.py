"""Equations in SymPy: of a model, as they are handed over, and as a model again."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from .._arguments import real_array
from ..data._names import state_names
from ..models import (
    AbstractLinearModel,
    ConstrainedField,
    PartiallyKnown,
    PiNet,
    ReactionNetwork,
    System,
)
from ..models._checks import check_state, named_parts, names_for
from ._jax_function import jax_function
from ._numbers import (
    check_digits,
    drop_small_terms,
    is_finite,
    is_real,
    of_reals,
    round_numbers,
    to_number,
)
from ._rows import (
    constraint,
    field_of,
    is_constraint,
    linear_rows,
    map_rows,
    network_rows,
    refuse_constraints,
)
from ._trace import trace

if TYPE_CHECKING:
    import sympy

TIME = "t"


def symbol_names(names: Sequence[str] | None, num_states: int) -> tuple[str, ...]:
    """The names of the states, if each can stand in an equation."""
    checked = state_names(names, num_states)
    for name, meaning in ((TIME, "the time"), ("pi", "the number pi")):
        if name in checked:
            raise ValueError(
                f"`names` holds {name!r}, which is {meaning} in an equation: rename that state, "
                f"for example to '{name}_1'."
            )
    return checked


@final
class SymbolicModel(eqx.Module):
    """A vector field given by SymPy expressions, made by `from_sympy`.

    Its numbers are constants, not parameters: there is nothing in it to train.

    **Attributes:**

    - `expressions`: one SymPy expression for each state.
    - `names`: the names of the states, in the order of `y`; the time is `t`.

    ```python
    >>> import stiffrax as srx
    >>> model = srx.from_sympy(srx.from_text("dx/dt = -2*x"))
    >>> model.names, model.expressions
    (('x',), (-2*x,))

    ```
    """

    expressions: "tuple[sympy.Expr, ...]" = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def num_states(self) -> int:
        """The number of states."""
        return len(self.names)

    @property
    def num_outputs(self) -> int:
        """The number of expressions."""
        return len(self.expressions)

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " outputs"]:
        """The value of the expressions; `args` is not used.

        **Raises:** `ValueError` for a `y` that has not one real number for each state.
        """
        y = real_array("y", check_state(y, self.num_states))
        values = compiled(self.expressions, self.names)(t, y)
        return jnp.stack([jnp.asarray(value, y.dtype) for value in values])


@functools.lru_cache(maxsize=128)
def compiled(expressions: tuple[Any, ...], names: tuple[str, ...]) -> Callable[..., Any]:
    """SymPy's translation of the expressions to a function `(t, y) -> list` on JAX arrays."""
    import sympy

    arguments = [sympy.Symbol(TIME), [sympy.Symbol(name) for name in names]]
    return jax_function(arguments, expressions)


@named_parts.register(SymbolicModel)
def _(model: SymbolicModel) -> Any:
    return [(None, model.names)]


@named_parts.register(Mapping)
def _(equations: Mapping[Any, Any]) -> Any:
    return [(None, tuple(map(str, equations)))]


def to_sympy(
    model: Callable[..., Any],
    names: Sequence[str] | None = None,
    *,
    args: Any = None,
    digits: int | None = None,
    threshold: float = 0.0,
) -> tuple[Any, ...]:
    """The equations of a model as SymPy expressions.

    A linear model gives its coefficients times its features, a `PiNet` is multiplied out first, a
    `ReactionNetwork` gives its rate equations, a `PartiallyKnown` the sum of its parts. The formulas
    of the functions of a `Library`, of the known part and of any other vector field are read from
    their trace by JAX.

    **Arguments:**

    - `model`: a model, or any function `f(t, y, args) -> dy/dt` made of arithmetic, powers and
        elementary functions; for the latter `names` must be given. The time is the symbol `t`. Loops
        are read too, if their number of rounds does not depend on the state and is 100 at most.
    - `names`: the names of the states in their order; default those that the model has itself
        (species of a network, names of a `SymbolicModel`), else `y1 ... yn`. Others take their places.
    - `args`: the `args` with which parts are traced; of a fitted [`stiffrax.System`][] the conditions
        of a run, `fit.conditions("a")`, with numbers for inputs, `.replace(feed=3.0)`. Without, its
        functions have its `parameters` alone.
    - `digits`: significant digits to which numbers are rounded; default all. Whole exponents and
        fractions stay.
    - `threshold`: coefficients of at most this size are left out: of a linear model its own, of any
        other formula those of its terms, as they are without multiplying out.

    **Returns:** one expression for each output; of a `ConstrainedField` the rows of its constraints
    are `Eq(0, g)`. Coefficients keep every digit: SymPy prints 15 of a float, `float` of it has all.
    What is added in an exponent is a fraction, for of a float SymPy would make a factor.

    **Raises:** `ValueError` for names that do not fit, for the model's own ones in another order, for
    numbers that are not finite, for functions that have no formula, such as a longer loop, or do not
    return a vector, and for a system with a mass matrix, or one that reads conditions not given.

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
    model = paramax.unwrap(model)
    names = names_for(model, names)
    if isinstance(model, System):
        model, args = field_of(model, args)
    size = getattr(model, "num_states", None if names is None else len(names))
    if size is None:
        raise ValueError(
            "`names` must be given for a function that does not tell its number of states: write "
            'for example `names=["y1", "y2"]`.'
        )
    time, states = sympy.Symbol(TIME), [sympy.Symbol(s) for s in symbol_names(names, size)]

    def read(part: Any) -> list[Any]:
        return _read(part, states, time, args, threshold)

    if isinstance(model, ConstrainedField | PartiallyKnown):
        # The model itself says where its parts return other shapes.
        jax.eval_shape(lambda y: model(0.0, y, args), jnp.ones(size))
    if isinstance(model, ConstrainedField):
        violation = read(lambda *inputs: jnp.atleast_1d(model.constraint(*inputs)))
        rows = [*read(model.learned), *map(constraint, violation)]
        rows = [rows[i] for i in np.argsort((*model.differential, *model.algebraic))]
    else:
        rows = read(model)
    for i, row in enumerate(rows):
        if not is_finite(row):
            raise ValueError(
                f"Output {i + 1} of the model is {row} whatever the state is, which makes no equation. "
                "Look for a division by zero, or for `jnp.take` beyond an array, which is NaN."
            )
    return map_rows(lambda e: round_numbers(of_reals(e), digits), rows)


def _read(part: Any, states: Sequence[Any], time: Any, args: Any, threshold: float) -> list[Any]:
    import sympy

    part = paramax.unwrap(part)
    if isinstance(part, PiNet):
        part = part.to_polynomial()
    if isinstance(part, AbstractLinearModel):
        return linear_rows(part, states, threshold)
    if isinstance(part, ReactionNetwork):
        return network_rows(part, states, threshold)
    if isinstance(part, SymbolicModel):
        new = dict(zip(map(sympy.Symbol, part.names), states, strict=True))
        return [drop_small_terms(e.xreplace(new), threshold) for e in part.expressions]
    if isinstance(part, PartiallyKnown):
        total = _read(part.known, states, time, args, 0.0)
        inputs = [states[i] for i in part.inputs]
        learned = _read(part.learned, inputs, time, args, 0.0)
        for i, expression in zip(part.outputs, learned, strict=True):
            total[i] = total[i] + expression
        return [drop_small_terms(e, threshold) for e in total]
    found = trace(lambda t, y: part(t, y, args), time, states)
    if found.ndim != 1:
        raise ValueError(
            f"The function returned shape {found.shape} for {len(states)} states; equations are "
            "read from a vector of one number each. Write for example `jnp.stack([-y[0]])`."
        )
    return [drop_small_terms(e, threshold) for e in found]


def as_system(
    equations: Any,
    names: Sequence[str] | None,
    digits: int | None = None,
    *,
    constraints: bool = False,
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The SymPy expressions of a vector field, one for each state, and the names of the states.

    Symbols are taken by name, so that `Symbol("x", real=True)` and `Symbol("x")` are one state.
    `constraints`: whether rows may be constraints.
    """
    import sympy

    check_digits(digits)
    if isinstance(equations, Mapping):
        equations = {_name(state): expression for state, expression in equations.items()}
        names = tuple(equations if names is None else names)
        if set(names) != equations.keys():
            raise ValueError(
                f"`names` are {names}, but the equations are those of {tuple(equations)}: leave "
                "`names` out, or give these in the order of the states."
            )
        equations = as_expressions(equations[name] for name in names)
    if callable(equations):
        equations = paramax.unwrap(equations)
        names = names_for(equations, names)
        expressions = to_sympy(equations, names)
        count = len(expressions if names is None else names)
        states = symbol_names(names, getattr(equations, "num_states", count))
    else:
        expressions = as_expressions(equations)
        states = symbol_names(names, len(expressions) if names is None else len(names))
    if len(expressions) != len(states):
        raise ValueError(
            f"One equation a state is needed, got {len(expressions)} equations for the states "
            f"{states}."
        )
    unknown = {str(s) for e in expressions for s in e.free_symbols} - {*states, TIME}
    if unknown:
        raise ValueError(
            f"The equations hold {sorted(unknown)}, which are not among the states {states}: give "
            "the names of the states as `names`, and put numbers in for parameters with "
            "`expression.subs(...)`."
        )
    if not constraints:
        refuse_constraints(expressions, states)

    def as_written(e: Any) -> Any:
        renamed = of_reals(e.xreplace({s: sympy.Symbol(str(s)) for s in e.free_symbols}))
        if not is_real(renamed):
            raise ValueError(
                f"The equations hold {renamed}, which is not real: a root of a negative number, or the "
                "like. Write for example `-2` for the cube root of -8."
            )
        if not is_finite(renamed):
            raise ValueError(
                f"The equations hold {renamed}, which is not finite: a division by zero, or the like. "
                "Look at the numbers that were put in for parameters."
            )
        return round_numbers(renamed, digits)

    return map_rows(as_written, expressions), states


def as_expressions(values: Any) -> tuple[Any, ...]:
    """A sequence of SymPy expressions as a tuple; numbers are converted, text is refused."""
    import sympy
    from sympy.core.function import AppliedUndef

    if isinstance(values, sympy.MatrixBase) and 1 in values.shape:
        values = values.flat()
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(
            f"The equations must be a sequence of SymPy expressions, got {values!r}: write "
            "`(expression,)` for a single one, and read text with `from_text`."
        )
    values = tuple(values)
    if not values:
        raise ValueError("The equations must be one or more SymPy expressions, got none.")

    def read(value: Any) -> Any:
        # Text is not handed to `sympify`, which would run it.
        written = isinstance(value, Real | sympy.Expr) or is_constraint(value)
        if isinstance(value, bool) or not written:
            raise ValueError(
                f"The equations must be SymPy expressions, got {value!r}: read text with "
                "`from_text`."
            )
        if isinstance(value, np.number):
            return to_number(value)
        read = sympy.sympify(value)
        if read.has(sympy.Derivative, sympy.Integral, sympy.Product, sympy.Sum):
            return read.doit()
        of_time = [f for f in read.atoms(AppliedUndef) if str(f).endswith(f"({TIME})")]
        return read.xreplace({f: sympy.Symbol(_name(f)) for f in of_time})

    return tuple(map(read, values))


def _name(state: Any) -> str:
    """The name of a state, be it a name, a symbol or a function of time."""
    return str(state).removesuffix(f"({TIME})")


def from_sympy(
    equations: "Sequence[sympy.Expr] | Mapping[str, sympy.Expr]",
    names: "Sequence[sympy.Symbol | str] | None" = None,
) -> SymbolicModel:
    """A vector field from SymPy expressions, the inverse of `to_sympy`.

    As fast, once traced, as one written by hand. Every digit of a float is kept, and whole powers
    have exact derivatives at zero and for negative states.

    **Arguments:**

    - `equations`: one expression for each state, in a sequence, a column or by the state: arithmetic,
        powers, elementary functions, `Piecewise`, `Min`, `Max`. The symbol `t` is the time.
    - `names`: the states, as symbols, functions of `t` or names, in the order of `y`; default the
        names in `equations`, else `y1 ... yn`.

    **Returns:** a [`stiffrax.SymbolicModel`][], called as `model(t, y, args=None)`.

    **Raises:** `ValueError` for symbols that are neither states nor the time, for functions that
    JAX has not, for numbers that are not real and finite, and for text in place of expressions.

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
    import sympy

    if isinstance(names, str | sympy.Expr):
        raise ValueError(f"`names` is {names!r} alone: write ({names!r},) for a single state.")
    expressions, states = as_system(equations, None if names is None else [*map(_name, names)])
    compiled(expressions, states)
    return SymbolicModel(expressions, states)
