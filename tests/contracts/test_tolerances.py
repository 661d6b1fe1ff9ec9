"""Tolerances and norms as controllers take them, through whole solves by every kind of solver."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

SOLVERS = [srx.RadauIIA5(), srx.Rodas5P(), srx.RadauIIA(order="auto")]
# All claims by one program of one solver; of `RadauIIA5` tests/solvers/test_singularities.py has poles.
slow = pytest.mark.slow_cases("0", "2")


REST, POLE, DECAY, SMALL = jnp.arange(4)


def field(t, y, kind):
    """A decay or a pole beside a state at rest, a decay of both, small units; one program for all."""
    fields = (
        lambda y: jnp.stack([-y[0], 0 * y[1]]),
        lambda y: jnp.stack([1 / (2 - y[0]) ** 3, 0 * y[1]]),
        lambda y: -y,
        lambda y: 1e-15 * jnp.cos(t) * jnp.ones(2),
    )
    return jax.lax.switch(kind, fields, y)


def solve(kind, y0, solver, rtol, atol, t1=1.0):
    # Tolerances are arrays of one shape for the same reason.
    rtol, atol = (jnp.broadcast_to(jnp.asarray(x), 2) for x in (rtol, atol))
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        jnp.asarray(t1),
        0.01,
        jnp.asarray(y0),
        kind,
        stepsize_controller=diffrax.PIDController(rtol, atol),
        throw=False,
    )


@slow
@pytest.mark.parametrize("solver", SOLVERS, ids=["0", "1", "2"])
def test_a_component_at_rest_needs_no_absolute_tolerance(solver):
    sol = solve(REST, [1.0, 0.0], solver, rtol=1e-6, atol=0.0)
    assert sol.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(sol.ys[-1], [np.exp(-1), 0.0], rtol=1e-5)


@slow
@pytest.mark.parametrize("solver", SOLVERS, ids=["0", "1", "2"])
def test_no_solve_walks_through_a_pole_beside_a_component_at_rest(solver):
    sol = solve(POLE, [1.0, 0.0], solver, rtol=1e-3, atol=0.0, t1=2.0)
    assert sol.result != diffrax.RESULTS.successful


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=["0", "1", "2"])
def test_a_relative_tolerance_may_be_one_for_each_component(solver):
    sol = solve(DECAY, [1.0, 1.0], solver, rtol=[1e-6, 1e-3], atol=1e-9)
    np.testing.assert_allclose(sol.ys[-1], np.exp(-1), rtol=1e-6)


@slow
@pytest.mark.parametrize("solver", SOLVERS, ids=["0", "1", "2"])
def test_an_absolute_tolerance_alone_holds_in_small_units(solver):
    sol = solve(SMALL, [0.0, 0.0], solver, rtol=0.0, atol=1e-20, t1=20.0)
    np.testing.assert_allclose(sol.ys[-1], 1e-15 * np.sin(20.0), rtol=0, atol=1e-19)


@pytest.mark.slow_cases("0-PredictiveController", "1-PIDController", "1-PredictiveController")
@pytest.mark.parametrize("controller", [diffrax.PIDController, srx.PredictiveController])
@pytest.mark.parametrize("solver", SOLVERS[:2], ids=["0", "1"])
def test_a_norm_sees_the_structure_of_the_state(solver, controller):
    field = lambda t, y, args: {"x": -y["x"], "integral": y["x"]}
    given = controller(1e-6, 1e-8, norm=lambda error: optx.max_norm(error["x"]))
    y0 = {"x": jnp.ones(1), "integral": jnp.zeros(1)}
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field), solver, 0.0, 1.0, 0.01, y0, stepsize_controller=given
    )
    np.testing.assert_allclose(sol.ys["x"][-1], np.exp(-1), rtol=1e-6)


@pytest.mark.slow
def test_a_component_at_rest_needs_none_beside_tolerances_of_the_root_finder():
    solver = srx.BackwardEuler(root_finder=srx.SimplifiedNewton(1e-8, 1e-8))
    controller = diffrax.PIDController(rtol=1e-2, atol=0.0)
    field = lambda t, y, args: jnp.stack([-y[0], 0 * y[1]])
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        1.0,
        0.01,
        jnp.array([1.0, 0.0]),
        stepsize_controller=controller,
    )
    assert sol.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(sol.ys[-1], [np.exp(-1), 0.0], rtol=1e-1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Complex dtype support in Diffrax")
@pytest.mark.parametrize(
    ("y0", "atol"),
    [
        pytest.param(jnp.ones(2, complex), jnp.array([1e-8, 1e-6]), id="complex"),
        pytest.param(jnp.ones((2, 2)), jnp.full((2, 2), 1e-8), id="matrix"),
    ],
)
def test_tolerances_of_the_root_finder_have_the_shape_of_the_state(y0, atol):
    solver = srx.BackwardEuler(root_finder=srx.SimplifiedNewton(rtol=1e-8, atol=atol))
    term = diffrax.ODETerm(lambda t, y, args: -y)
    sol = diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.1, y0)
    np.testing.assert_allclose(sol.ys[-1], 1.1**-10 * y0, rtol=1e-6)


def test_tolerances_of_the_root_finder_of_another_shape_are_refused():
    solver = srx.BackwardEuler(root_finder=srx.SimplifiedNewton(rtol=1e-8, atol=jnp.full(3, 1e-8)))
    with pytest.raises(ValueError, match=r"`atol` of shape \(3,\) was given for a state of"):
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y), solver, 0.0, 1.0, 0.1, jnp.ones(2)
        )
