"""A derivative rule, traced when `diffeqsolve` has returned, takes the steps of the solve itself."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx
from stiffrax.diffrax_loop import enclosing_controller_is_pid, enclosing_solve_throws, takes_report
from stiffrax.diffrax_loop._enclosing_solve import run_with_controller

OWN = {
    "simplified": srx.SimplifiedNewton(rtol=1e-8, atol=1e-8),
    "optimistix": optx.Newton(1e-8, 1e-8),
}


def solve(rate, adjoint, root_finder, controller, dt0=None, **saved):
    """A decay beside a state at rest, whose error and scale are zero."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.stack([-rate * y[0], -y[1]])),
        srx.BackwardEuler(root_finder=root_finder),
        0.0,
        1.0,
        dt0,
        jnp.array([1.0, 0.0]),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(**saved or {"t1": True}),
        adjoint=adjoint,
        max_steps=64,
    )


def end(*options):
    solution = solve(*options)
    return solution.ys[-1, 0], solution.stats


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adjoint", "finder"),
    [
        (srx.DiscreteAdjoint(), "optimistix"),
        (srx.ForwardSensitivity(), "simplified"),
        (srx.GaussAdjoint(), "simplified"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_a_root_finder_with_its_own_tolerances_differentiates_the_steps_that_it_took(
    adjoint, finder
):
    options = adjoint, OWN[finder], diffrax.PIDController(rtol=0.1, atol=0.0)
    found, stats = jax.jit(jax.jacrev(lambda rate: end(rate, *options), has_aux=True))(2.0)
    plain = jax.jit(lambda rate: solve(rate, *options, steps=True))(2.0)
    assert stats["num_steps"] == plain.stats["num_steps"]
    np.testing.assert_allclose(found, -np.exp(-2.0), rtol=0.2)
    if isinstance(adjoint, srx.GaussAdjoint):
        return  # It is exact for the equation and not for the steps.
    # Of the product of 1 / (1 + 2 h) over the steps h.
    h = np.diff(plain.ts[np.isfinite(plain.ts)], prepend=0.0)
    left = 1 / (1 + 2 * h)
    np.testing.assert_allclose(found, -np.prod(left) * np.sum(h * left), rtol=1e-7)


class Wrapped(diffrax.AbstractAdaptiveStepSizeController):
    """A controller of a user's, by names of its own."""

    inner: diffrax.AbstractAdaptiveStepSizeController

    @property
    def rtol(self):
        return self.inner.rtol

    @property
    def atol(self):
        return self.inner.atol

    @property
    def norm(self):
        return self.inner.norm

    def wrap(self, direction):
        return type(self)(self.inner.wrap(direction))

    def init(self, *args):
        return self.inner.init(*args)

    def adapt_step_size(self, *args):
        return self.inner.adapt_step_size(*args)


@pytest.mark.slow
def test_a_state_at_rest_without_atol_is_solved_under_a_wrapped_controller():
    controller = Wrapped(diffrax.PIDController(rtol=0.01, atol=0.0))
    finder = OWN["simplified"]
    found = jax.jit(lambda: solve(2.0, srx.DiscreteAdjoint(), finder, controller).ys)()
    np.testing.assert_allclose(found, [[np.exp(-2.0), 0.0]], rtol=0.2)


class Judging(Wrapped):
    """One that takes no more than its first step from diffrax."""

    def adapt_step_size(self, t0, t1, y0, y1, args, y_error, order, state):
        del y1, args
        scaled = jax.tree.map(lambda e, y: e / (0.01 + 0.01 * jnp.abs(y)), y_error, y0)
        error = self.norm(scaled)
        keep = error < 1
        start = jnp.where(keep, t1, t0)
        length = (t1 - t0) * jnp.clip(0.9 * error ** (-1 / order), 0.2, 5.0)
        return keep, start, start + length, False, state, diffrax.RESULTS.successful


class Logged(diffrax.PIDController):
    """One that reads the error and has diffrax judge it."""

    def adapt_step_size(self, t0, t1, y0, y1, args, y_error, *rest):
        jax.debug.callback(list, jax.tree.map(lambda e, y: jnp.abs(e) / y, y_error, y0))
        return super().adapt_step_size(t0, t1, y0, y1, args, y_error, *rest)


class Reading(Wrapped):
    """One that reads the error and hands it on."""

    def adapt_step_size(self, t0, t1, y0, y1, args, y_error, *rest):
        jax.debug.callback(list, jax.tree.map(lambda e, y: jnp.abs(e) / y, y_error, y0))
        return self.inner.adapt_step_size(t0, t1, y0, y1, args, y_error, *rest)


class Counted(diffrax.PIDController):
    """One that hands all on without a look."""

    def adapt_step_size(self, *args):
        return super().adapt_step_size(*args)


def test_only_a_controller_that_hands_errors_on_unread_gets_the_kind_for_that_of_diffrax():
    pid = diffrax.PIDController(rtol=0.01, atol=0.01)
    found = []

    def judged(stepsize_controller):
        run_with_controller(
            lambda: found.append(enclosing_controller_is_pid()), stepsize_controller, None
        )

    counted, logged = Counted(rtol=0.01, atol=0.01), Logged(rtol=0.01, atol=0.01)
    for controller in (pid, Wrapped(pid), counted, Judging(pid), logged, Wrapped(logged)):
        judged(controller)
        judged(diffrax.ClipStepSizeController(controller))
        judged(srx.RecordingController(controller, 10))
    assert found == [True] * 9 + [False] * 9


def test_a_report_goes_to_a_controller_of_ours_unless_a_class_of_the_users_reads_errors_before_it():
    ours = srx.PredictiveController(rtol=0.01, atol=0.01)
    pid = diffrax.PIDController(rtol=0.01, atol=0.01)
    recording = [srx.RecordingController(x) for x in (pid, Reading(ours))]
    taking = [ours, Wrapped(ours), diffrax.ClipStepSizeController(ours), *recording]
    others = [
        pid,
        Reading(ours),
        Reading(recording[0]),
        diffrax.ClipStepSizeController(Reading(ours)),
    ]
    assert [takes_report(x) for x in (*taking, *others)] == [True] * 5 + [False] * 4


PREDICTIVE = srx.PredictiveController(0.01, 0.01)
LOGGED = Logged(rtol=0.01, atol=0.01)
IN_OURS = srx.RecordingController(Reading(PREDICTIVE), 10)
PLAIN, DISCRETE = diffrax.RecursiveCheckpointAdjoint(), srx.DiscreteAdjoint()
RADAU, RODAS = srx.RadauIIA5(), srx.Rodas5P()


@pytest.mark.slow_cases("own-*", "in ours")
@pytest.mark.parametrize(
    ("controller", "solver", "adjoint"),
    [
        pytest.param(LOGGED, RADAU, PLAIN, id="own-1"),
        pytest.param(LOGGED, RODAS, PLAIN, id="own-2"),
        pytest.param(Reading(PREDICTIVE), RADAU, DISCRETE, id="around ours, counted"),
        pytest.param(Reading(PREDICTIVE), RODAS, PLAIN, id="around ours"),
        pytest.param(IN_OURS, RADAU, PLAIN, id="in ours"),
    ],
)
def test_a_controller_of_ones_own_gets_errors_in_the_structure_of_the_state(
    controller, solver, adjoint
):
    found = jax.jit(
        lambda: diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: {"a": -y["a"]}),
            solver,
            0.0,
            1.0,
            None,
            {"a": jnp.ones(2)},
            stepsize_controller=controller,
            adjoint=adjoint,
        ).ys["a"]
    )()
    np.testing.assert_allclose(found[-1], np.exp(-1.0), rtol=0.01)


