"""Radau IIA with a variable order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ..diffrax_loop import StepReport, scaled_error
from ..stages import AbstractStructure, SimplifiedNewton
from ._implicit_runge_kutta import AbstractImplicitRungeKutta
from ._methods import RadauIIA5, RadauIIA9, RadauIIA13
from ._step_memory import CollocationInterpolation, StepMemory
from ._tableau_solver import check_parts

Y: TypeAlias = PyTree[ArrayLike]

_MEMBERS = {5: RadauIIA5, 9: RadauIIA9, 13: RadauIIA13}
# An iteration that contracts so fast could afford more stages: both from RADAU (Hairer and Wanner,
# 1999), VITU and ten steps at least at one order. Its VITD would lower it; steps that contract so
# slowly fail here, and leave no memory.
_FAST_CONTRACTION = 0.002
_STEPS_BEFORE_RAISING = 10


@final
class VariableOrderMemory(eqx.Module):
    """The index of the order in use, the steps taken since it changed, each member's memory."""

    level: Int[Array, ""]
    steps: Int[Array, ""]
    members: tuple[StepMemory, ...]


@final
class RadauIIA(diffrax.AbstractImplicitSolver, diffrax.AbstractAdaptiveSolver):
    r"""Radau IIA of variable order 5, 9 or 13: every step by the method that suits it.

    The contraction $\theta$ of the Newton iteration tells how large `h` is for the Jacobian. After
    ten steps at one order, $\theta \le 0.002$ raises it; nothing lowers it.
    Every member estimates its error by its own order; the estimate `e` is given to the controller as
    $e^{4/k}$ with `k = s + 1`, so that a controller of order 4 chooses the step that suits `k`.

    **Arguments:**

    - `order`: `"auto"`, or the orders to choose from, two or more of 5, 9 and 13.
    - `root_finder`: a [`stiffrax.SimplifiedNewton`][] without tolerances of its own: the choice of
      the order reads its contraction.
    - `root_find_max_steps`, `linear_solver`, `structure`, `control_interior`, `mixed_precision`:
      those of [`stiffrax.AbstractImplicitRungeKutta`][].

    **Raises:** `ValueError` for other orders, for another root finder, and under fixed steps.

    Cost: that of the member in use. Compiles one step of each member, and under `vmap` computes
    them all: for batches take a fixed order. [`stiffrax.DiscreteAdjoint`][] goes over the steps run
    by run of one order, and compiles its equations for each member as well.

    ??? cite "Reference"
        Hairer and Wanner, *Stiff differential equations solved by Radau methods*, Journal of
        Computational and Applied Mathematics 111 (1999).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
    >>> sol = diffrax.diffeqsolve(decay, srx.RadauIIA(order="auto"), 0.0, 1.0, 0.01,
    ...     jnp.array(1.0), stepsize_controller=controller)
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CollocationInterpolation]] = CollocationInterpolation

    orders: tuple[int, ...] = eqx.field(static=True)
    root_finder: SimplifiedNewton
    root_find_max_steps: int
    linear_solver: lx.AbstractLinearSolver | None
    structure: AbstractStructure | None
    control_interior: bool = eqx.field(static=True)
    mixed_precision: bool = eqx.field(static=True)

    def __init__(
        self,
        order: Any = "auto",
        *,
        root_finder: optx.AbstractRootFinder = SimplifiedNewton(),
        root_find_max_steps: int = 50,
        linear_solver: lx.AbstractLinearSolver | None = None,
        structure: AbstractStructure | None = None,
        control_interior: bool = False,
        mixed_precision: bool = False,
    ):
        orders = tuple(_MEMBERS) if order == "auto" else order
        several = isinstance(orders, tuple) and len(set(orders)) > 1
        if not several or not set(orders) <= set(_MEMBERS):
            raise ValueError(
                f'`RadauIIA(order={order!r})` was given; it needs "auto", or two or more of the '
                "orders 5, 9 and 13, as in `order=(5, 9)`. For one order write "
                "`stiffrax.RadauIIA5()`, `RadauIIA9()` or `RadauIIA13()`."
            )
        if not isinstance(root_finder, SimplifiedNewton) or root_finder.given:
            raise ValueError(
                f"`RadauIIA(root_finder={root_finder!r})` chooses its order by the contraction of "
                "`stiffrax.SimplifiedNewton()` without tolerances of its own. Leave `root_finder` "
                "out, or write `stiffrax.RadauIIA5(root_finder=...)`."
            )
        self.orders = tuple(sorted(set(orders)))
        self.root_finder = root_finder
        self.root_find_max_steps = root_find_max_steps
        self.linear_solver = linear_solver
        self.structure = structure
        self.control_interior = control_interior
        self.mixed_precision = mixed_precision
        check_parts(self.members[0])

    def __repr__(self) -> str:
        order = "auto" if self.orders == tuple(_MEMBERS) else self.orders
        return f"{type(self).__name__}(order={order!r})"

    @property
    def members(self) -> tuple[AbstractImplicitRungeKutta, ...]:
        """The methods to choose from, by rising order."""
        return tuple(
            _MEMBERS[order](
                root_finder=self.root_finder,
                root_find_max_steps=self.root_find_max_steps,
                linear_solver=self.linear_solver,
                structure=self.structure,
                control_interior=self.control_interior,
                mixed_precision=self.mixed_precision,
            )
            for order in self.orders
        )

    def order(self, terms: Any) -> int:
        """Order of convergence: the lowest in use."""
        return self.members[0].order(terms)

    def error_order(self, terms: Any) -> int:
        """Power of the step size in the error estimate, as it is given to a controller."""
        return self.members[0].error_order(terms)

    def func(self, terms: Any, t0: Any, y0: Y, args: Any) -> Y:
        """The vector field."""
        return self.members[0].func(terms, t0, y0, args)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Y, args: Any) -> VariableOrderMemory:
        """Starts at the lowest order."""
        if not self.root_finder.has_tolerances:
            raise ValueError(
                f"`{self!r}` was given fixed steps; it chooses orders under error control. Write "
                "`stepsize_controller=diffrax.PIDController(rtol=..., atol=...)`, or a solver "
                "of one order, such as `stiffrax.RadauIIA5()`."
            )
        degree = len(self.members[-1].tableau.c)
        members = (member.init(terms, t0, t1, y0, args) for member in self.members)
        zero = jnp.asarray(0)
        return VariableOrderMemory(zero, zero, tuple(_padded(m, degree) for m in members))

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Y,
        args: Any,
        solver_state: VariableOrderMemory,
        made_jump: Any,
    ) -> tuple[Y, Any, dict[str, Any], VariableOrderMemory, diffrax.RESULTS]:
        """One step by the member in use, and the choice of the next."""
        top = self.error_order(terms)
        degree = len(self.members[-1].tableau.c)

        def by(index: int) -> Callable[[], Any]:
            member, memory = self.members[index], solver_state.members[index]

            def step() -> Any:
                y1, error, dense_info, new, result = member.step(
                    terms, t0, t1, y0, args, memory, made_jump
                )
                error = self._rescaled(error, y0, y1, top / member.error_order(terms))
                coefficients = _with_rows(dense_info["coefficients"], degree)
                new = _padded(new, degree)
                members = tuple(
                    new if i == index else _handed_over(old, new)
                    for i, old in enumerate(solver_state.members)
                )
                dense_info = {"y0": dense_info["y0"], "coefficients": coefficients}
                return y1, error, dense_info, (members, new.theta), result

            return step

        branches = [by(i) for i in range(len(self.members))]
        y1, error, dense_info, (members, theta), result = lax.switch(solver_state.level, branches)
        level = _next_level(solver_state, theta, len(self.members))
        steps = jnp.where(level == solver_state.level, solver_state.steps + 1, 0)
        memory = VariableOrderMemory(level, steps, members)
        return y1, error, dense_info, memory, result

    def _rescaled(self, error: Any, y0: Y, y1: Y, exponent: float) -> Any:
        """The estimate with its scaled norm `e` turned into `e^exponent`; one stays one."""
        if exponent == 1:
            return error
        newton = self.root_finder
        report = error if isinstance(error, StepReport) else None
        estimate = error if report is None else report.error

        def scale(a: Array, b: Array, e: Any) -> Array:
            return scaled_error(e, newton.atol + newton.rtol * jnp.maximum(jnp.abs(a), jnp.abs(b)))

        norm = jnp.asarray(newton.norm(jax.tree.map(scale, y0, y1, estimate)))
        usable = jnp.isfinite(norm) & (norm > 0)
        factor = lax.stop_gradient(jnp.where(usable, norm, 1) ** (exponent - 1))
        estimate = jax.tree.map(lambda e: factor * e, estimate)
        return estimate if report is None else replace(report, error=estimate)


def _next_level(
    memory: VariableOrderMemory, theta: Float[Array, ""], num_levels: int
) -> Int[Array, ""]:
    # A single iteration has shown no contraction (NaN), and needed none.
    fast = ~(theta > _FAST_CONTRACTION) & (memory.steps >= _STEPS_BEFORE_RAISING)
    return jnp.minimum(memory.level + fast.astype(int), num_levels - 1)


def _with_rows(coefficients: PyTree[Array], degree: int) -> PyTree[Array]:

    def pad(p: Array) -> Array:
        return jnp.concatenate([p, jnp.zeros((degree - len(p), *p.shape[1:]), p.dtype)])

    return jax.tree.map(pad, coefficients)


def _padded(memory: StepMemory, degree: int) -> StepMemory:
    polynomial = memory.polynomial
    coefficients = _with_rows(polynomial.coefficients, degree)
    return replace(memory, polynomial=replace(polynomial, coefficients=coefficients))


def _handed_over(old: StepMemory, new: StepMemory) -> StepMemory:
    """What a member needs to go on from another's step: the polynomial, and no factors of before."""
    linearization = old.linearization
    if linearization is not None:
        linearization = replace(linearization, serves=jnp.asarray(False))
    return replace(new, linearization=linearization)
