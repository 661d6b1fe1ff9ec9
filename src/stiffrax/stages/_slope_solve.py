"""Newton's method proper for slopes, and the derivative of what it finds."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._linearization_point import linearization_point
from ._newton import NewtonState, SimplifiedNewton
from ._open_lanes import while_open
from ._own_derivative import with_derivative
from ._slope_system import SlopeSystem
from ._stopping_rules import rounding_rule

_NEWTON = SimplifiedNewton()


@final
class SlopeSolution(eqx.Module):
    """The scaled slopes of all stages, whether they solve the equations, and after how much."""

    K: Float[Array, "m n"]
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    result: optx.RESULTS


def _residual(K: Array, system: SlopeSystem) -> tuple[Array, None]:
    return system.residual(K), None


def _is_open(fixed: tuple[SlopeSystem, int], iterate: tuple[Array, NewtonState]) -> Array:
    state = iterate[1]
    return ~(state.converged | state.diverged) & (state.iterations < fixed[1])


def _iteration(
    fixed: tuple[SlopeSystem, int], iterate: tuple[Array, NewtonState]
) -> tuple[Array, NewtonState]:
    (system, _), (K, state) = fixed, iterate
    options = {
        "solve": lambda R, K: system.solve_linearized(K, R),
        "rule": rounding_rule(system.y0),
    }
    K, state, _ = _NEWTON.step(_residual, K, system, options, state, frozenset())
    return K, state


def _iterate(system: SlopeSystem, max_steps: int) -> tuple[Array, SlopeSolution]:
    # From no slope at all the first iterate is that of the problem linearized at the start, which
    # is close for stiff components; their slopes at the start mean nothing.
    start = jnp.zeros((system.c.shape[0], system.y0.shape[0]), system.y0.dtype)
    init = _NEWTON.init(_residual, start, system, {"solve": None}, start, None, frozenset())
    K, state = while_open(_is_open, _iteration, (system, max_steps), (start, init))
    _, result = _NEWTON.terminate(_residual, K, system, {}, state, frozenset())
    limit = optx.RESULTS.nonlinear_max_steps_reached
    result = optx.RESULTS.where(state.converged | state.diverged, result, limit)
    return K, SlopeSolution(K, state.converged, state.iterations, result)


def _implicit_derivative(primals: Any, tangents: Any) -> Any:
    system, max_steps = primals
    K, solution = _slopes(system, max_steps)
    ok = solution.converged
    point, K_point = linearization_point(system, K, ok)
    _, r_dot = eqx.filter_jvp(lambda s: s.residual(K_point), (point,), (tangents[0],))
    K_dot = point.solve_linearized(K_point, -r_dot, ok)
    return (K, solution), (K_dot, jax.tree.map(lambda _: None, solution))


_slopes = with_derivative("slopes", _iterate, _implicit_derivative)


def solve_slopes(system: SlopeSystem, max_steps: int = 50) -> SlopeSolution:
    """Solves for the slopes to rounding; differentiable in everything the system holds.

    In the coefficients too: the derivative is one linear solve with the exact Jacobians at the
    stages, in both modes and any composition, and zero for a solve that failed.
    """
    K, solution = _slopes(system, max_steps)
    solution = jax.tree.map(lambda x: lax.stop_gradient(x) if eqx.is_array(x) else x, solution)
    return eqx.tree_at(lambda s: s.K, solution, K)
