"""A vector field that is given by SymPy expressions, and the names in it."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data._names import check_names
from ..models._checks import check_state

if TYPE_CHECKING:
    import sympy

TIME = "t"


def state_names(names: Sequence[str] | None, num_states: int) -> tuple[str, ...]:
    """The names as a tuple, by default `y1 ... yn`, if each can stand in an equation."""
    if names is None:
        return tuple(f"y{i + 1}" for i in range(num_states))
    checked = check_names("`names`", names, num_states)
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
        """The value of the expressions; `args` is not used."""
        y = check_state(y, self.num_states)
        y = y.astype(jnp.result_type(y, 0.0))
        values = compiled(self.expressions, self.names)(t, y)
        return jnp.stack([jnp.asarray(value, y.dtype) for value in values])


@functools.lru_cache(maxsize=128)
def compiled(expressions: tuple[Any, ...], names: tuple[str, ...]) -> Callable[..., Any]:
    """SymPy's translation of the expressions to a function `(t, y) -> list` on JAX arrays."""
    import sympy
    from sympy.printing.codeprinter import PrintMethodNotImplementedError
    from sympy.printing.numpy import JaxPrinter

    class Printer(JaxPrinter):
        # SymPy would print floats with 15 digits. It would print whole numbers as integers, which
        # JAX takes for an int32 and refuses from 2^31 on, and whole negative powers as float ones,
        # which are slower and have no derivative at negative bases.
        def _print_Float(self, expr: Any) -> str:
            return repr(float(expr))

        _print_Integer = _print_Rational = _print_Float

        def _print_Pow(self, expr: Any, rational: bool = False) -> str:
            if expr.exp.is_Integer:
                return f"({self._print(expr.base)})**({int(expr.exp)})"
            return super()._print_Pow(expr, rational=rational)

    printer = Printer({"fully_qualified_modules": False, "allow_unknown_functions": False})
    arguments = [sympy.Symbol(TIME), [sympy.Symbol(name) for name in names]]
    try:
        return sympy.lambdify(arguments, list(expressions), "jax", printer=printer)
    except PrintMethodNotImplementedError as error:
        functions = {str(f.func) for e in expressions for f in e.atoms(sympy.Function)}
        raise ValueError(
            f"JAX has not all of the functions in the equations, which are {sorted(functions)}: "
            "write the equations with elementary functions."
        ) from error
