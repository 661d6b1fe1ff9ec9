"""Solved stage equations in the slopes."""

import functools as ft
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from ..linear_algebra import with_derivative
from ._lanes import linearization_point, while_open
from ._newton import NewtonState, SimplifiedNewton
from ._stage_solve import solve_refined, stop_gradient
from ._stage_system import SlopeSystem, times_of, with_rounded_cotangents
from ._stopping_rules import rounding_rule

_NEWTON, _MOST_ITERATIONS = SimplifiedNewton(), 50


@final
class SlopeSolution(eqx.Module):
    """The scaled slopes of all stages, whether they solve the equations, and after how much."""

    K: Float[Array, "m n"]
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    result: optx.RESULTS


def _slope_residual(K: Array, system: SlopeSystem) -> tuple[Array, None]:
    return system.residual(K), None


def _slope_is_open(_: SlopeSystem, iterate: tuple[Array, NewtonState]) -> Array:
    return iterate[1].is_open(_MOST_ITERATIONS)


def _slope_iteration(
    system: SlopeSystem, iterate: tuple[Array, NewtonState]
) -> tuple[Array, NewtonState]:
    K, state = iterate
    options = {
        "solve": lambda R, K: system.solve_linearized(K, R),
        "rule": rounding_rule(system.y0),
        **times_of(system),
    }
    K, state, _ = _NEWTON.step(_slope_residual, K, system, options, state, frozenset())
    return K, state


def _slope_iterate(system: SlopeSystem) -> tuple[Array, SlopeSolution]:
    # From no slope at all the first iterate is that of the problem linearized at the start, which
    # is close for stiff components; their slopes at the start mean nothing.
    start = jnp.zeros((system.c.shape[0], system.y0.shape[0]), system.y0.dtype)
    init = _NEWTON.init(_slope_residual, start, system, {"solve": None}, start, None, frozenset())
    K, state = while_open(_slope_is_open, _slope_iteration, system, (start, init))
    return K, SlopeSolution(K, state.converged, state.iterations, state.result)


def _slope_derivative(primals: Any, tangents: Any) -> Any:
    (system,) = primals
    K, solution = _slopes(system)
    ok = solution.converged
    point, K_point = linearization_point(system, K, ok)

    def equations(system: SlopeSystem) -> Array:
        return with_rounded_cotangents(system).residual(K_point)

    def pushed() -> Array:
        return eqx.filter_jvp(equations, (point,), (tangents[0],))[1]

    solve = ft.partial(point.solve_linearized, K_point, ok=ok)
    K_dot = solve_refined(solve, point, K_point, -pushed(), -pushed())
    return (K, solution), (K_dot, jax.tree.map(lambda _: None, solution))


_slopes = with_derivative("slopes", _slope_iterate, _slope_derivative)


def solve_slopes(system: SlopeSystem) -> SlopeSolution:
    """Solves for the slopes to rounding; differentiable in everything the system holds.

    In the coefficients too: the derivative is one linear solve with the exact Jacobians at the
    stages, in both modes and any composition, and zero for a solve that failed.
    """
    K, solution = _slopes(system)
    return eqx.tree_at(lambda s: s.K, stop_gradient(solution), K)
