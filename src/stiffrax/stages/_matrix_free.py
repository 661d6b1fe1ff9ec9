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


@final
class _Point(eqx.Module):
    """Where the vector field is linearized, and the step: what stands for the Jacobian."""

    field: FlatField
    t: Array
    y: Float[Array, " n"]
    h: Array


@final
class _Systems(eqx.Module):
    """The systems `shift M - h J`, of which nothing is computed beforehand."""

    point: _Point
    mass: Mass | None
    shifts: tuple[complex | float, ...] = eqx.field(static=True)


@final
class MatrixFree(AbstractStructure):
    r"""No matrix: GMRES on the products `J v`, each one forward-mode sweep.

    A complex system $((\alpha + i \beta) M - h J)(a + i b) = r$ is solved as a real one for
    `(a, b)`. Stiff systems need a preconditioner.

    **Arguments:**

    - `preconditioner`: called as `preconditioner(t, y, h, shift)` with a real shift; returns a
      function that solves `(shift M - h J) x = v` approximately. For a complex shift it is given
      the modulus, and used on real and imaginary part.
    - `rtol`, `atol`: tolerances of GMRES, on the residual.
    - `restart`, `max_steps`: of GMRES.

    **Raises:** `ValueError` for tolerances that are negative or both zero, and counts that are not
    positive.

    Nothing is kept from step to step. Derivatives of the step form the Jacobian: use it without
    gradients.

    Cost: `restart` vectors of memory; a forward-mode sweep an iteration.

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

    preconditioner: Callable[..., Callable] | None = None
    rtol: float = eqx.field(static=True, default=1e-4)
    atol: float = eqx.field(static=True, default=0.0)
    restart: int = eqx.field(static=True, default=20)
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self):
        check_tolerances("MatrixFree", self.rtol, self.atol)
        check_count("restart", self.restart, write="restart=20")
        check_count("max_steps", self.max_steps, write="max_steps=200")

    def jacobian(self, field: FlatField, t: Array, y: Float[Array, " n"]) -> _Point:
        return _Point(field, t, y, jnp.ones((), y.dtype))

    def scaled(self, h: Array, jacobian: _Point) -> _Point:
        return eqx.tree_at(lambda point: point.h, jacobian, h)

    def mass_matrix(self, mass: Mass) -> Mass:
        return mass

    def factor(self, shifts: np.ndarray, hJ: _Point, M: Mass | None = None) -> Any:
        return _Systems(hJ, M, tuple(shifts.tolist()))

    def solve(self, factors: Any, rhs: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
        pairs = zip(factors.shifts, rhs, strict=True)
        return jnp.stack([self._one(factors, s, b) for s, b in pairs])

    def _one(self, systems: _Systems, shift: complex | float, rhs: Array) -> Array:
        # GMRES stops at a residual of zero by dividing by it.
        size = jnp.max(jnp.abs(rhs))
        scale = jnp.where(size > 0, size, 1)
        if isinstance(shift, complex):
            parts = self._gmres(
                systems, shift.real, shift.imag, (rhs.real / scale, rhs.imag / scale)
            )
            solution = lax.complex(*parts)
        else:
            (solution,) = self._gmres(systems, float(shift), 0.0, (rhs / scale,))
        return jnp.where(size > 0, solution * scale.astype(rhs.dtype), 0)

    def _gmres(
        self, systems: _Systems, alpha: float, beta: float, rhs: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        point, mass = systems.point, systems.mass
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
            shift = abs(complex(alpha, beta))
            approximate = self.preconditioner(point.t, point.y, point.h, shift)
            inverse = lx.FunctionLinearOperator(lambda vs: jax.tree.map(approximate, vs), struct)
            options = {"preconditioner": inverse}
        operator = lx.FunctionLinearOperator(product, struct)
        solver = lx.GMRES(self.rtol, self.atol, restart=self.restart, max_steps=self.max_steps)
        return lx.linear_solve(operator, rhs, solver, options=options, throw=False).value
