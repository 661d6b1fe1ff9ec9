"""Never a wrong number that is called a success; `benchmarks/never_wrong.py` has the whole table."""

import diffrax
import equinox as eqx
import jax
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


SPECIES, REACTIONS = 6, 12


def network(seed):
    """Random reactions that make as many molecules as they use, rates over eight decades."""
    rng = np.random.default_rng(seed)
    used, made = rng.integers(0, SPECIES, (2, REACTIONS, 2))
    is_pair = rng.random(REACTIONS) < 0.5
    stoichiometry = np.zeros((SPECIES, REACTIONS))
    for j in range(REACTIONS):
        for k in range(1 + is_pair[j]):
            stoichiometry[used[j, k], j] -= 1
            stoichiometry[made[j, k], j] += 1
    rates = 10 ** rng.uniform(-3, 5, REACTIONS)
    start = rng.uniform(0.1, 1, SPECIES) * (rng.random(SPECIES) < 0.7) + 1e-3
    return jnp.asarray(start), tuple(map(jnp.asarray, (stoichiometry, used, is_pair, rates)))


def mass_action(t, y, args):
    stoichiometry, used, is_pair, rates = args
    return stoichiometry @ (rates * y[used[:, 0]] * jnp.where(is_pair, y[used[:, 1]], 1.0))


@eqx.filter_jit
def steps(solver, y0, args, rtol):
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(mass_action), solver, 0.0, 1e3, 1e-8, y0, args,
        saveat=diffrax.SaveAt(t0=True, steps=True), max_steps=1024,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-4 * rtol),
    )  # fmt: skip
    return sol.ts, sol.ys, sol.stats["num_accepted_steps"]


@jax.jit
def exact_steps(t0, t1, y, args):
    def solve(t0, t1, y):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(mass_action), srx.RadauIIA9(), t0, t1, (t1 - t0) / 100, y, args,
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-15),
        )  # fmt: skip
        return sol.ys[-1]

    return jax.vmap(solve)(t0, t1, y)


# Measured in 24 networks: 11, 1.1, 0.5 and 3.3 tolerances.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("Rodas3P", 20), ("Rodas4P", 3), ("Rodas5P", 3), ("RadauIIA5", 6)]
)
def test_no_accepted_step_is_far_more_wrong_than_its_tolerance(name, most):
    rtol = 1e-5
    for seed in range(3, 12):
        y0, args = network(seed)
        ts, ys, count = steps(getattr(srx, name)(), y0, args, rtol)
        # What is not filled is a step of its own, so that one program serves all.
        taken = np.arange(1024) < count
        t0, t1 = np.where(taken, ts[:-1], 0.0), np.where(taken, ts[1:], 1e-9)
        start = np.where(taken[:, None], ys[:-1], y0)
        exact = exact_steps(jnp.asarray(t0), jnp.asarray(t1), jnp.asarray(start), args)
        scale = rtol * (1e-4 + np.maximum(np.abs(ys[:-1]), np.abs(ys[1:])))
        errors = np.sqrt(np.mean(((ys[1:] - exact) / scale) ** 2, axis=-1))
        assert count > 50
        assert np.max(errors[taken]) < most
