"""Solves that no smaller step can save end at once, without a limit of steps, each with its code.

All are lanes of one batch: what fails must also end for itself, and change no bit of the others.
"""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

RESULTS = diffrax.RESULTS
ROOT = "root that leaves its domain"
FIELDS = {
    "decay": (lambda y: -y, 1.0, "successful"),
    "exponential at its singularity": (lambda y: jnp.exp(y), 0.0, "dt_min_reached"),
    "square at its singularity": (lambda y: y**2, 1.0, "dt_min_reached"),
    ROOT: (lambda y: -1 - jnp.sqrt(y), 1.0, "dt_min_reached"),
    "no slope at the start": (lambda y: -jnp.log(y), 0.0, "nonfinite"),
    "no number anywhere": (lambda y: jnp.nan * y, 1.0, "nonfinite"),
    "no derivative at the start": (lambda y: 1 + jnp.sqrt(y), 0.0, "nonfinite"),
    "no state": (lambda y: -y, jnp.nan, "nonfinite"),
    "infinite state": (lambda y: -y, jnp.inf, "nonfinite"),
}
STARTS = jnp.array([start for _, start, _ in FIELDS.values()])
KINDS = jnp.arange(len(FIELDS))
SOLVERS = {
    "order 1": srx.BackwardEuler(),
    "order 3": srx.RadauIIA3(),
    "order 5": srx.RadauIIA5(),
    "order 9": srx.RadauIIA9(),
    "Gauss": srx.GaussLegendre4(),
    "trapezoid rule": srx.Trapezoid(),
}


def field(t, y, args):
    kind, direction = args
    return direction * jnp.select(
        [kind == i for i in range(len(FIELDS))], [f(y) for f, *_ in FIELDS.values()]
    )


@functools.cache
def batch(solver, controller, dt0=1e-2):
    """One program for all kinds and both directions of time."""

    def lane(kind, y0, direction):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            jnp.zeros((), y0.dtype),
            2 * direction,
            None if dt0 is None else dt0 * direction,
            y0,
            (kind, direction),
            stepsize_controller=controller,
            max_steps=None,
            throw=False,
        )

    return jax.jit(jax.vmap(lane))


def solve(solver, controller, direction=1.0, kinds=KINDS, dtype=jnp.float64, dt0=1e-2):
    starts = STARTS.astype(dtype)[kinds]
    return batch(solver, controller, dt0)(kinds, starts, jnp.full(kinds.shape, direction, dtype))


def code_of(solution, lane):
    return next(
        name
        for name in ("successful", "dt_min_reached", "nonfinite", "max_steps_reached")
        if (solution.result == getattr(RESULTS, name))[lane]
    )


def codes(solution):
    found = {kind: code_of(solution, i) for i, kind in enumerate(FIELDS)}
    # Whether the last state accepted is just before the end of the domain or, by rounding, beyond.
    if found[ROOT] == "nonfinite":
        found[ROOT] = "dt_min_reached"
    return found


EXPECTED = {kind: code for kind, (*_, code) in FIELDS.items()}
PID = diffrax.PIDController(rtol=1e-3, atol=1e-6)
PREDICTIVE = srx.PredictiveController(rtol=1e-3, atol=1e-6)


# The predictive controller ends solves in single precision, below, in every run.
@pytest.mark.slow_cases("predictive-*")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("controller", [PID, PREDICTIVE], ids=["PID", "predictive"])
class TestEverySolveEnds:
    def test_each_solve_ends_with_its_own_code(self, controller, direction):
        assert codes(solve(SOLVERS["order 5"], controller, direction)) == EXPECTED

    def test_a_start_that_is_not_finite_ends_a_solve_in_the_first_attempt(
        self, controller, direction
    ):
        steps = solve(SOLVERS["order 5"], controller, direction).stats["num_steps"]
        first = [code == "nonfinite" for code in EXPECTED.values()]
        assert steps[np.array(first)].tolist() == [1] * sum(first)

    def test_steps_that_shrink_to_nothing_end_a_solve_without_thousands_of_attempts(
        self, controller, direction
    ):
        steps = solve(SOLVERS["order 5"], controller, direction).stats["num_steps"]
        assert np.max(steps) < 600

    def test_a_solve_stays_where_it_failed(self, controller, direction):
        solution = solve(SOLVERS["order 5"], controller, direction)
        lane = list(FIELDS).index("square at its singularity")
        np.testing.assert_allclose(direction * solution.ts[lane, -1], 1.0, atol=1e-3)
        np.testing.assert_array_equal(solution.ys[4:, -1], STARTS[4:])

    def test_a_solve_that_fails_changes_no_other_lane(self, controller, direction):
        solver = SOLVERS["order 5"]
        failing = solve(solver, controller, direction)
        healthy = solve(solver, controller, direction, kinds=jnp.zeros_like(KINDS))
        np.testing.assert_array_equal(failing.ys[0], healthy.ys[0])
        assert failing.stats["num_steps"][0] == healthy.stats["num_steps"][0]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "order 5"])
