"""No Jacobian at all: Krylov iterations on its products with vectors."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Inexact

from .._arguments import check_count, check_tolerances
from ._mass import Mass
from ._stage_system import FlatField
from ._structure import AbstractStructure

# Where GMRES gave up, a solution that leaves more than this part of the right-hand side is refused:
# too small an increment passes for convergence. Newton contracts by less, and sees it. Chosen.
_UNSOLVED = 0.1


@final
class _Point(eqx.Module):
    """Where the vector field is linearized, and the step: what stands for the Jacobian."""

    field: FlatField
    t: Array
    y: Float[Array, " n"]
    h: Array
    part: Any = None


@final
class _Systems(eqx.Module):
    """The systems `shift M - h J`; `parts` are the factors of a declared part of each."""

    point: _Point
    mass: Mass | None
    parts: list[Any]
    shifts: tuple[complex | float, ...] = eqx.field(static=True)


@final
class MatrixFree(AbstractStructure):
    r"""No matrix: GMRES on the products `J v`, each one forward-mode sweep.

    A complex system $((\alpha + i \beta) M - h J)(a + i b) = r$ is solved as a real one for
    `(a, b)`. Stiff systems need a preconditioner.

    **Arguments:**

    - `preconditioner`: a structure, such as [`stiffrax.Banded`][] or [`stiffrax.BlockDiagonal`][]: the
      part of the Jacobian that is stiff. It is evaluated and factored once a step, for every shift.
      The Jacobian may have any other entries; their columns are probed apart from those of the part
      but where they are a multiple of three widths away. Or a function called as
      `preconditioner(t, y, h, shift)` with a real shift, that returns one that solves
      `(shift M - h J) x = v` approximately. For a complex shift it is given the modulus, and used on
      real and imaginary part.
    - `rtol`, `atol`: tolerances of GMRES, on the residual of a right-hand side of size one.
    - `restart`, `max_steps`: of GMRES, iterations in a cycle and cycles. Those of the Newton
      iterations are counted in `solution.stats["num_gmres_cycles"]`: two or three a system at best.

    **Raises:** `ValueError` for tolerances that are negative or both zero, and counts that are not
    positive.

    Nothing is kept from step to step. Derivatives of the step form the Jacobian: use it without
    gradients.

    Cost: `restart` vectors of memory; a forward-mode sweep an iteration. A preconditioner by a
    structure: three times the sweeps that the structure takes by itself, and its factors.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> field = diffrax.ODETerm(lambda t, y, args: -jnp.arange(1.0, 7.0) * y)
    >>> solver = srx.RadauIIA5(structure=srx.MatrixFree())
    >>> controller = srx.PredictiveController(rtol=1e-6, atol=1e-8)
    >>> sol = diffrax.diffeqsolve(field, solver, 0.0, 1.0, 0.1, jnp.ones(6),
    ...     stepsize_controller=controller)
    >>> print(f"{sol.ys[-1, 0]:.4f}, {sol.ys[-1, 1]:.4f}")
    0.3679, 0.1353

    ```
    """

    preconditioner: Any = None
    rtol: float = eqx.field(static=True, default=1e-4)
    atol: float = eqx.field(static=True, default=0.0)
    restart: int = eqx.field(static=True, default=20)
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self):
        check_tolerances("MatrixFree", self.rtol, self.atol)
        check_count("restart", self.restart, write="restart=20")
        check_count("max_steps", self.max_steps, write="max_steps=200")
        given = self.preconditioner
        if given is not None and not callable(given) and not isinstance(given, AbstractStructure):
            raise ValueError(
                f"`MatrixFree(preconditioner={given!r})` was given; it needs a structure, or a "
                "function of `t, y, h, shift`. Write for example "
                "`MatrixFree(preconditioner=Banded(1, 1))`."
            )
        if isinstance(given, MatrixFree):
            raise ValueError(
                "`MatrixFree(preconditioner=MatrixFree(...))` was given; it needs a structure that has "
                "factors. Write for example `MatrixFree(preconditioner=Banded(1, 1))`."
            )

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> _Point:
        given, part = self.preconditioner, None
        if isinstance(given, AbstractStructure):
            part = given.part(field, t, y)
        return _Point(field, t, y, jnp.ones((), y.dtype), part)

    def scaled(self, h: Array, jacobian: _Point) -> _Point:
        given, part = self.preconditioner, jacobian.part
        if isinstance(given, AbstractStructure):
            part = given.scaled(h, part)
        return _Point(jacobian.field, jacobian.t, jacobian.y, h, part)

    def mass_matrix(self, mass: Mass) -> Mass:
        return mass

    def factor(self, shifts: np.ndarray, hJ: _Point, M: Mass | None = None) -> Any:
        given, parts = self.preconditioner, [None] * len(shifts)
        if isinstance(given, AbstractStructure):
            mass = () if M is None else (given.mass_matrix(M),)
            parts = [given.factor(shifts[k : k + 1], hJ.part, *mass) for k in range(len(shifts))]
        return _Systems(hJ, M, parts, tuple(shifts.tolist()))

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        return self.solve_counted(factors, rhs)[0]

    def solve_counted(
        self, factors: Any, rhs: Inexact[Array, "k n"]
    ) -> tuple[Inexact[Array, "k n"], Array | int]:
        solutions, cycles = zip(*(self._one(factors, k, b) for k, b in enumerate(rhs)), strict=True)
        return jnp.stack(solutions), sum(cycles[1:], cycles[0])

    def _one(self, systems: _Systems, k: int, rhs: Array) -> tuple[Array, Array]:
        shift = systems.shifts[k]
        # GMRES stops at a residual of zero by dividing by it.
        size = jnp.max(jnp.abs(rhs))
        known = jnp.isfinite(size)
        rhs, scale = jnp.where(known, rhs, 0), jnp.where(known & (size > 0), size, 1)
        if isinstance(shift, complex):
            parts, cycles = self._gmres(systems, k, (rhs.real / scale, rhs.imag / scale))
            solution = lax.complex(*parts)
        else:
            (solution,), cycles = self._gmres(systems, k, (rhs / scale,))
        solution = jnp.where(size > 0, solution * scale.astype(rhs.dtype), 0)
        # No increment at all would pass for convergence.
        return jnp.where(known, solution, jnp.nan), cycles

    def _gmres(
        self, systems: _Systems, k: int, rhs: tuple[Array, ...]
    ) -> tuple[tuple[Array, ...], Array]:
        point, mass, shift = systems.point, systems.mass, complex(systems.shifts[k])
        alpha, beta = shift.real, shift.imag
        _, tangent = jax.linearize(lambda y: point.field(point.t, y), point.y)

        def times_mass(v: Array) -> Array:
            return v if mass is None else mass.times(v)

        def shifted(v: Array) -> Array:
            return alpha * times_mass(v) - point.h * tangent(v)

        def product(vs: tuple[Array, ...]) -> tuple[Array, ...]:
            if len(vs) == 1:
                return (shifted(vs[0]),)
            a, b = vs
            return shifted(a) - beta * times_mass(b), shifted(b) + beta * times_mass(a)

        struct = jax.eval_shape(lambda: rhs)
        options = {}
        if self.preconditioner is not None:
            inverse = lx.FunctionLinearOperator(self._preconditioner(systems, k), struct)
            options = {"preconditioner": inverse}
        operator = lx.FunctionLinearOperator(product, struct)
        # A component of zero has no residual that is small beside it.
        eps = float(jnp.finfo(rhs[0].dtype).eps)
        atol = max(self.atol, self.rtol * eps**0.5, 10 * eps)
        solver = lx.GMRES(self.rtol, atol, restart=self.restart, max_steps=self.max_steps)
        found = lx.linear_solve(operator, rhs, solver, options=options, throw=False)
        rest = sum(jnp.sum((a - b) ** 2) for a, b in zip(product(found.value), rhs, strict=True))
        usable = rest <= _UNSOLVED**2 * sum(jnp.sum(b**2) for b in rhs)
        usable = usable | (found.result == lx.RESULTS.successful)
        value = jax.tree.map(lambda x: jnp.where(usable, x, jnp.nan), found.value)
        return value, jnp.asarray(found.stats["num_steps"], int)

    def _preconditioner(
        self, systems: _Systems, k: int
    ) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
        given, point = self.preconditioner, systems.point
        if not isinstance(given, AbstractStructure):
            approximate = given(point.t, point.y, point.h, abs(systems.shifts[k]))
            return lambda vs: jax.tree.map(approximate, vs)

        def inverse(vs: tuple[Array, ...]) -> tuple[Array, ...]:
            v = vs[0] if len(vs) == 1 else lax.complex(*vs)
            x = given.solve(systems.parts[k], v[None])[0]
            return (x,) if len(vs) == 1 else (x.real, x.imag)

        return inverse
