"""Adaptive solves that cannot succeed: the code, the values before, and the other lanes."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

RESULTS = diffrax.RESULTS


def solve(field, t1, y0, **options):
    controller = options.pop("controller", diffrax.PIDController(rtol=1e-6, atol=1e-9))
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        options.pop("solver", srx.RadauIIA5()),
        0.0,
        t1,
        options.pop("dt0", 1e-3),
        y0,
        stepsize_controller=controller,
        throw=False,
        **({"max_steps": 512, "adjoint": srx.DiscreteAdjoint()} | options),
    )


def root(t, y, slope):
    """`y = (1 - t / 2)^2` for the slope 0, as long as the root is real."""
    return slope - jnp.sqrt(y)


def solve_root(slope, t1, dt0, solver):
    """By one program for all numbers."""
    slope, t1, dt0 = (jnp.asarray(x) for x in (slope, t1, dt0))
    return solve(root, t1, jnp.array(1.0), args=slope, dt0=dt0, solver=solver)


both = pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.Rodas5P()], ids=repr)


@pytest.mark.slow_cases("Rodas5P()")
@both
def test_trial_stages_outside_the_domain_are_rejected_and_the_solve_goes_on(solver):
    # A first step of 1.8 has stages at negative states.
    sol = solve_root(0.0, 1.8, 1.8, solver)
    assert sol.result == RESULTS.successful
    assert sol.stats["num_rejected_steps"] > 0
    np.testing.assert_allclose(sol.ys[-1], (1 - 1.8 / 2) ** 2, rtol=1e-4)


# Of Rosenbrock methods tests/solvers/test_singularities.py has the end of a solution.
@pytest.mark.slow_cases("Rodas5P()")
@both
def test_a_solution_that_leaves_the_domain_ends_with_a_code_and_not_with_a_number(solver):
    sol = solve_root(-1.0, 3.0, 1e-3, solver)
    assert sol.result != RESULTS.successful
    assert sol.stats["num_rejected_steps"] > 0
    # It is zero at 2 - log 4.
    assert float(sol.stats["last_step"]["t"]) == pytest.approx(2 - np.log(4), abs=1e-4)
    assert abs(sol.ys[-1]) < 1e-4


def blow_up(t, y, args):
    return y**2


def test_a_blow_up_ends_at_the_limit_of_steps_with_the_time_it_came_to():
    sol = solve(blow_up, 2.0, jnp.array(1.0), max_steps=128)
    assert sol.result == RESULTS.max_steps_reached
    text = srx.diagnostics.explain(sol)
    assert "limit of steps" in text
    assert float(sol.stats["last_step"]["t"]) == pytest.approx(1.0, abs=1e-2)


def test_a_blow_up_ends_at_the_smallest_step_if_there_is_one():
    controller = srx.PredictiveController(rtol=1e-6, atol=1e-9, dtmin=1e-5)
    sol = solve(blow_up, 2.0, jnp.array(1.0), controller=controller)
    assert sol.result == RESULTS.dt_min_reached
    assert "dtmin" in srx.diagnostics.explain(sol)


@pytest.mark.slow
def test_too_few_steps_are_said():
    problem = srx.problems.robertson()
    sol = solve(problem.vector_field, 1e5, jnp.asarray(problem.y0), max_steps=16)
    assert sol.result == RESULTS.max_steps_reached


@pytest.mark.slow
@both
def test_a_vector_field_that_is_not_a_number_ends_with_a_code(solver):
    sol = solve(lambda t, y, args: y * jnp.nan, 1.0, jnp.array(1.0), solver=solver)
    assert sol.result == RESULTS.nonfinite


@pytest.mark.slow
def test_fixed_steps_outside_the_domain_say_what_was_not_finite():
    sol = solve(
        lambda t, y, args: jnp.sqrt(y - t),
        1.0,
        jnp.array(0.0),
        solver=srx.Rodas5P(),
        controller=diffrax.ConstantStepSize(),
    )
    assert sol.result == RESULTS.nonfinite
    assert "the stages of y1 are not finite" in srx.diagnostics.explain(sol)


@pytest.mark.slow
@both
def test_a_lane_that_fails_beside_fifteen_changes_nothing_for_them(solver):
    rates = jnp.linspace(0.1, 1.0, 16)

    def lane(rate, power):
        field = lambda t, y, args: rate * y**power
        return solve(field, 2.0, jnp.array(1.0), max_steps=128, solver=solver)

    powers = jnp.ones(16).at[7].set(4.0).at[15].set(1.0)
    run = jax.jit(jax.vmap(lane))
    healthy, failing = run(rates, jnp.ones(16)), run(rates.at[7].set(1.0), powers)
    others = np.arange(16) != 7
    succeeded = np.asarray(failing.result == RESULTS.successful)
    np.testing.assert_array_equal(succeeded, others)
    np.testing.assert_array_equal(failing.ys[others], healthy.ys[others])
    np.testing.assert_array_equal(
        failing.stats["num_steps"][others], healthy.stats["num_steps"][others]
    )
    np.testing.assert_allclose(healthy.ys[:, -1], np.exp(2 * rates), rtol=1e-4)
