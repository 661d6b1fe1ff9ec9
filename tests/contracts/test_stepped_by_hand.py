"""A solver stepped by hand tells its error, so that anybody can write a controller around it."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

SOLVERS = {
    type(solver).__name__: solver
    for solver in (
        srx.BackwardEuler(),
        srx.Trapezoid(),
        srx.RadauIIA5(),
        srx.GaussLegendre4(),
        srx.RadauIIA9(),
        srx.Rosenbrock23(),
        srx.Rodas3P(),
        srx.Rodas4P(),
        srx.Rodas5P(),
    )
}


def step(term, solver, t, h, y, memory=None):
    memory = solver.init(term, t, t + h, y, None) if memory is None else memory
    return solver.step(term, t, t + h, y, None, memory, False)


@pytest.mark.slow_cases(
    "Trapezoid", "GaussLegendre4", "RadauIIA9", "Rosenbrock23", "Rodas3P", "Rodas4P"
)
@pytest.mark.parametrize("name", SOLVERS)
def test_the_estimate_falls_with_its_order(name):
    solver, term = SOLVERS[name], diffrax.ODETerm(lambda t, y, args: -(y**2) + jnp.cos(t))

    @jax.jit
    def estimate(h):
        return step(term, solver, jnp.asarray(0.3), h, jnp.array([1.5]))[1][0]

    large, small = estimate(0.02), estimate(0.01)
    assert np.log2(large / small) == pytest.approx(solver.error_order(term), abs=0.4)


@pytest.mark.slow
def test_a_controller_of_ones_own_holds_its_tolerance_on_a_stiff_problem():
    solver, tolerance, end = srx.RadauIIA5(), 1e-6, 2.0
    term = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    advance = jax.jit(lambda t, h, y, memory: step(term, solver, t, h, y, memory))
    t, h, y = 0.0, 1e-4, jnp.array([0.0])
    memory, steps = solver.init(term, t, t + h, y, None), 0
    while t < end:
        h = min(h, end - t)
        y1, error, _, new, result = advance(jnp.asarray(t), jnp.asarray(h), y, memory)
        size = float(jnp.max(jnp.abs(error))) / tolerance
        if size < 1 and result == diffrax.RESULTS.successful:
            t, y, memory = t + h, y1, new
        h *= np.clip(0.9 * max(size, 1e-10) ** (-1 / solver.error_order(term)), 0.2, 5)
        steps += 1
    exact = 1000 * (1000 * np.cos(end) + np.sin(end)) / (1000**2 + 1)
    assert abs(float(y[0]) - exact) < tolerance
    assert steps < 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "Rodas5P"])
def test_the_estimate_of_a_step_that_fails_is_infinite(name):
    term = diffrax.ODETerm(lambda t, y, args: jnp.sqrt(y - 2))
    _, error, *_ = step(term, SOLVERS[name], jnp.asarray(0.0), 0.1, jnp.array([1.0]))
    assert jnp.all(jnp.isinf(error))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "Rodas5P"])
def test_the_estimate_is_in_units_of_the_state(name):
    def error(unit):
        term = diffrax.ODETerm(lambda t, y, args: -(y**2) / unit)
        return step(term, SOLVERS[name], jnp.asarray(0.0), 0.1, jnp.array([unit]))[1][0]

    np.testing.assert_allclose(error(2.0**-80), error(1.0) * 2.0**-80, rtol=1e-9)


@pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.Rodas5P()], ids=repr)
def test_a_failed_step_back_in_time_has_an_infinite_error(solver):
    term = diffrax.ODETerm(lambda t, y, args: jnp.where(y < 0.5, jnp.nan, 1.0))
    y = jnp.ones(1)
    state = solver.init(term, 1.0, 0.0, y, None)
    _, error, *_ = solver.step(term, 1.0, 0.0, y, None, state, made_jump=False)
    assert not jnp.all(jnp.isfinite(error))
