"""The linear differential equation of the continuous adjoint, and one step of it: no iteration."""

import abc
import functools
from typing import Any, cast, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ..diffrax_loop import Step
from ..linear_algebra import scaled_inverse
from ..stages import evaluate_polynomial, slope_field
from ..tableaus import Tableau, radau_iia
from ._linearized_step import stacked_matrix
from ._step_equations import StepEquations


class AbstractLinearEquation(eqx.Module):
    """A linear differential equation, run back in a time of its own, and an integral along it."""

    @abc.abstractmethod
    def matrices(self, ts: Shaped[Array, " q"]) -> Float[Array, "q n n"]:
        """The matrix of the equation at any times."""

    @abc.abstractmethod
    def pull(self, ts: Shaped[Array, " q"], v: Float[Array, "q n"]) -> PyTree:
        """The sum over times of the integrand's values at the solutions `v`."""


@final
class AdjointEquation(AbstractLinearEquation):
    r"""The adjoint $\lambda(t)$ and the gradient that it carries, along one recorded step of `y(t)`:

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt .$$

    Its own time is the fraction of the recorded step that has passed, its unit the whole step.
    """

    equations: StepEquations
    recorded: Step

    # In the time of the caller, where it is large, fractions of a step would be lost to rounding.
    @property
    def _length(self) -> Float[Array, ""]:
        return (self.recorded.t1 - self.recorded.t0).astype(self.recorded.y0.dtype)

    def _field(self, parameters: PyTree) -> Any:
        """The vector field, and the direction in which the caller's time ran."""
        y, zero = self.recorded.y0, jnp.zeros_like(self.recorded.t0)
        # A step of length one: its control is the direction of time.
        system = self.equations.system(parameters, Step(zero, zero + 1, y, y, None))
        return slope_field(system), system.h

    def _times(self, fractions: Shaped[Array, " q"]) -> Shaped[Array, " q"]:
        t0, t1 = self.recorded.t0, self.recorded.t1
        # The field may jump at either end: no time may come to lie beyond it by rounding.
        return jnp.clip(t0 + fractions * (t1 - t0), t0, t1)

    def states(self, fractions: Shaped[Array, " q"]) -> Float[Array, "q n"]:
        """The recorded solution within the step."""
        step = self.recorded
        theta = jnp.where(self._length == 0, 0, fractions).astype(step.y0.dtype)
        # A continuous adjoint always records the polynomials.
        return step.y0[None] + evaluate_polynomial(cast(Array, step.coefficients), theta)

    def matrices(self, ts: Shaped[Array, " q"]) -> Float[Array, "q n n"]:
        """`J^T` at the recorded solution."""
        field, direction = self._field(self.equations.parameters)
        jacobians = jax.vmap(field.jacobian)(self._times(ts), self.states(ts))
        return direction * self._length * jnp.swapaxes(jacobians, -1, -2)

    def pull(self, ts: Shaped[Array, " q"], v: Float[Array, "q n"]) -> PyTree:
        """The sum over times of `(df/dtheta)^T v`."""
        times, ys = self._times(ts), self.states(ts)

        def slopes(parameters: PyTree) -> Array:
            field, direction = self._field(parameters)
            return direction * self._length * jax.vmap(field)(times, ys)

        return jax.vjp(slopes, self.equations.parameters)[1](v)[0]


@final
class LinearStep(eqx.Module):
    """What a step back from `t` to `t - h` gives.

    - `end`, `error`: the adjoint at `t - h`, and an estimate of its error.
    - `polynomial`: coefficients of the adjoint's increment, for methods with dense output.
    - `ts`, `values`, `weights`: a rule for integrals over the step, with the adjoint at its nodes;
      the same with `error_values` and `error_weights` (`None`: there is none) is an estimate of its
      error.
    """

    end: Float[Array, " n"]
    error: Float[Array, " n"]
    polynomial: Float[Array, "s n"] | None
    ts: Shaped[Array, " q"]
    values: Float[Array, "q n"]
    weights: Float[Array, " q"]
    error_values: Float[Array, "q n"]
    error_weights: Float[Array, " q"] | None


class AbstractLinearMethod(eqx.Module):
    """A one-step method for the adjoint equation."""

    # The power of the step size in the error estimate, and the order of the result.
    error_order: eqx.AbstractVar[int]
    order: eqx.AbstractVar[int]

    @abc.abstractmethod
    def step(
        self, equation: AbstractLinearEquation, t: Array, h: Array, start: Array
    ) -> LinearStep:
        """From the adjoint at `t` to that at `t - h`."""


