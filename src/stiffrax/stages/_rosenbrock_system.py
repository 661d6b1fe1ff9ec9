"""The equations of a Rosenbrock step."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ..linear_algebra import library_matmul, small_matmul
from ..tableaus import RosenbrockTableau
from ._mass import Mass
from ._stage_system import FlatField
from ._structure import AbstractStructure


@final
class RosenbrockSystem(eqx.Module):
    r"""One step's equations for the increments `U`, as a residual that is linear in each:

    $$R_i(U) = M \Big(\tfrac{1}{\gamma} U_i - \sum_{j<i} C_{ij} U_j\Big) - h J U_i
      - h f\Big(t_0 + c_i h, y_0 + \sum_{j<i} a_{ij} U_j\Big) - d_i h^2 f_t$$

    `mass` is `None` where `M` is the identity.
    """

    tableau: RosenbrockTableau = eqx.field(static=True)
    structure: AbstractStructure
    field: FlatField
    t0: Shaped[Array, ""]
    dt: Shaped[Array, ""]
    h: Float[Array, ""]
    y0: Float[Array, " n"]
    mass: Mass | None = None

    @property
    def times(self) -> Float[Array, " s"]:
        """Times of the stages."""
        return self.t0 + self.tableau.c.astype(self.t0.dtype) * self.dt

    def time_derivative(self) -> Float[Array, " n"] | None:
        """`f_t` at the start of the step; `None` where `f` does not read the time."""
        if not self.field.depends_on_time:
            return None
        one = jnp.ones_like(self.t0)
        return jax.jvp(lambda t: self.field(t, self.y0), (self.t0,), (one,))[1]

    def of_time(self, f_t: Float[Array, " n"]) -> Float[Array, " n"]:
        """`h^2 f_t`; not by the square of `h`, which has the direction of time."""
        return self.h * self.dt.astype(f_t.dtype) * f_t

    def times_mass(self, x: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
        """`M` times each row."""
        return x if self.mass is None else self.mass.times(x)

    def states(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """The states of the stages."""
        return self.y0[None] + small_matmul(jnp.asarray(self.tableau.A, U.dtype), U)

    def times_jacobian(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """`h J U_i`, by one forward-mode sweep a row, or a column of `J` where these are fewer."""
        if self.y0.size < self.tableau.num_stages:
            J = self.field.jacobian(self.t0, self.y0)
            return self.h * library_matmul(U, J.T)

        def push(u: Array) -> Array:
            return jax.jvp(lambda y: self.field(self.t0, y), (self.y0,), (u,))[1]

        return self.h * jax.vmap(push)(U)

    def at_start(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """`h J U_i + d_i h^2 f_t`, by derivatives at the start of the step."""
        rows, f_t = self.times_jacobian(U), self.time_derivative()
        if f_t is None:
            return rows
        return rows + jnp.asarray(self.tableau.d, U.dtype)[:, None] * self.of_time(f_t)[None]

    def residual(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """`R(U)` above."""
        tableau, s = self.tableau, self.tableau.num_stages
        couplings = jnp.asarray(np.eye(s) * tableau.shift - tableau.C, U.dtype)
        slopes = self.h * jax.vmap(self.field)(self.times, self.states(U))
        return self.times_mass(small_matmul(couplings, U)) - self.at_start(U) - slopes
