"""Orders of convergence, on problems with closed form, in step windows where they are asymptotic."""

import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import SOLVERS, each_solver

import stiffrax as srx

ORDERS = dict(zip(SOLVERS, (1, 2, 3, 5, 9, 13, 2, 4, 6, 2, 3, 4, 5), strict=True))
DECAY = 0.2
START, DIRECTION = jnp.array([1.0, 0.5]), jnp.array([1.0, -0.5])

# Rate of rotation, end time, and two numbers of steps between which the order is measured: errors
# are far above rounding, and the next term of their expansion is small.
WINDOWS = {
    "BackwardEuler": (0.5, 1.0, 64, 128),
    "RadauIIA9": (3.0, 3.0, 24, 32),
    "RadauIIA13": (5.0, 4.0, 26, 32),
    # Its term of order 4 is a thousandth of the next one.
    "Rodas4P": (0.5, 1.0, 96, 192),
}
WINDOW = (1.5, 3.0, 48, 96)


def spiral(t, y, rate):
    """Nonlinear, time-dependent; its solution is entire, so that high orders show at large steps."""
    turn = rate * (1 + jnp.cos(t) / 2) * jnp.sum(y**2)
    return turn * jnp.stack([-y[1], y[0]]) - DECAY * y


def spiral_solution(t, y0, rate):
    d = 2 * DECAY
    integral = (1 - jnp.exp(-d * t)) / d
    integral += (d + jnp.exp(-d * t) * (jnp.sin(t) - d * jnp.cos(t))) / (2 * (1 + d**2))
    angle = rate * jnp.sum(y0**2) * integral
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.stack([cos * y0[0] - sin * y0[1], sin * y0[0] + cos * y0[1]])
    return jnp.exp(-DECAY * t) * turned


def march(solver, vector_field, n, t1, y0, args):
    """`n` equal steps from 0 to `t1` by hand: one program for any number of steps."""
    term, h = diffrax.ODETerm(vector_field), t1 / n

    def body(k, carry):
        y, state = carry
        t = k * h
        y, _, _, state, _ = solver.step(term, t, t + h, y, args, state, False)
        return y, state

    first = y0, solver.init(term, 0.0 * h, h, y0, args)
    return jax.lax.fori_loop(0, n, body, first)[0]


@eqx.filter_jit
def end_and_derivatives(solve, t1, rate):
    def moved(x):
        end = solve(t1, START + x[0] * DIRECTION, rate + x[1])
        return end, end

    derivatives, value = jax.jacfwd(moved, has_aux=True)(jnp.zeros(2))
    return {"value": value, "start": derivatives[:, 0], "parameter": derivatives[:, 1]}


@eqx.filter_jit
def marched(solver, n, t1, rate):
    return end_and_derivatives(
        lambda t1, y0, rate: march(solver, spiral, n, t1, y0, rate), t1, rate
    )


@functools.cache
def end_point_orders(name):
    rate, t1, coarse, fine = WINDOWS.get(name, WINDOW)
    rate, t1 = jnp.array(rate), jnp.array(t1)
    exact = end_and_derivatives(spiral_solution, t1, rate)
    errors = [
        jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), exact, found)
        for found in (marched(SOLVERS[name], jnp.array(n), t1, rate) for n in (coarse, fine))
    ]
    assert min(errors[1].values()) > 1e-12
    return jax.tree.map(lambda a, b: np.log(a / b) / np.log(fine / coarse), *errors)


@pytest.mark.slow_cases(
    "value-*",
    "start-GaussLegendre4",
    "*-RadauIIA13",
    "start-Trapezoid",
    "*-BackwardEuler",
    "parameter-GaussLegendre4",
    "parameter-Trapezoid",
)
@each_solver
@pytest.mark.parametrize("of", ["value", "start", "parameter"])
def test_the_end_point_and_its_derivatives_converge_with_the_order_of_the_method(name, of):
    assert abs(end_point_orders(name)[of] - ORDERS[name]) < 0.2


@each_solver
def test_the_solver_tells_diffrax_its_order(name):
    solver = SOLVERS[name]
    assert solver.order(None) == ORDERS[name]
    if isinstance(solver, srx.AbstractRosenbrock):
        assert solver.error_order(None) == max(3, ORDERS[name])
    else:
        assert solver.error_order(None) == solver.tableau.num_stages + 1


# Orders of the interpolants that Rosenbrock methods come with.
INSIDE = {"Rosenbrock23": 2, "Rodas3P": 3, "Rodas4P": 3, "Rodas5P": 4}
# The largest of two steps in the ratio 3 : 2 for the error inside of one step.
STEPS = {
    "BackwardEuler": 0.01,
    "GaussLegendre2": 0.01,
    "RadauIIA9": 0.05,
    "RadauIIA13": 0.2,
    "Rodas3P": 0.01,
    "Rodas4P": 0.01,
}


@pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA13", "GaussLegendre4")
@each_solver
def test_dense_output_inside_a_step_has_the_order_of_the_method_there(name):
    solver, term = SOLVERS[name], diffrax.ODETerm(spiral)
    theta = jnp.linspace(0.1, 0.9, 9)
    rate = 3.0

    @jax.jit
    def error(h):
        state = solver.init(term, 0.0 * h, h, START, rate)
        _, _, dense_info, _, _ = solver.step(term, 0.0 * h, h, START, rate, state, False)
        step = srx.CollocationInterpolation(t0=0.0 * h, t1=h, **dense_info)
        found = jax.vmap(step.evaluate)(theta * h)
        exact = jax.vmap(lambda t: spiral_solution(t, START, rate))(theta * h)
        return jnp.max(jnp.abs(found - exact))

    h = jnp.array(STEPS.get(name, 0.03))
    order = jnp.log(error(h) / error(h / 1.5)) / jnp.log(1.5)
    # A step of h leaves an error of h^(s + 1): order s, less than that of the ends of the steps.
    tableau: Any = solver.tableau
    inside = INSIDE[name] if name in INSIDE else tableau.stage_order
    assert abs(order - (inside + 1)) < 0.2


def test_the_closed_form_solves_the_problem():
    @jax.jit
    def slopes(t):
        exact = spiral(t, spiral_solution(t, START, 1.5), 1.5)
        return jax.jacfwd(spiral_solution)(t, START, 1.5), exact

    for t in (0.0, 1.3):
        np.testing.assert_allclose(*slopes(t), rtol=1e-13)
