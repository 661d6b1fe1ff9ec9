"""What is left of the order on a stiff problem: the equation of Prothero and Robinson.

`y' = lambda (y - phi(t)) + phi'(t)` with the smooth solution `phi` and `h |lambda|` far above one. A
method then keeps its stage order `s` only, not its classical order (Hairer and Wanner, *Solving
Ordinary Differential Equations II*, section IV.15):

- Radau IIA of `s` stages: error `h^s / |lambda|`;
- the trapezoid rule: `h^2 / |lambda|`;
- Gauss of `s` stages: `h^s` for even, `h^(s + 1)` for odd `s`, with no help from `lambda`;
- Rodas3P, 4P, 5P: `h^2`, `h^3` and `h^3` over `|lambda|`; Rosenbrock23 `h^2`, not stiffly accurate.
"""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

STIFF_ORDERS = {
    "BackwardEuler": 1,
    "RadauIIA3": 2,
    "RadauIIA5": 3,
    "RadauIIA9": 5,
    "RadauIIA13": 7,
    "Trapezoid": 2,
    "GaussLegendre2": 2,
    "GaussLegendre4": 2,
    "GaussLegendre6": 4,
    "Rosenbrock23": 2,
    "Rodas3P": 2,
    "Rodas4P": 3,
    "Rodas5P": 3,
}
# One of each kind: with one stage, with an explicit one, stiffly accurate with few stages and with
# many, not stiffly accurate, and without an iteration. The others have other numbers in the same
# programs.
KINDS = ("BackwardEuler", "Trapezoid", "RadauIIA5", "RadauIIA13", "GaussLegendre4", "Rodas5P")
CASES = {
    name: name if name in KINDS else pytest.param(name, marks=pytest.mark.slow)
    for name in STIFF_ORDERS
}
DAMPING = [name for name in CASES if not name.startswith(("Gauss", "Rosen"))]


def phi(t):
    return jnp.sin(5 * t + jnp.pi / 4)


def prothero_robinson(t, y, rate):
    return -rate * (y - phi(t)) + jax.jvp(phi, (t,), (jnp.ones_like(t),))[1]


@functools.cache
def error(name, steps, rate):
    return float(largest_error(getattr(srx, name)(), jnp.array(steps), jnp.array(rate)))


@eqx.filter_jit
def largest_error(solver, steps, rate):
    """The largest error at the ends of `steps` equal steps from 0 to 10."""
    term, h = diffrax.ODETerm(prothero_robinson), 10 / steps

    def body(k, carry):
        y, state, error = carry
        t = k * h
        y, _, _, state, _ = solver.step(term, t, t + h, y, rate, state, False)
        return y, state, jnp.maximum(error, jnp.abs(y - phi(t + h)))

    y0 = phi(0.0 * h)
    state = solver.init(term, 0.0 * h, h, y0, rate)
    return jax.lax.fori_loop(0, steps, body, (y0, state, 0.0 * y0))[2]


@pytest.mark.slow_cases("RadauIIA13", "Trapezoid", "GaussLegendre4")
@pytest.mark.parametrize("name", CASES.values())
def test_stiff_orders_are_those_of_the_theory(name):
    steps = 40 if name == "RadauIIA13" else 80  # rounding comes into sight
    order = np.log2(error(name, steps, 1e6) / error(name, 2 * steps, 1e6))
    assert abs(order - STIFF_ORDERS[name]) < 0.15


@pytest.mark.slow_cases("RadauIIA13", "Trapezoid")
@pytest.mark.parametrize("name", [CASES[name] for name in DAMPING])
def test_errors_of_stiffly_accurate_methods_fall_with_the_stiffness(name):
    np.testing.assert_allclose(error(name, 80, 1e5) / error(name, 80, 1e6), 10, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in DAMPING])
def test_errors_of_gauss_methods_do_not_fall_with_the_stiffness(name):
    np.testing.assert_allclose(error(name, 80, 1e5) / error(name, 80, 1e6), 1, rtol=0.05)