def test_other_methods_end_as_well(name):
    found = codes(solve(SOLVERS[name], PID))
    assert found == EXPECTED


@pytest.mark.slow_cases("PID")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("controller", [PID, PREDICTIVE], ids=["PID", "predictive"])
def test_single_precision_and_a_first_step_that_is_chosen_end_as_well(controller):
    found = codes(solve(SOLVERS["order 3"], controller, dtype=jnp.float32, dt0=None))
    assert found == EXPECTED


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_variable_order_ends_as_well():
    controller = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: y**2),
        srx.RadauIIA(),
        0.0,
        2.0,
        None,
        jnp.array(1.0),
        stepsize_controller=controller,
        max_steps=None,
        throw=False,
    )
    assert solution.result == RESULTS.dt_min_reached


class TestStepsOfNoLength:
    # One program for each kind of controller.
    @staticmethod
    @eqx.filter_jit
    def solve(t0, controller, dt0=1e-2):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            srx.RadauIIA3(),
            t0,
            t0 + 1.0,
            dt0,
            jnp.array(1.0),
            stepsize_controller=controller,
            max_steps=None,
            throw=False,
        )

    def test_a_first_step_below_the_spacing_of_time_ends_a_solve_that_cannot_grow_it(self):
        solution = self.solve(1.0, diffrax.PIDController(1e-6, 1e-9), dt0=1e-20)
        assert solution.result == RESULTS.dt_min_reached
        assert solution.stats["num_steps"] == 2

    def test_a_first_step_below_the_spacing_grows_under_the_controller_that_knows_it(self):
        solution = self.solve(1.0, srx.PredictiveController(1e-6, 1e-9), dt0=1e-20)
        np.testing.assert_allclose(solution.ys[-1], np.exp(-1.0), rtol=1e-5)

    @pytest.mark.slow_cases("controller1")
    @pytest.mark.parametrize(
        "controller", [diffrax.PIDController(1e-6, 1e-9), srx.PredictiveController(1e-6, 1e-9)]
    )
    def test_a_jump_just_after_the_start_is_passed(self, controller):
        start = np.nextafter(1.0, 0.0)
        clipped = diffrax.ClipStepSizeController(controller, jump_ts=jnp.array([1.0]))
        solution = self.solve(start, clipped)
        assert solution.result == RESULTS.successful
        np.testing.assert_allclose(solution.ys[-1], np.exp(-1.0), rtol=1e-5)


def test_an_infinite_slope_at_the_start_is_no_obstacle_to_a_method_that_does_not_read_it():
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: 0.5 / jnp.sqrt(t) - 0 * y),
        srx.GaussLegendre6(),
        0.0,
        1.0,
        1e-9,
        jnp.array(0.0),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
    )
    np.testing.assert_allclose(solution.ys[-1], 1.0, rtol=1e-2)


def test_other_solvers_end_under_the_predictive_controller_too():
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: y**2),
        diffrax.Tsit5(),
        0.0,
        2.0,
        1e-2,
        jnp.array(1.0),
        stepsize_controller=PREDICTIVE,
        max_steps=None,
        throw=False,
    )
    assert solution.result == RESULTS.dt_min_reached


@pytest.mark.slow
def test_an_infinite_jacobian_does_not_pass_for_convergence():
    # Divided by it every residual is zero: `y = 0` was returned, successfully.
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: 1 + jnp.sqrt(y)),
        srx.BackwardEuler(),
        0.0,
        1.0,
        0.25,
        jnp.array(0.0),
        throw=False,
    )
    assert solution.result == RESULTS.nonfinite


def fails(solver, start=1.0, controller=PID, **options):
    """A field without a value at the start, or from `t = 0.3` on."""
    field = lambda t, y, args: jnp.where(t < 0.3, -y, jnp.nan) * jnp.sqrt(y)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        1.0,
        options.pop("dt0", 0.1),
        jnp.array(start),
        stepsize_controller=controller,
        throw=False,
        **options,
    )