@functools.cache
def _joint_rule(tableau: Tableau) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the method itself for an integral, and of its error estimate.

    What is integrated beside the adjoint has the stage increments `h A g`; the node at the start of
    the step has no weight but in the estimate.
    """
    weights = np.concatenate([[0.0], tableau.b])
    error = np.concatenate([[1.0], tableau.error_weights @ tableau.A]) / tableau.gamma
    return weights, error


@final
class LinearRadau(AbstractLinearMethod):
    r"""Radau IIA of order 5: one `3n x 3n` system $(A^{-1} - h J_i^T) Z = h J_i^T \lambda$ a step.

    `gauss_nodes`: of the rule for integrals; 0 takes the method's own, with an error estimate.
    """

    gauss_nodes: int = 0
    error_order: int = 4
    order: int = 5

    def step(
        self, equation: AbstractLinearEquation, t: Array, h: Array, start: Array
    ) -> LinearStep:
        """From the adjoint at `t` to that at `t - h`."""
        tableau, dtype = radau_iia(3), start.dtype
        nodes = np.concatenate([[0.0], tableau.nodes])
        hJ_T = h.astype(dtype) * equation.matrices(t - h * jnp.asarray(nodes, t.dtype))
        slopes = hJ_T @ start
        # The stacked matrix is that of the transposed equations: ours have `A^{-1}` itself.
        couplings = jnp.asarray(tableau.A_inverse - tableau.A_inverse.T, dtype)
        identity = jnp.eye(start.size, dtype=dtype)
        matrix = stacked_matrix(tableau.A_inverse.T, hJ_T[1:]) + jnp.kron(couplings, identity)
        Z = scaled_inverse(matrix).solve(slopes[1:].reshape(-1)).reshape(-1, start.size)
        defect = slopes[0] + jnp.asarray(tableau.error_weights, dtype) @ Z
        filtered = tableau.gamma * identity - hJ_T[0]
        polynomial = jnp.asarray(tableau.polynomial.T, dtype) @ Z
        end, error = start + Z[-1], scaled_inverse(filtered).solve(defect)
        if self.gauss_nodes:
            x, weights = np.polynomial.legendre.leggauss(self.gauss_nodes)
            nodes, weights, error_weights = (x + 1) / 2, weights / 2, None
            powers = nodes[:, None] ** np.arange(1, len(polynomial) + 1)
            values = start[None] + jnp.asarray(powers, dtype) @ polynomial
        else:
            weights, error_weights = _joint_rule(tableau)
            error_weights = jnp.asarray(error_weights, dtype)
            values = start[None] + jnp.concatenate([jnp.zeros((1, start.size), dtype), Z])
        return LinearStep(
            end,
            error,
            polynomial,
            t - h * jnp.asarray(nodes, t.dtype),
            values,
            jnp.asarray(weights, dtype),
            # The filter of the estimate, applied to adjoint and integral as one system: without
            # it every fast transient of the adjoint would be resolved for the integral's sake.
            values.at[0].add(error),
            error_weights,
        )


@final
class LinearKenCarp(AbstractLinearMethod):
    r"""KenCarp4: the adjoint by its implicit half, one `n x n` system a stage; integrals by the other.

    $$(I - h \gamma J_i^T) k_i = J_i^T (\lambda + h \sum_{j<i} a_{ij} k_j)$$
    """

    error_order: int = 4
    order: int = 4

    def step(
        self, equation: AbstractLinearEquation, t: Array, h: Array, start: Array
    ) -> LinearStep:
        """From the adjoint at `t` to that at `t - h`."""
        tableaus: Any = diffrax.KenCarp4.tableau
        explicit, implicit = tableaus.tableaus
        dtype, c = start.dtype, np.concatenate([[0.0], implicit.c])
        ts = t - h * jnp.asarray(c, t.dtype)
        hJ_T = h.astype(dtype) * equation.matrices(ts)
        increments, values = [hJ_T[0] @ start], [start]
        rows = zip(implicit.a_lower, implicit.a_diagonal[1:], hJ_T[1:], strict=True)
        for lower, diagonal, J in rows:
            known = start + jnp.asarray(lower, dtype) @ jnp.stack(increments)
            matrix = jnp.eye(start.size, dtype=dtype) - diagonal.item() * J
            value = scaled_inverse(matrix).solve(known)
            values.append(value)
            increments.append((value - known) / diagonal.item())
        k = jnp.stack(increments)
        return LinearStep(
            start + jnp.asarray(implicit.b_sol, dtype) @ k,
            jnp.asarray(implicit.b_error, dtype) @ k,
            None,
            ts,
            jnp.stack(values),
            jnp.asarray(explicit.b_sol, dtype),
            jnp.stack(values),
            jnp.asarray(explicit.b_error, dtype),
        )
