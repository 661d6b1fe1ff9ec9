"""Runge-Kutta methods whose tableau is trained."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import refuse_no_estimate
from .._options import MethodKind, Stability
from ..diffrax_loop import enclosing_controller_is_pid, enclosing_solver
from ..stages import SlopeSystem, flat_field, solve_slopes
from ..tableaus import (
    AbstractLearnableTableau,
    Method,
    learnable_tableau,
    order_projection,
    random_tableau,
)
from ._step_memory import CollocationInterpolation
from ._terms import check_term, step_times

# The degree of the polynomial between the ends of a step.
DENSE_DEGREE = 2


@final
class LearnableRungeKutta(diffrax.AbstractSolver):
    r"""A Runge-Kutta method whose tableau is trained, alone or together with a model.

    $$K_i = h f(t_0 + c_i h, y_0 + \sum_j a_{ij} K_j), \qquad y_1 = y_0 + \sum_i b_i K_i$$

    `solver.tableau.A`, `.b` and `.c` are leaves: `eqx.filter_grad` of a `diffrax.diffeqsolve` with
    respect to the solver reaches them, with [`stiffrax.DiscreteAdjoint`][] and the adjoints of
    diffrax. End the optimizer with [`stiffrax.project_order`][], so that the order stays exact, or
    solve with `solver.projected()`.

    **Arguments:**

    - `stages`: number `s` of stages.
    - `kind`: `"explicit"`, `"diagonally_implicit"` or `"implicit"`.
    - `order`: order of convergence of the random start, from 1 to 8, which
      [`stiffrax.project_order`][] then keeps.
    - `stability`: `"A"` or `"L"`: an implicit tableau that is so for all values of its parameters
      ([`stiffrax.tableaus.StableTableau`][]); by default nothing is imposed.
    - `key`: of the random start.

    Steps have a fixed size, for there is no error estimate. Values between their ends are of order
    two, or on a straight line where all nodes `c` are equal, as that of one stage; they cost nothing.

    **Raises:** `ValueError` for a combination of arguments that no method has; while solving, for
    terms other than `diffrax.ODETerm` under an implicit kind.

    Cost: `s` evaluations of the vector field a step for the explicit kind, as for any solver of
    diffrax. The others solve the stacked system of `s n` unknowns by Newton's method to rounding:
    `s` evaluations, `s` Jacobians and an elimination of order `s n` an iteration.

    ??? cite "Reference"
        Ouala et al., *Learning Runge-Kutta integration schemes for ODE simulation and
        identification*, arXiv 2105.04999.

    ```python
    >>> import diffrax, equinox as eqx, jax, jax.numpy as jnp, stiffrax as srx
    >>> solver = srx.LearnableRungeKutta(2, order=2, key=jax.random.key(0))
    >>> decay = diffrax.ODETerm(lambda t, y, args: -y)
    >>> def error(solver):
    ...     end = diffrax.diffeqsolve(decay, solver, 0.0, 1.0, 0.5, jnp.array(1.0)).ys[-1]
    ...     return end - jnp.exp(-1.0)
    >>> gradient = eqx.filter_grad(error)(solver).tableau
    >>> gradient.A.shape, gradient.b.shape, gradient.c.shape
    ((2, 2), (2,), (2,))

    ```
    """

    tableau: AbstractLearnableTableau

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CollocationInterpolation]] = CollocationInterpolation

    def __init__(
        self,
        stages: int,
        kind: MethodKind = "explicit",
        order: int = 1,
        *,
        stability: Stability | None = None,
        key: Array,
    ):
        """See the class."""
        self.tableau = random_tableau(stages, kind, order, stability, key)

    @staticmethod
    def from_tableau(
        known: Method | diffrax.ButcherTableau,
        kind: MethodKind | None = None,
        *,
        order: int | None = None,
        stability: Stability | None = None,
    ) -> "LearnableRungeKutta":
        """Starts from a known method.

        **Arguments:**

        - `known`: a [`stiffrax.tableaus.Tableau`][], the tableau of a solver of diffrax, a learnable
          tableau, or arrays `(A, b, c)`.
        - `kind`: by default the narrowest that has room for the coefficients.
        - `order`: the order to keep; by default that of the method.
        - `stability`: `"A"` or `"L"`, to stay so; the method must be algebraically stable.

        **Returns:** A `LearnableRungeKutta`.

        **Raises:** `ValueError` if the kind has no room for the coefficients, the stability is not
        that of the method, or no method of so many stages has the order.

        ```python
        >>> import diffrax, stiffrax as srx
        >>> srx.LearnableRungeKutta.from_tableau(diffrax.Tsit5.tableau, order=3)
        LearnableRungeKutta(explicit, order=3, stages=7)

        ```
        """
        as_it_is = kind is None and order is None and stability is None
        if isinstance(known, AbstractLearnableTableau) and as_it_is:
            tableau = known
        else:
            tableau = learnable_tableau(known, kind, order, stability)
        solver = object.__new__(LearnableRungeKutta)
        object.__setattr__(solver, "tableau", tableau)
        return solver

    def projected(self, order: int | None = None) -> "LearnableRungeKutta":
        """The solver with its tableau projected to its order: a differentiable reparametrization.

        ```python
        >>> import jax, stiffrax as srx
        >>> free = srx.LearnableRungeKutta(3, order=1, key=jax.random.key(0))
        >>> bool(abs(srx.tableaus.order_conditions(free.projected(2).tableau, 2)) < 1e-15)
        True

        ```
        """
        projected = order_projection(self.tableau, order)
        return eqx.tree_at(lambda solver: solver.tableau, self, projected)

    def __repr__(self) -> str:
        inside = repr(self.tableau).partition("(")[2]
        return f"LearnableRungeKutta({inside}"

    def order(self, terms: Any) -> int:
        """The order that the tableau is meant to have."""
        del terms
        return self.tableau.order

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> None:
        """A step needs nothing from the last one."""
        del t0, t1, y0, args
        # By its type: a `diffrax.HalfSolver`, which estimates errors, is an instance of what it holds.
        if type(enclosing_solver()) is LearnableRungeKutta and enclosing_controller_is_pid():
            refuse_no_estimate("PIDController")
        if self.tableau.kind != "explicit":
            check_term(terms)

    def func(self, terms: Any, t0: Any, y0: PyTree, args: PyTree) -> PyTree:
        """The vector field."""
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree,
        args: PyTree,
        solver_state: None,
        made_jump: Any,
    ) -> tuple[PyTree, None, dict[str, Any], None, diffrax.RESULTS]:
        """One step: all slopes, then their weighted sum."""
        del solver_state, made_jump
        slopes = _explicit_slopes if self.tableau.kind == "explicit" else _implicit_slopes
        K, result = slopes(self.tableau, terms, t0, t1, y0, args)
        b = self.tableau.b
        v = _dense_weights(self.tableau.c)
        y1 = jax.tree.map(lambda y, k: y + _weighted(b, k), y0, K)
        coefficients = jax.tree.map(lambda k: jnp.stack([_weighted(b + v, k), -_weighted(v, k)]), K)
        return y1, None, {"y0": y0, "coefficients": coefficients}, None, result


def _explicit_slopes(
    tableau: AbstractLearnableTableau, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree
) -> tuple[PyTree, diffrax.RESULTS]:
    control = terms.contr(t0, t1)
    slopes: list[PyTree] = []
    for i in range(tableau.num_stages):
        y = y0
        if i > 0:
            row = tableau.A[i, :i]
            y = jax.tree.map(lambda y, *k, row=row: y + _weighted(row, k), y0, *slopes)
        t = t0 + jnp.asarray(tableau.c[i], jnp.result_type(t0, t1, 0.0)) * (t1 - t0)
        slopes.append(terms.vf_prod(t, y, args, control))
    return jax.tree.map(lambda *k: jnp.stack(k), *slopes), diffrax.RESULTS.successful


def _implicit_slopes(
    tableau: AbstractLearnableTableau, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree
) -> tuple[PyTree, diffrax.RESULTS]:
    t0, dt, control = step_times(terms, t0, t1)
    field, flat, restore = flat_field(lambda t, y: terms.vf(t, y, args), t0, y0)
    h = jnp.asarray(control, flat.dtype)
    A = tableau.masked_A.astype(flat.dtype)
    c = tableau.c.astype(flat.dtype)
    solution = solve_slopes(SlopeSystem(A, c, field, t0, dt, h, flat))
    return jax.vmap(restore)(solution.K), diffrax.RESULTS.promote(solution.result)


def _weighted(weights: Float[Array, " s"], slopes: Any) -> Array:
    """A sum that fuses with what is around it, which a small library product would not."""
    terms = [weights[j].astype(k.dtype) * k for j, k in enumerate(slopes)]
    return functools.reduce(jnp.add, terms)


def _dense_weights(c: Float[Array, " s"]) -> Float[Array, " s"]:
    r"""`v` of the weights `b(theta) = theta b + theta (1 - theta) v` between the ends of a step.

    $v$ is the shortest with $\sum v_i = 0$, $\sum v_i c_i = -1/2$: of order two wherever the
    method is; zero, a straight line, where all nodes are equal. No slope is needed beyond those of
    the step, which for stiff problems mean more than slopes at its ends.
    """
    centered = c - jnp.mean(c)
    squared = jnp.sum(centered**2)
    # The mean of equal ones is rounded.
    spread = squared > c.size * (4 * jnp.finfo(c.dtype).eps * jnp.max(jnp.abs(c))) ** 2
    return jnp.where(spread, -centered / (2 * jnp.where(spread, squared, 1)), 0)
