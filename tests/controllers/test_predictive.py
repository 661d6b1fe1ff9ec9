import dataclasses
import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful


@functools.cache
def compiled(problem_of, solver_name):
    problem = problem_of()

    @jax.jit
    def solve(rtol, atol, first_step):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            getattr(srx, solver_name)(),
            problem.t0,
            problem.t1,
            first_step,
            jnp.asarray(problem.y0),
            stepsize_controller=srx.PredictiveController(rtol=rtol, atol=atol),
            adjoint=srx.DiscreteAdjoint(),
            throw=False,
        )

    return problem, solve


def against_scipy(problem_of, rtol, floor, first_step):
    problem, solve = compiled(problem_of, "RadauIIA5")
    ours = solve(rtol, rtol * floor, first_step)
    assert ours.result == SUCCESS
    field = jax.jit(problem.vector_field)
    jacobian = jax.jit(jax.jacfwd(lambda y: problem.vector_field(0.0, y)))
    transformed = 0.1 * rtol ** (2 / 3)
    theirs = solve_ivp(
        lambda t, y: np.asarray(field(t, y)),
        (problem.t0, problem.t1),
        problem.y0,
        method="Radau",
        jac=lambda t, y: np.asarray(jacobian(y)),
        rtol=transformed,
        atol=transformed * floor,
        first_step=first_step,
    )
    error = np.abs(ours.ys[-1] - problem.reference) / (np.abs(problem.reference) + floor)
    steps = int(ours.stats["num_accepted_steps"]) / (len(theirs.t) - 1)
    return steps, int(ours.stats["num_f_evaluations"]) / theirs.nfev, np.max(error)


@pytest.mark.slow_cases("HIRES-0.0001", "OREGO-*")
@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(
    ("problem_of", "floor", "first_step"),
    [(srx.problems.hires, 1e-4, 1e-6), (srx.problems.oregonator, 1.0, 1e-6)],
    ids=["HIRES", "OREGO"],
)
def test_steps_and_evaluations_are_those_of_a_classical_code(problem_of, floor, first_step, rtol):
    steps, evaluations, error = against_scipy(problem_of, rtol, floor, first_step)
    assert 0.5 < steps < 1.1
    assert evaluations < 1.1
    assert error < 20 * rtol


@pytest.mark.slow
def test_jacobians_are_fewer_than_factorizations_and_these_fewer_than_steps():
    _, solve = compiled(srx.problems.pollution, "RadauIIA5")
    stats = solve(1e-7, 1e-13, 1e-9).stats
    assert stats["num_jacobians"] < stats["num_factorizations"] < stats["num_steps"]


def adapt(controller, error, h=0.1, state=None, t0=0.0):
    if state is None:
        decay = diffrax.ODETerm(lambda t, y, args: -y)
        y0 = jnp.ones(1)
        _, state = controller.init(decay, t0, 1.0, y0, h, None, lambda *_: y0, 4)
    y = jnp.ones(1)
    keep, next_t0, next_t1, _, state, result = controller.adapt_step_size(
        t0, t0 + h, y, y, None, jnp.full(1, error), 4, state
    )
    return bool(keep), float(next_t1 - next_t0), state, result


CONTROLLER = srx.PredictiveController(rtol=0.0, atol=1.0)


