"""What every solver does, whatever its method."""

import functools
import inspect
import typing

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import QUICK_KINDS, SOLVERS, one_of_each_kind

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful
each_solver = pytest.mark.parametrize("name", one_of_each_kind(SOLVERS, QUICK_KINDS))


def relaxation(t, y, args):
    """A nested state with a scalar leaf; linear, so that it has a closed form."""
    return {
        "slow": -y["slow"],
        "fast": {"pair": args * (jnp.stack([jnp.cos(t), jnp.sin(t)]) - y["fast"]["pair"])},
    }


STATE = {"slow": jnp.array(2.0), "fast": {"pair": jnp.array([1.0, 0.5])}}
RATE = 20.0


def relaxed(t):
    """The solution of `relaxation` from `STATE` at 0."""

    def pair(t):
        cos, sin = jnp.cos(t), jnp.sin(t)
        d = RATE**2 + 1
        return RATE / d * jnp.stack([RATE * cos + sin, RATE * sin - cos])

    decay = jnp.exp(-RATE * t) * (STATE["fast"]["pair"] - pair(0.0))
    return {"slow": 2 * jnp.exp(-t), "fast": {"pair": pair(t) + decay}}


SAVE_TIMES = jnp.array([0.03, 0.1, 0.25, 0.32])


@functools.cache
def solution(name):
    """All that can be saved, from one solve of four steps."""
    SubSaveAt = diffrax.SubSaveAt
    saves = [
        SubSaveAt(t0=True),
        SubSaveAt(ts=SAVE_TIMES),
        SubSaveAt(steps=True),
        SubSaveAt(t1=True),
        SubSaveAt(t1=True, fn=lambda t, y, args: y["slow"] * t + args),
    ]
    return jax.jit(
        lambda: diffrax.diffeqsolve(
            diffrax.ODETerm(relaxation),
            SOLVERS[name],
            0.0,
            0.4,
            0.1,
            STATE,
            RATE,
            saveat=diffrax.SaveAt(subs=saves, dense=True),
            max_steps=6,
        )
    )()


def assert_close(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# For steps of 0.1 and a rate of 20: what the order of the method leaves.
END_ERRORS = {
    "BackwardEuler": 0.15,
    "Trapezoid": 0.05,
    "RadauIIA3": 0.03,
    "RadauIIA5": 3e-3,
    "RadauIIA9": 1e-6,
    "RadauIIA13": 1e-9,
    "GaussLegendre2": 0.05,
    "GaussLegendre4": 0.03,
    "GaussLegendre6": 2e-3,
    "Rosenbrock23": 0.1,
    "Rodas3P": 0.03,
    "Rodas4P": 0.01,
    "Rodas5P": 3e-3,
}


@each_solver
@pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA13", "GaussLegendre4")
class TestSaving:
    def test_the_end_is_near_the_solution_in_a_nested_state_with_a_scalar_leaf(self, name):
        end = jax.tree.map(lambda x: x[0], solution(name).ys[3])
        assert end["slow"].shape == ()
        assert_close(end, relaxed(0.4), END_ERRORS[name])

    def test_the_start_is_saved_as_given(self, name):
        assert_close(jax.tree.map(lambda x: x[0], solution(name).ys[0]), STATE, 0)

    def test_steps_end_where_they_should(self, name):
        ts = solution(name).ts[2]
        np.testing.assert_allclose(ts[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-15)
        assert jnp.all(jnp.isinf(ts[4:]))
        assert solution(name).stats["num_steps"] == 4

    def test_dense_output_meets_the_ends_of_the_steps(self, name):
        sol = solution(name)
        for k, t in enumerate(sol.ts[2][:4]):
            for left in (True, False):
                step_end = jax.tree.map(lambda x: x[k], sol.ys[2])  # noqa: B023
                assert_close(sol.evaluate(t, left=left), step_end, 1e-13)

    def test_values_at_times_are_dense_output(self, name):
        sol = solution(name)
        assert_close(sol.ys[1], jax.vmap(sol.evaluate)(SAVE_TIMES), 1e-13)

    def test_dense_output_has_the_slope_of_the_vector_field_at_its_nodes(self, name):
        sol, c = solution(name), SOLVERS[name].tableau.c
        if isinstance(SOLVERS[name], srx.AbstractRosenbrock):
            pytest.skip("its dense output goes through no stages")
        t = 0.1 + 0.1 * c[len(c) // 2]
        expected = relaxation(t, sol.evaluate(t), RATE)
        assert_close(sol.derivative(t), expected, 1e-9)

    def test_a_function_of_the_state_is_saved_instead_of_it(self, name):
        sol = solution(name)
        np.testing.assert_allclose(sol.ys[4], sol.ys[3]["slow"] * 0.4 + RATE, rtol=1e-15)


def logistic(t, y, args):
    """A scalar state."""
    return args * y * (1 - y) * (1 + t)


@functools.cache
def batch(name):
    """One scalar problem forward, then backward in time, then reversed and forward; one batch."""

    def end(direction, t0, t1, y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: direction * logistic(direction * t, y, args)),
            SOLVERS[name],
            t0,
            t1,
            (t1 - t0) / 8,
            y0,
            1.0,
        ).ys[0]

    direction, t0 = jnp.array([1.0, 1.0, -1.0]), jnp.array([0.0, 1.0, -1.0])
    t1, y0 = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.2, 0.6, 0.6])
    return jax.jit(jax.vmap(end))(direction, t0, t1, y0)


