"""Rates found by the least-squares solvers of optimistix with their default options."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from every_solver import SOLVERS, each_solver

import stiffrax as srx

TRUE = jnp.log10(jnp.array([0.04, 1e4, 3e7]))
# Twenty samples of the three species.
TS = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-4, 1e3, 19)])
STEPS = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-4, 1e3, 96)])
SCALE = jnp.array([[1.0, 3e-5, 1.0]])


def robertson(t, y, rates):
    slow, back, fast = rates[0] * y[0], rates[1] * y[1] * y[2], rates[2] * y[1] ** 2
    return jnp.stack([back - slow, slow - back - fast, fast])


def simulate(log_rates, solver):
    # Methods of low order take given steps: at a loose tolerance sums of squares jump with the number
    # of steps by more than 1e-6, and a tight one takes thousands.
    control = diffrax.PIDController(rtol=1e-7, atol=1e-11)
    if solver.order(None) <= 3:
        control = diffrax.StepTo(STEPS)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(robertson),
        solver,
        0.0,
        TS[-1],
        1e-5 if solver.order(None) > 3 else None,
        jnp.array([1.0, 0.0, 0.0]),
        10**log_rates,
        saveat=diffrax.SaveAt(ts=TS),
        stepsize_controller=control,
        adjoint=srx.DiscreteAdjoint(),
        max_steps=1024,
        throw=False,
    )


def residuals(log_rates, given):
    solver, samples = given
    return (simulate(log_rates, solver).ys - samples) / SCALE


def fit(method, start, given):
    method = method(rtol=1e-8, atol=1e-8)
    solution = optx.least_squares(residuals, method, start, given, max_steps=64, throw=False)
    return solution.value, solution.result == optx.RESULTS.successful


def fitted(method, name, start):
    solver = SOLVERS[name]

    @jax.jit
    def run(start):
        return fit(method, start, (solver, simulate(TRUE, solver).ys))

    return run(start)


START = TRUE + jnp.array([0.1, -0.2, 0.15])


@pytest.mark.slow
@each_solver
def test_robertsons_rates_are_found_through_every_solver(name):
    found, converged = fitted(optx.LevenbergMarquardt, name, START)
    assert converged
    np.testing.assert_allclose(found, TRUE, atol=1e-6)


@pytest.mark.slow
def test_they_are_found_by_gauss_newton_near_them():
    found, converged = fitted(optx.GaussNewton, "RadauIIA5", TRUE + 0.02)
    assert converged
    np.testing.assert_allclose(found, TRUE, atol=1e-6)


@pytest.mark.slow
def test_of_sixty_four_starts_those_that_cannot_be_solved_fail_alone():
    solver = SOLVERS["RadauIIA5"]
    near = np.asarray(TRUE)[None] + 0.3 * np.random.default_rng(0).normal(size=(64, 3))
    broken = jnp.arange(64) % 16 == 5

    @jax.jit
    def run(starts):
        given = solver, simulate(TRUE, solver).ys
        return jax.vmap(lambda start: fit(optx.LevenbergMarquardt, start, given))(starts)

    healthy, converged = run(near)
    found, in_company = run(jnp.where(broken[:, None], jnp.nan, near))
    assert np.mean(converged) > 0.9
    np.testing.assert_allclose(healthy[converged] - np.asarray(TRUE)[None], 0, atol=1e-6)
    np.testing.assert_array_equal(found[~broken], healthy[~broken])
    assert not np.any(in_company[broken])