@pytest.mark.slow
def test_under_a_gradient_fixed_steps_take_no_work_that_the_solve_does_not():
    options = srx.DiscreteAdjoint(), srx.SimplifiedNewton(), diffrax.ConstantStepSize(), 0.25
    _, stats = end(2.0, *options)
    _, under_gradient = jax.jacrev(lambda rate: end(rate, *options), has_aux=True)(2.0)
    assert under_gradient["num_f_evaluations"] == stats["num_f_evaluations"]


def test_within_a_loop_that_is_run_again_a_solve_still_says_whether_it_throws(monkeypatch):
    seen, step = [], srx.BackwardEuler.step

    def asking(*args, **kwargs):
        seen.append(enclosing_solve_throws())
        return step(*args, **kwargs)

    monkeypatch.setattr(srx.BackwardEuler, "step", asking)
    diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        srx.BackwardEuler(),
        0.0,
        1.0,
        0.5,
        jnp.ones(1),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
        max_steps=4,
    )
    assert seen
    assert not any(seen)


def test_another_solve_traces_its_steps_anew_where_what_the_field_reads_has_changed():
    rate = [1.0]
    term = diffrax.ODETerm(lambda t, y, args: -rate[0] * y)
    ends = []
    for rate[0], t1 in ((1.0, 1.0), (0.0, jnp.array(1.0))):
        solution = diffrax.diffeqsolve(
            term,
            srx.BackwardEuler(),
            0.0,
            t1,
            0.1,
            jnp.ones(1),
            stepsize_controller=PREDICTIVE,
        )
        ends.append(float(solution.ys[-1, 0]))
    np.testing.assert_allclose(ends, [np.exp(-1.0), 1.0], rtol=0.05)