class TestStepSize:
    def test_a_step_that_would_grow_a_little_is_left_as_it_is(self):
        keep, h, *_ = adapt(CONTROLLER, 0.5)
        assert keep
        np.testing.assert_allclose(h, 0.1, rtol=1e-14)

    def test_a_small_error_lets_the_step_grow_to_at_most_eight_times(self):
        keep, h, *_ = adapt(CONTROLLER, 1e-12)
        assert keep
        np.testing.assert_allclose(h, 0.8, rtol=1e-14)

    def test_an_error_that_grows_shrinks_the_next_step_beforehand(self):
        *_, state, _ = adapt(CONTROLLER, 0.02)
        _, h, *_ = adapt(CONTROLLER, 0.9, state=state)
        np.testing.assert_allclose(h, 0.1 * 0.9 * (0.02 / 0.9**2) ** 0.25, rtol=1e-12)

    def test_the_first_step_is_cut_to_a_tenth_when_it_is_rejected(self):
        keep, h, *_ = adapt(CONTROLLER, 2.0)
        assert not keep
        np.testing.assert_allclose(h, 0.01, rtol=1e-14)

    def test_an_infinite_error_halves_the_step(self):
        keep, h, *_ = adapt(CONTROLLER, jnp.inf)
        assert not keep
        np.testing.assert_allclose(h, 0.05, rtol=1e-14)

    def test_a_step_after_a_rejection_does_not_grow(self):
        *_, state, _ = adapt(CONTROLLER, jnp.inf)
        _, h, *_ = adapt(CONTROLLER, 1e-12, state=state)
        np.testing.assert_allclose(h, 0.1, rtol=1e-14)

    def test_the_smallest_step_is_tried_before_a_solve_ends(self):
        controller = srx.PredictiveController(rtol=0.0, atol=1.0, dtmin=0.08)
        _, h, _, result = adapt(controller, jnp.inf)
        assert result == diffrax.RESULTS.successful
        np.testing.assert_allclose(h, 0.08, rtol=1e-14)

    @pytest.mark.parametrize("t0", [0.0, 0.1, 1e5])
    def test_a_rejected_step_of_the_smallest_size_ends_the_solve(self, t0):
        controller = srx.PredictiveController(rtol=0.0, atol=1.0, dtmin=0.1)
        *_, result = adapt(controller, jnp.inf, t0=t0)
        assert result == diffrax.RESULTS.dt_min_reached

    def test_no_step_is_larger_than_the_largest(self):
        controller = srx.PredictiveController(rtol=0.0, atol=1.0, dtmax=0.3)
        _, h, *_ = adapt(controller, 1e-12)
        np.testing.assert_allclose(h, 0.3, rtol=1e-14)

    @pytest.mark.parametrize("bounds", [(1.0, np.array(0.1)), (None, jnp.array(-1.0))])
    def test_bounds_given_as_arrays_are_checked_as_well(self, bounds):
        with pytest.raises(ValueError, match="must be positive, and `dtmin` the smaller one"):
            srx.PredictiveController(1e-3, 1e-3, dtmin=bounds[0], dtmax=bounds[1])


def test_solvers_of_other_packages_are_controlled_as_well():
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        diffrax.Tsit5(),
        0.0,
        1.0,
        None,
        jnp.array(1.0),
        stepsize_controller=srx.PredictiveController(rtol=1e-8, atol=1e-8),
    )
    np.testing.assert_allclose(sol.ys[-1], np.exp(-1), rtol=1e-7)


@pytest.mark.slow
def test_jumps_are_met_by_a_controller_that_clips_around_it():
    field = diffrax.ODETerm(lambda t, y, args: jnp.where(t < 0.3, -1.0, 1.0) - y)
    controller = diffrax.ClipStepSizeController(
        srx.PredictiveController(rtol=1e-8, atol=1e-8), jump_ts=jnp.array([0.3])
    )
    sol = diffrax.diffeqsolve(
        field,
        srx.RadauIIA5(),
        0.0,
        1.0,
        0.01,
        jnp.array(0.0),
        stepsize_controller=controller,
        adjoint=srx.DiscreteAdjoint(),
    )
    at_jump = -(1 - np.exp(-0.3))
    np.testing.assert_allclose(sol.ys[-1], 1 + (at_jump - 1) * np.exp(-0.7), rtol=1e-7)
    assert sol.stats["num_rejected_by_error"] <= 1


def test_sizes_of_steps_have_no_derivative():
    def next_end(t0, dt0, rtol, dtmin, dtmax):
        controller = srx.PredictiveController(rtol, 1e-3, dtmin=dtmin, dtmax=dtmax)
        y = jnp.ones(1)
        t1, memory = controller.init(None, t0, 9.0, y, dt0, None, lambda *_: y, 3)
        state, error = (memory, 1e-3 * y)
        return controller.adapt_step_size(t0, t1, y, y, None, error, 3, state)[2]

    # Of steps that are followed by one of another size, by the largest, by the smallest.
    for bounds in [(1e-3, 1.0), (1e-3, 0.1), (0.9, 1.0)]:
        found = jax.grad(next_end, range(5))(0.0, 0.1, 1e-3, *bounds)
        np.testing.assert_array_equal(found, [1, 0, 0, 0, 0])


def test_a_controller_with_one_number_replaced_is_a_new_one_with_it():
    replaced = dataclasses.replace(srx.PredictiveController(1e-3, 1e-6), rtol=1e-5)
    assert replaced == srx.PredictiveController(1e-5, 1e-6)
