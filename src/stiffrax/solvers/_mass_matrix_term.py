"""Terms with a mass matrix: differential-algebraic equations among them."""

import itertools
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.core import Tracer
from jaxtyping import PyTree

from .._arguments import check_callable
from .._flat_state import has_complex
from .._trees import is_traced
from ..stages import Mass, is_operator


@final
class MassMatrixTerm(diffrax.AbstractTerm):
    r"""A vector field with a constant mass matrix, singular or not: a term for stiffrax solvers.

    $$M y' = f(t, y, \mathrm{args})$$

    A singular `M` makes this a differential-algebraic equation: rows without a derivative are
    constraints, `0 = f_i(t, y)`, and as many components of `y` are algebraic. The stage equations
    become $\sum_j (A^{-1})_{ij} M Z_j = h f(t_0 + c_i h, y_0 + Z_i)$; stiffly accurate methods (the
    Radau IIA family) meet the constraints at the end of every step.

    Gradients reach parameters, `y0` and `M`. diffrax's own solvers refuse this term.

    **Arguments:**

    - `vector_field`: called as `vector_field(t, y, args)`; unit of `M y` over that of time.
    - `mass`: a scalar, the diagonal, the matrix (`Float[Array, "n n"]` on the flat state), a lineax
      operator, or one of these for each leaf of the state. A diagonal may have the shape of the
      state, unless that is square. Whether `M` is singular is decided here: for another `M` make
      another term, within `jax.jit` of NumPy arrays, which have values there.
    - `index`: of each component: 1 for differential components and algebraic ones of index 1, 2 or
      3 for those that constraints determine only through one or two derivatives, such as Lagrange
      multipliers. The errors and displacements of these are weighed by `|h|` and `h^2`, without
      which adaptive steps shrink to nothing. By default 1 everywhere; a sequence of `n`, or a
      pytree like the state.

    **Raises:** `ValueError` for an index that is none of 1, 2, 3; when solving, for shapes that do
    not match the state, and for a solver without damping at infinity (Gauss, trapezoid) where `M`
    is singular.

    A start off the constraints raises an error that names [`stiffrax.consistent_initial_values`][];
    with `throw=False` such a solve ends at its first step with
    `diffrax.RESULTS.nonlinear_divergence`.

    Cost: one product with `M` an iteration.

    ??? cite "Reference"
        Hairer, Lubich and Roche, *The Numerical Solution of Differential-Algebraic Systems by
        Runge-Kutta Methods* (1989).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> def field(t, y, args):  # y' = -z, z = y
    ...     return jnp.stack([-y[1], y[0] - y[1]])
    >>> term = srx.MassMatrixTerm(field, jnp.array([1.0, 0.0]))
    >>> sol = diffrax.diffeqsolve(term, srx.RadauIIA5(), 0.0, 1.0, 0.1, jnp.ones(2))
    >>> print(f"{sol.ys[-1, 0]:.5f}, {sol.ys[-1, 1]:.5f}")
    0.36788, 0.36788

    ```
    """

    vector_field: Callable[..., Any]
    mass: PyTree
    index: tuple[int, ...] | None = eqx.field(static=True)
    # Whether M is singular, where that is known before anything is traced.
    singular: bool | None = eqx.field(static=True)

    def __init__(self, vector_field: Callable[..., Any], mass: PyTree, index: PyTree = None):
        self.vector_field = check_callable(
            "vector_field", vector_field, "MassMatrixTerm(lambda t, y, args: ..., mass)"
        )
        # Numbers stay numbers where the term is made while something else is being traced.
        with jax.ensure_compile_time_eval():
            self.mass = jax.tree.map(_floating, paramax.unwrap(mass), is_leaf=is_operator)
        self.index = None if index is None else _index(index)
        self.singular = _is_singular(self.mass)

    @property
    def powers(self) -> tuple[int, ...] | None:
        """The index less one, or `None` where that is zero everywhere."""
        if self.index is None or set(self.index) == {1}:
            return None
        return tuple(i - 1 for i in self.index)

    def vf(self, t: Any, y: PyTree, args: PyTree) -> PyTree:
        """The vector field `f`, without `M`."""
        return diffrax.ODETerm(self.vector_field).vf(t, y, args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        """The time that passes."""
        return t1 - t0

    def prod(self, vf: PyTree, control: Any) -> PyTree:
        """Refused: an increment of `y` is not `f` times a time."""
        raise ValueError(
            "A `MassMatrixTerm` was given to a solver or an adjoint that takes no mass matrix, as "
            "those of diffrax. Write `stiffrax.RadauIIA5()`, and for gradients "
            "`stiffrax.DiscreteAdjoint()`."
        )


def _floating(mass: Any) -> Any:
    if is_operator(mass) and not has_complex(mass):
        return mass
    if callable(mass):
        raise ValueError(
            "A function was given as the mass of a `MassMatrixTerm`, which is constant. For "
            "`M(t, y) y' = f` write `diffrax.ODETerm(lambda t, y, args: jnp.linalg.solve(M(t, y), "
            "f(t, y, args)))`; or, with `z = y'` as further states of index 1, "
            "`MassMatrixTerm(lambda t, yz, args: (yz[1], M(t, yz[0]) @ yz[1] - f(t, yz[0], args)), "
            "mass=(1.0, 0.0))` and `y0=(y, z)`."
        )
    try:
        usable = not has_complex(mass)
        mass = jnp.asarray(mass)
        usable &= isinstance(mass, Tracer) or bool(np.all(np.isfinite(mass)))
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise ValueError(
            f"`mass={mass!r}` was given; it needs finite real numbers: a scalar, a diagonal or a "
            "matrix. Write for example `MassMatrixTerm(vector_field, jnp.array([1.0, 1.0, 0.0]))`."
        )
    if mass.ndim == 2 and mass.shape[0] == mass.shape[1] and not isinstance(mass, Tracer):
        # A diagonal is cheaper, and its null space is exact.
        mass = jnp.diag(mass) if np.array_equal(mass, np.diag(np.diag(mass))) else mass
    return mass if jnp.issubdtype(mass.dtype, jnp.floating) else mass.astype(float)


def _index(index: PyTree) -> tuple[int, ...]:
    leaves = [np.ravel(np.asarray(leaf)).tolist() for leaf in jax.tree.leaves(index)]
    numbers = tuple(itertools.chain(*leaves))
    if not numbers or not set(numbers) <= {1, 2, 3}:
        raise ValueError(
            f"`index={index!r}` was given; it needs 1, 2 or 3 for each component. Write 1 for "
            "components that have a derivative."
        )
    return numbers


def _is_singular(mass: PyTree) -> bool | None:
    """Whether the matrix is singular; `None` while its entries are being traced."""
    leaves = jax.tree.leaves(mass, is_leaf=is_operator)
    if is_traced(mass):
        return None
    arrays = [jnp.asarray(x.as_matrix() if is_operator(x) else x) for x in leaves]
    with jax.ensure_compile_time_eval():
        square = [x.ndim == 2 and x.shape[0] == x.shape[1] for x in arrays]
        pairs = zip(arrays, square, strict=True)
        return any(bool(Mass(x if whole else x.reshape(-1)).is_singular()) for x, whole in pairs)
