"""Never a wrong number that is called a success; `benchmarks/never_wrong.py` has the whole table."""

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful


@eqx.filter_jit
def compiled(problem, solver, rtol, atol, max_steps):
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        solver,
        problem.t0,
        problem.t1,
        1e-6,
        jnp.asarray(problem.y0),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=max_steps,
        throw=False,
    )
    return sol.ys[-1], sol.result


def solve(problem, solver, rtol, atol, max_steps=4096):
    # Arrays, so that one program serves every tolerance.
    return compiled(problem, solver, jnp.asarray(rtol), jnp.asarray(atol), max_steps)


def error(problem, y, floor):
    return np.max(np.abs(y - problem.reference) / (np.abs(problem.reference) + floor))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "RadauIIA9", "RadauIIA13", "GaussLegendre6"])
def test_the_error_is_of_the_size_of_the_tolerance_or_the_result_says_that_it_failed(name):
    problem, floor = srx.problems.hires(), 1e-4
    for rtol in (1e-3, 1e-6, 1e-8, 1e-11):
        y, result = solve(problem, getattr(srx, name)(), rtol, rtol * floor)
        assert result != SUCCESS or error(problem, y, floor) < 20 * rtol


# The end point of Rodas3P alone does not see what is wrong with components that follow slow ones: 370
# tolerances at 1e-6.
@pytest.mark.slow_cases("Rodas4P-*", "Rodas5P-*")
@pytest.mark.parametrize(("name", "most"), [("Rodas3P", 40), ("Rodas4P", 2), ("Rodas5P", 2)])
def test_components_that_follow_slow_ones_are_as_exact_as_others(name, most):
    problem, floor = srx.problems.hires(), 1e-4
    for rtol in (1e-4, 1e-5, 1e-6):
        y, result = solve(problem, getattr(srx, name)(), rtol, rtol * floor)
        assert result == SUCCESS
        assert error(problem, y, floor) < most * rtol


@pytest.mark.slow_cases("RadauIIA9", "RadauIIA13")
@pytest.mark.parametrize("name", ["RadauIIA5", "RadauIIA9", "RadauIIA13"])
def test_tolerances_that_float64_can_hold_are_met_on_hires(name):
    problem, floor = srx.problems.hires(), 1e-4
    y, result = solve(problem, getattr(srx, name)(), 1e-8, 1e-8 * floor)
    assert result == SUCCESS
    assert error(problem, y, floor) < 20e-8


@pytest.mark.slow_cases("Trapezoid", "GaussLegendre4")
@pytest.mark.parametrize("name", ["Trapezoid", "GaussLegendre2", "GaussLegendre4"])
def test_methods_without_damping_do_not_pass_off_an_undamped_component(name):
    # Robertson's fast component is never damped: an answer within 4096 steps would be wrong.
    problem = srx.problems.robertson()
    atol = 1e-3 * jnp.array([1e-6, 1e-12, 1e-6])
    _, result = solve(problem, getattr(srx, name)(), 1e-3, atol)
    assert result == diffrax.RESULTS.max_steps_reached