AT_TIME = {
    "a root": diffrax.Event(lambda t, y, args, **_: t - 0.5, optx.Newton(1e-8, 1e-8)),
    "a Boolean": diffrax.Event(lambda t, y, args, **_: t > 0.5),
}


class TestAFailedSolveIsNoEvent:
    @pytest.mark.slow_cases("solver1-a root", "solver0-a Boolean")
    @pytest.mark.parametrize("event", AT_TIME.values(), ids=AT_TIME)
    @pytest.mark.parametrize("solver", [srx.BackwardEuler(), srx.Rosenbrock23()])
    def test_a_failed_step_does_not_reach_the_time_of_an_event(self, solver, event):
        solution = fails(solver, -1.0, dt0=1.0, event=event)
        assert solution.result == RESULTS.nonfinite
        assert solution.ts[-1] < 1e-300

    def test_a_failed_solve_has_not_the_gradient_of_an_event(self):
        def end(start):
            options = {"event": AT_TIME["a root"], "adjoint": srx.DiscreteAdjoint()}
            return fails(srx.BackwardEuler(), start, dt0=1.0, **options).ys[-1]

        assert jax.jit(jax.grad(end))(-1.0) == 0

    @pytest.mark.slow_cases("Rosenbrock23*")
    @pytest.mark.parametrize("solver", [srx.BackwardEuler(), srx.Rosenbrock23()], ids=repr)
    def test_a_state_that_a_fixed_step_did_not_find_is_no_event(self, solver):
        event = diffrax.Event(lambda t, y, args, **_: y - 0.1, optx.Newton(1e-8, 1e-8))
        solution = fails(solver, controller=diffrax.ConstantStepSize(), event=event)
        assert solution.result == RESULTS.nonfinite

    @pytest.mark.slow_cases("Rosenbrock23*")
    @pytest.mark.parametrize("solver", [srx.BackwardEuler(), srx.Rosenbrock23()], ids=repr)
    def test_a_state_of_a_failed_step_that_is_kept_for_its_size_is_no_event(self, solver):
        event = diffrax.Event(lambda t, y, args, **_: y - 0.1, optx.Newton(1e-8, 1e-8))
        controller = diffrax.PIDController(0.1, 1.0, dtmin=0.2)
        solution = fails(solver, controller=controller, dt0=0.2, event=event)
        assert solution.result in (RESULTS.nonfinite, RESULTS.nonlinear_divergence)

    def test_a_finite_state_to_which_the_iteration_went_astray_is_no_event(self):
        # No real root of the stage equation: the iteration goes on, and stays finite.
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: jnp.where(t < 0.3, 0.0, 10 * (1 + y**2))),
            srx.BackwardEuler(), 0.0, 1.0, 0.2, jnp.array(1.0),
            stepsize_controller=diffrax.PIDController(0.1, 1.0, dtmin=0.2), throw=False,
            event=diffrax.Event(lambda t, y, args, **_: jnp.abs(y - 1) > 0.01),
        )  # fmt: skip
        assert solution.result == RESULTS.nonlinear_divergence


def test_no_value_within_the_step_that_fails_is_saved():
    saveat = diffrax.SaveAt(ts=jnp.array([0.05, 0.5]), dense=True)
    solution = fails(srx.BackwardEuler(), -1.0, saveat=saveat)
    assert not np.any(np.isfinite(solution.ys))
    assert not np.isfinite(solution.evaluate(0.05))


# Of Rosenbrock methods tests/contracts/test_failed_lanes.py has a failed lane.
@pytest.mark.slow_cases("Rodas3P*")
@pytest.mark.parametrize("solver", [srx.BackwardEuler(), srx.Rodas3P()], ids=repr)
def test_a_masked_loss_of_a_lane_that_fails_leaves_what_lanes_share_alone(solver):
    # The failed lane has infinite values within its step, whose sine has no derivative.
    def loss(y0, shared):
        def lane(bend):
            sol = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: -y + bend * jnp.sqrt(shared - y)),
                solver, 0.0, 1.0, 1.0, y0, saveat=diffrax.SaveAt(ts=jnp.array([0.5])),
                max_steps=1, throw=False,
            )  # fmt: skip
            return sol.ys[0], sol.result == RESULTS.successful

        ys, solved = jax.vmap(lane)(jnp.array([0.0, jnp.nan]))
        return jnp.sum(jnp.where(solved, jnp.sin(ys), 0.0)), solved

    gradient, solved = jax.jit(jax.grad(loss, has_aux=True))(1.0, 2.0)
    np.testing.assert_array_equal(solved, [True, False])
    assert jnp.isfinite(gradient)
    assert gradient != 0