@pytest.mark.slow_cases("Trapezoid", "RadauIIA13", "GaussLegendre4", "RadauIIA3")
@each_solver
def test_backward_time_is_forward_time_of_the_reversed_problem(name):
    np.testing.assert_allclose(batch(name)[1], batch(name)[2], rtol=1e-14)


# For eight steps, at most twice what was measured.
LOGISTIC_ERRORS = {
    "BackwardEuler": 0.09,
    "Trapezoid": 7e-5,
    "RadauIIA3": 6e-5,
    "GaussLegendre2": 1.4e-3,
    "Rosenbrock23": 1e-3,
    "Rodas3P": 5.5e-4,
}


@pytest.mark.slow_cases("Trapezoid", "RadauIIA13", "GaussLegendre4", "RadauIIA3", "Rodas3P")
@each_solver
def test_float32_states_stay_float32_and_keep_its_digits(name):
    t = functools.partial(jnp.asarray, dtype="float32")
    sol = jax.jit(
        lambda: diffrax.diffeqsolve(
            diffrax.ODETerm(logistic), SOLVERS[name], t(0), t(1), t(1 / 8), t(0.2), t(1)
        )
    )()
    assert sol.ys.dtype == jnp.float32
    # Against the same steps in float64; seven stages lose about two digits in their transformation.
    tolerance = 1e-5 if name == "RadauIIA13" else 2e-6
    np.testing.assert_allclose(sol.ys[0], batch(name)[0], rtol=tolerance)


@pytest.mark.slow_cases("Trapezoid", "RadauIIA13", "GaussLegendre4", "RadauIIA3")
@each_solver
def test_a_scalar_state_is_solved_in_a_batch(name):
    # y / (1 - y) grows by exp(t + t^2 / 2).
    odds = 0.25 * jnp.exp(1.5)
    np.testing.assert_allclose(
        batch(name)[0], odds / (1 + odds), rtol=LOGISTIC_ERRORS.get(name, 2e-5)
    )


@pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA13", "GaussLegendre4", "Rodas3P")
@each_solver
def test_steps_are_controlled_by_the_embedded_error(name):
    tolerance = 1e-3 if SOLVERS[name].order(None) == 1 else 1e-5
    sol = jax.jit(
        lambda: diffrax.diffeqsolve(
            diffrax.ODETerm(relaxation),
            SOLVERS[name],
            0.0,
            2.0,
            None,
            STATE,
            RATE,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=4096,
        )
    )()
    assert 3 <= sol.stats["num_accepted_steps"] < 2000
    error = jax.tree.map(lambda a, b: a[0] - b, sol.ys, relaxed(2.0))
    assert max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(error)) < 30 * tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Trapezoid", "RadauIIA5", "GaussLegendre4"])
def test_steps_end_at_given_times(name):
    ts = jnp.array([0.0, 0.1, 0.2, 0.3, 0.4])
    sol = jax.jit(
        lambda: diffrax.diffeqsolve(
            diffrax.ODETerm(relaxation),
            SOLVERS[name],
            0.0,
            0.4,
            None,
            STATE,
            RATE,
            stepsize_controller=diffrax.StepTo(ts=ts),
            max_steps=4,
        )
    )()
    assert_close(sol.ys, solution(name).ys[3], 1e-12)


# Largest error of a component relative to the largest value, after 400 equal steps.
HIRES_ERRORS = {
    "BackwardEuler": 1e-2,
    "Trapezoid": 1e-4,
    "RadauIIA3": 1e-5,
    "RadauIIA5": 1e-7,
    "RadauIIA9": 1e-9,
    "RadauIIA13": 1e-9,
    "GaussLegendre2": 1e-4,
    "GaussLegendre4": 1e-6,
    "GaussLegendre6": 1e-8,
    "Rosenbrock23": 1e-4,
    "Rodas3P": 1e-5,
    "Rodas4P": 1e-6,
    "Rodas5P": 1e-7,
}


@pytest.mark.slow
@each_solver
def test_hires_is_solved_by_equal_steps_taken_by_hand(name):
    problem, steps = srx.problems.hires(), 400
    term, solver = diffrax.ODETerm(problem.vector_field), SOLVERS[name]
    h, y0 = problem.reference_times[0] / steps, jnp.asarray(problem.y0)

    def body(k, carry):
        y, state, ok = carry
        y, _, _, state, result = solver.step(term, k * h, k * h + h, y, None, state, False)
        return y, state, ok & (result == SUCCESS)

    first = y0, solver.init(term, 0.0, h, y0, None), jnp.array(True)
    y, _, ok = jax.jit(lambda: jax.lax.fori_loop(0, steps, body, first))()
    assert ok
    error = jnp.max(jnp.abs(y - problem.reference_values[0]))
    assert error < HIRES_ERRORS[name] * jnp.max(problem.reference_values[0])


@each_solver
def test_solvers_are_final_and_diffrax_knows_what_they_are(name):
    make = type(SOLVERS[name])
    assert getattr(make, "__final__", False)
    assert issubclass(make, diffrax.AbstractImplicitSolver)
    assert issubclass(make, diffrax.AbstractAdaptiveSolver)
    assert not inspect.isabstract(make)


def test_every_public_solver_is_held_to_these_contracts():
    public = {
        name
        for name in dir(srx)
        if inspect.isclass(value := getattr(srx, name))
        and issubclass(value, diffrax.AbstractSolver)
        and not inspect.isabstract(value)
    }
    # Two have tests of their own: tests/solvers/test_variable_order.py, test_learnable_runge_kutta.py.
    others = {"RadauIIA", "LearnableRungeKutta"}
    assert public == others | set(typing.cast(dict, SOLVERS))
