"""The form in which every test problem comes."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

# A right-hand side written out, one expression a state: (t, y, args) -> (f1, ..., fn). Plain
# arithmetic works on JAX arrays and on sympy symbols alike, so every equation is written once.
Components = Callable[[Any, Any, Any], tuple[Any, ...]]
Solution = Callable[[Any, Any], tuple[Any, ...]]


class _VectorField(eqx.Module):
    """A module, not a closure: two of the same problem compare equal, so nothing recompiles."""

    components: Components = eqx.field(static=True)
    args: PyTree

    def __call__(
        self, t: Any, y: Float[Array | np.ndarray, " n"], args: PyTree = None
    ) -> Float[Array, " n"]:
        return jnp.stack(self.components(t, y, self.args if args is None else args))


@final
class Problem(eqx.Module):
    r"""An initial value problem with known values of its solution.

    $$M y' = f(t, y, \mathrm{args}), \qquad y(t_0) = y_0, \qquad t_0 \le t \le t_1.$$

    Numbers are NumPy float64, whatever precision JAX has in force.

    **Attributes:**

    - `name`: the name used in the literature.
    - `y0`, `t0`, `t1`: initial state, `Float[ndarray, " n"]`, and span, in the problem's own units.
    - `names`: names of the states.
    - `args`: standard values of the parameters, or `None` if there are none to vary.
    - `mass`: `M`, `Float[ndarray, "n n"]`, or `None` for the identity.
    - `reference_times`, `reference_values`: known points of the solution for the standard `args`,
        `Float[ndarray, " k"]` and `Float[ndarray, "k n"]`; empty where none is known.
    - `reference`: that at `t1`; as an argument, all pairs `(time, state)`, by time.
    - `polynomial`: whether `f` is a polynomial in the state that does not depend on `t`.
    - `components`: `f` by components, `components(t, y, args) -> (f1, ..., fn)`, in numbers or symbols.
    - `closed_form`: the solution, `closed_form(t, args) -> (y1, ..., yn)`, or `None`.

    ```python
    >>> import diffrax
    >>> import stiffrax as srx
    >>> problem = srx.problems.robertson()
    >>> term = diffrax.ODETerm(problem.vector_field)  # solve from problem.y0 with problem.args
    >>> problem.true_equations()["y3"]
    30000000.0*y2**2

    ```
    """

    name: str = eqx.field(static=True)
    components: Components = eqx.field(static=True)
    y0: Float[np.ndarray, " n"]
    t0: float
    t1: float
    names: tuple[str, ...] = eqx.field(static=True)
    args: PyTree
    mass: Float[np.ndarray, "n n"] | None
    reference_times: Float[np.ndarray, " k"]
    reference_values: Float[np.ndarray, "k n"]
    closed_form: Solution | None = eqx.field(static=True)
    polynomial: bool = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        components: Components,
        y0: Sequence[float],
        t1: float,
        *,
        t0: float = 0.0,
        names: Sequence[str] | None = None,
        args: PyTree = None,
        mass: np.ndarray | None = None,
        reference: Sequence[tuple[float, Sequence[float]]] = (),
        closed_form: Solution | None = None,
        polynomial: bool = True,
    ):
        self.name = name
        self.components = components
        self.y0 = np.array(y0, dtype=np.float64)
        self.t0, self.t1 = float(t0), float(t1)
        self.names = tuple(names or (f"y{i + 1}" for i in range(len(self.y0))))
        self.args = args
        self.mass = mass
        self.closed_form = closed_form
        if closed_form is not None:
            reference = [(self.t1, closed_form(self.t1, args))]
        self.reference_times = np.array([time for time, _ in reference], dtype=np.float64)
        values = np.array([state for _, state in reference], dtype=np.float64)
        self.reference_values = values.reshape(len(reference), len(self.y0))
        self.polynomial = polynomial

    @property
    def vector_field(self) -> Callable[..., Float[Array, " n"]]:
        """`f(t, y, args=None)` on JAX arrays; the standard parameters where `args` is `None`."""
        return _VectorField(self.components, self.args)

    @property
    def reference(self) -> Float[np.ndarray, " n"] | None:
        """The solution at `t1`, or `None` if it is not known."""
        if len(self.reference_times) and self.reference_times[-1] == self.t1:
            return self.reference_values[-1]
        return None

    def solution(self, ts: Any, args: PyTree = None) -> Float[np.ndarray, "*times n"]:
        """The closed form at `ts`, in NumPy float64.

        **Raises:** `ValueError` if the problem has none.
        """
        if self.closed_form is None:
            raise ValueError(
                f"{self.name} has no closed form: compare with `reference_times`, "
                "`reference_values`."
            )
        ts = np.asarray(ts, dtype=np.float64)
        return np.stack(self.closed_form(ts, self.args if args is None else args), axis=-1)

    def true_equations(self, args: PyTree = None) -> dict[str, Any]:
        """The right-hand sides by state name, expanded to sums of monomials.

        The row of a constraint, where `mass` is zero, is `Eq(0, f)`, as `srx.to_sympy` has it.

        **Raises:** `ValueError` if the right-hand side is no polynomial.
        """
        if not self.polynomial:
            raise ValueError(f"the right-hand side of {self.name} is no polynomial in the state.")
        import sympy

        symbols = sympy.symbols(self.names)
        right_hand_sides = self.components(0.0, symbols, self.args if args is None else args)
        equations = dict(zip(self.names, map(sympy.expand, right_hand_sides), strict=True))
        for name, row in zip(self.names, () if self.mass is None else self.mass, strict=False):
            if not row.any():
                equations[name] = sympy.Eq(0, equations[name], evaluate=False)
        return equations

    def __repr__(self) -> str:
        return f"Problem({self.name}, n={len(self.y0)}, t from {self.t0:.10g} to {self.t1:.10g})"
