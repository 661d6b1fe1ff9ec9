"""The linear differential equation of the continuous adjoint, along a recorded solution."""

import abc
from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from ..stages import evaluate_polynomial, slope_field
from ._step_equations import StepEquations
from ._step_record import Step, StepRecord


class AbstractLinearEquation(eqx.Module):
    """A linear differential equation, run back in time, and an integral along its solution."""

    @abc.abstractmethod
    def matrices(self, ts: Shaped[Array, " q"]) -> Float[Array, "q n n"]:
        """The matrix of the equation at any times."""

    @abc.abstractmethod
    def pull(self, ts: Shaped[Array, " q"], v: Float[Array, "q n"]) -> PyTree:
        """The sum over times of the integrand's values at the solutions `v`."""

    @abc.abstractmethod
    def no_integral(self) -> PyTree:
        """The integral over nothing."""


@final
class AdjointEquation(AbstractLinearEquation):
    r"""The adjoint $\lambda(t)$ and the gradient that it carries, along the recorded `y(t)`:

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt .$$
    """

    equations: StepEquations
    record: StepRecord

    def _field(self, parameters: PyTree) -> Any:
        """The vector field, and the direction in which the caller's time ran."""
        y = self.record.take(jnp.zeros(1, int)).y0[0]
        zero = jnp.zeros((), self.record.t0.dtype)
        # A step of length one: its control is the direction of time.
        system = self.equations.system(parameters, Step(zero, zero + 1, y, y, None))
        return slope_field(system), system.h

    def states(self, ts: Shaped[Array, " q"]) -> Float[Array, "q n"]:
        """The recorded solution at any times."""
        record = self.record
        rows = jnp.arange(record.t1.size)
        ends = jnp.where(rows < record.count, record.t1, jnp.inf)
        steps = record.take(jnp.searchsorted(ends, ts, side="left"))
        # A continuous adjoint always records the polynomials.
        polynomials = cast(Array, steps.coefficients)
        theta = (ts - steps.t0) / jnp.where(steps.t1 > steps.t0, steps.t1 - steps.t0, 1)
        theta = jnp.clip(theta, 0, 1).astype(steps.y0.dtype)
        return steps.y0 + jax.vmap(evaluate_polynomial)(polynomials, theta)

    def matrices(self, ts: Shaped[Array, " q"]) -> Float[Array, "q n n"]:
        """`J^T` at the recorded solution."""
        field, direction = self._field(self.equations.parameters)
        jacobians = jax.vmap(field.jacobian)(ts, self.states(ts))
        return direction * jnp.swapaxes(jacobians, -1, -2)

    def pull(self, ts: Shaped[Array, " q"], v: Float[Array, "q n"]) -> PyTree:
        """The sum over times of `(df/dtheta)^T v`."""
        ys = self.states(ts)

        def slopes(parameters: PyTree) -> Array:
            field, direction = self._field(parameters)
            return direction * jax.vmap(field)(ts, ys)

        return jax.vjp(slopes, self.equations.parameters)[1](v)[0]

    def no_integral(self) -> PyTree:
        """Zero for every parameter."""
        return jax.tree.map(jnp.zeros_like, self.equations.parameters)
