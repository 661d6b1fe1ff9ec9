import functools

import diffrax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

STIFF = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)) * (1 + y**2))
PREDICTIVE = srx.PredictiveController(rtol=1e-4, atol=1e-6)


@functools.cache
def solved(controller=PREDICTIVE, solver=srx.RadauIIA5(), backward=False):
    """A transient, which steps of the first size cannot follow."""
    start, end = (0.0, -1.0) if backward else (0.0, 1.0)
    sign = -1.0 if backward else 1.0
    term = diffrax.ODETerm(lambda t, y, args: sign * STIFF.vf(t, y, args))
    recording = srx.RecordingController(controller, num_rows=256)
    return diffrax.diffeqsolve(
        term,
        solver,
        start,
        end,
        sign * 0.5,
        jnp.array([10.0]),
        stepsize_controller=recording,
        saveat=diffrax.SaveAt(steps=True, controller_state=True),
        adjoint=srx.DiscreteAdjoint()
        if isinstance(solver, srx.RadauIIA5)
        else diffrax.DirectAdjoint(),
        max_steps=256,
    )


@pytest.mark.slow
def test_every_attempt_is_recorded():
    solution, history = solved(), solved().controller_state
    assert history.count == solution.stats["num_steps"]
    assert history.accepted.sum() == solution.stats["num_accepted_steps"]
    assert history.newton_iterations.sum() == solution.stats["num_newton_iterations"]
    rejected = (~history.accepted)[: history.count]
    assert (rejected & history.converged[: history.count]).sum() == solution.stats[
        "num_rejected_by_error"
    ]
    assert rejected.sum() > 0


@pytest.mark.slow
def test_accepted_steps_are_those_of_the_solution():
    solution, history = solved(), solved().controller_state
    ends = (history.t + history.h)[history.accepted]
    np.testing.assert_array_equal(ends, solution.ts[: len(ends)])


def test_recording_changes_no_decision():
    recording, y0 = srx.RecordingController(PREDICTIVE, 8), jnp.array([10.0])
    start = (STIFF, 0.0, 1.0, y0, 0.5, None, STIFF.vf, 3.0)
    (end, memory), (recorded_end, history) = PREDICTIVE.init(*start), recording.init(*start)
    assert end == recorded_end
    t0 = 0.0
    for error in (1.0, 1e-2, 1e-4, 1e-5, 3e-4, 0.0):
        attempt = (t0, end, y0, y0 / 2, None, jnp.array([error]), 3.0)
        *decision, memory, _ = PREDICTIVE.adapt_step_size(*attempt, memory)
        *recorded, history, _ = recording.adapt_step_size(*attempt, history)
        assert decision == recorded
        _, t0, end, _ = decision
    assert history.accepted.tolist()[:6] == [False, False, True, True, True, True]


def test_rows_never_filled_hold_no_nan():
    recording = srx.RecordingController(PREDICTIVE, num_rows=4)
    term, y0 = diffrax.ODETerm(lambda t, y, args: -y), jnp.array([1.0])
    _, history = recording.init(term, 0.0, 1.0, y0, 0.1, None, lambda *_: -y0, 3)
    assert not any(jnp.any(jnp.isnan(x)) for x in (history.t, history.h))


@pytest.mark.slow
def test_recording_changes_no_step():
    plain = diffrax.diffeqsolve(
        STIFF,
        srx.RadauIIA5(),
        0.0,
        1.0,
        0.5,
        jnp.array([10.0]),
        stepsize_controller=PREDICTIVE,
        saveat=diffrax.SaveAt(steps=True),
        max_steps=256,
    )
    for name in ("num_steps", "num_accepted_steps"):
        assert plain.stats[name] == solved().stats[name]
    # Two programs, which the compiler need not round alike: decisions are compared above.
    np.testing.assert_allclose(plain.ts, solved().ts, rtol=1e-6)


def test_attempts_beyond_the_rows_are_only_counted():
    recording, y0 = srx.RecordingController(PREDICTIVE, 3), jnp.array([10.0])
    end, history = recording.init(STIFF, 0.0, 1.0, y0, 0.5, None, STIFF.vf, 3.0)
    starts, t0 = [], 0.0
    for error in (1.0, 1e-2, 1e-4, 1e-5, 3e-4):
        starts.append(t0)
        attempt = (t0, end, y0, y0 / 2, None, jnp.array([error]), 3.0)
        _, t0, end, _, history, _ = recording.adapt_step_size(*attempt, history)
    assert history.count == 5
    np.testing.assert_array_equal(history.t, starts[:3])


@pytest.mark.slow
def test_backward_in_time_the_steps_are_negative():
    forward, backward = solved().controller_state, solved(backward=True).controller_state
    # Rows that nothing fills are infinite in both.
    assert (count := int(forward.count)) == backward.count
    np.testing.assert_allclose(backward.h[:count], -forward.h[:count], rtol=1e-6)
    np.testing.assert_allclose(backward.t[:count], -forward.t[:count], rtol=1e-6)


@pytest.mark.slow
def test_controllers_of_diffrax_are_recorded_as_well():
    pid = diffrax.ClipStepSizeController(diffrax.PIDController(1e-4, 1e-6), jump_ts=[0.5])
    solution = solved.__wrapped__(pid)
    history = solution.controller_state
    assert history.accepted.sum() == solution.stats["num_accepted_steps"]
    assert history.newton_iterations.sum() == solution.stats["num_newton_iterations"]


def test_solvers_of_diffrax_report_no_iterations():
    solution = solved(solver=diffrax.Kvaerno3())
    history = solution.controller_state
    assert history.accepted.sum() == solution.stats["num_accepted_steps"]
    assert history.newton_iterations.sum() == 0


def test_a_controller_of_fixed_steps_is_refused():
    with pytest.raises(ValueError, match="an adaptive controller is needed"):
        srx.RecordingController(diffrax.ConstantStepSize())


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="`num_rows=0` was given"):
        srx.RecordingController(PREDICTIVE, num_rows=0)


@pytest.mark.parametrize("kind", [srx.SimplifiedNewton, optx.Newton])
def test_iterations_are_recorded_of_a_root_finder_with_tolerances_of_its_own(kind):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -(y**3)),
        srx.BackwardEuler(root_finder=kind(1e-8, 1e-8)),
        0.0,
        1.0,
        0.1,
        jnp.array(1.0),
        stepsize_controller=srx.RecordingController(srx.PredictiveController(1e-2, 1e-2), 64),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
    )
    history = solution.controller_state
    assert np.all(history.newton_iterations[: history.count] > 1)
