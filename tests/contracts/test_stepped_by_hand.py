"""A solver stepped by hand tells its error, so that anybody can write a controller around it."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
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
    "Trapezoid", "GaussLegendre4", "RadauIIA9", "Rosenbrock23", "Rodas3P", "Rodas4P", "RadauIIA5"
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
    advance = jax.jit(lambda y: step(term, solver, 1.0, -1.0, y))
    _, error, *_ = advance(jnp.ones(1))
    assert jnp.all(jnp.isposinf(error))


class Halving(diffrax.AbstractAdaptiveStepSizeController):
    """A controller of one's own, which reads the estimate as any other solver gives it."""

    rtol: float = 1e-3
    atol: float = 1e-6
    norm: Callable = optx.max_norm

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return t0 + dt0, None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        size = jax.tree.map(
            lambda e, y: jnp.abs(e) / (self.atol + self.rtol * jnp.abs(y)), y_error, y0
        )
        keep = self.norm(size) < 1
        start = jnp.where(keep, t1, t0)
        end = start + jnp.where(keep, 1.5, 0.5) * (t1 - t0)
        return keep, start, end, False, None, diffrax.RESULTS.successful


def forced_decay(name, controller):
    term, y0 = diffrax.ODETerm(lambda t, y, args: -50 * (y - jnp.cos(t))), jnp.array([0.0])
    return diffrax.diffeqsolve(
        term, SOLVERS[name], 0.0, 1.0, 0.1, y0, stepsize_controller=controller
    )


@pytest.mark.parametrize(
    ("name", "controller"),
    [
        ("BackwardEuler", Halving()),
        ("BackwardEuler", srx.RecordingController(Halving())),
        ("Rosenbrock23", srx.RecordingController(Halving())),
    ],
)
def test_a_solve_takes_a_controller_of_ones_own(name, controller):
    ys = eqx.filter_eval_shape(lambda: forced_decay(name, controller).ys)
    assert ys.shape == (1, 1)


def test_a_solve_under_a_controller_of_ones_own_rejects_steps_and_holds_its_tolerance():
    solution = forced_decay("Rosenbrock23", Halving())
    exact = (2500 * np.cos(1.0) + 50 * np.sin(1.0)) / 2501
    np.testing.assert_allclose(solution.ys[-1], exact, rtol=1e-3)
    assert solution.stats["num_rejected_steps"] > 0
    assert solution.stats["num_accepted_steps"] < 50
