"""The ends of steps move with the ends of their solve, also where an event stops it before."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from every_solver import EULER

import stiffrax as srx
from stiffrax.diffrax_loop import StepRecord, moving_with, step_times


def stopped(t0, t1, event, direction=1.0):
    """Where a decay by backward Euler is below a half, and what is left of it."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -direction * y),
        srx.BackwardEuler(),
        t0,
        t1,
        direction * 0.5,
        jnp.array(1.0),
        event=event,
        adjoint=srx.DiscreteAdjoint(),
        max_steps=8,
    )
    return jnp.stack([solution.ts[-1], solution.ys[-1]])


def ends_of_two_steps(t0, t1, direction):
    """Of four steps; the first has the length that was asked for."""
    first, last = direction * 0.5, (t1 - t0) / 2
    left = 1 / (1 + direction * first)
    return t0 + first, left, t0 + last, left / (1 + direction * (last - first))


@pytest.mark.slow
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_the_constant_step_that_a_condition_stops_moves_with_both_ends(direction):
    def exactly(t0, t1):
        return jnp.stack(ends_of_two_steps(t0, t1, direction)[2:])

    event = diffrax.Event(lambda t, y, args, **_: y < 0.5)
    ends = 0.1, 0.1 + direction * 1.97
    found = jax.jit(jax.jacrev(lambda *x: stopped(*x, event, direction), (0, 1)))(*ends)
    np.testing.assert_allclose(found, jax.jacfwd(exactly, (0, 1))(*ends), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_a_root_in_a_constant_step_moves_with_both_ends():
    def exactly(t0, t1):
        start, before, end, after = ends_of_two_steps(t0, t1, 1.0)
        # Between the ends of a step the method's solution is a line.
        return start + (end - start) * (before - 0.5) / (before - after)

    event = diffrax.Event(lambda t, y, args, **_: y - 0.5, optx.Newton(1e-13, 1e-13))
    found = jax.jacrev(lambda *x: stopped(*x, event)[0], (0, 1))(0.1, 2.07)
    np.testing.assert_allclose(found, jax.grad(exactly, (0, 1))(0.1, 2.07), rtol=1e-9, atol=1e-9)


ENDS = {"a Boolean": lambda t, y, args, **_: y < 0.6, "a sign": lambda t, y, args, **_: y - 0.6}


@pytest.mark.slow_cases("a sign")
@pytest.mark.parametrize("condition", ENDS.values(), ids=ENDS)
def test_the_end_of_the_step_that_was_cut_to_the_end_of_the_solve_is_that_of_the_solve(condition):
    def end(t0, t1):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y), EULER, t0, t1, 2.0, jnp.array(1.0),
            event=diffrax.Event(condition), adjoint=srx.DiscreteAdjoint(chunk=2), max_steps=4,
        )  # fmt: skip
        return jnp.stack([solution.ts[-1], solution.ys[-1]])

    found = jax.jit(jax.jacrev(end, (0, 1)))(0.0, 1.0)
    np.testing.assert_allclose(found, [[0.0, 1.0], [1.0, -1.0]], atol=1e-12)


def test_a_stop_at_a_time_that_steps_are_cut_at_stays_there():
    starts, ends = jnp.array([0.1, 0.6, 0.0]), jnp.array([0.6, 0.7, 0.0])
    record = StepRecord(starts, ends, jnp.ones((3, 1)), jnp.ones(1), None, jnp.array(2))
    control = diffrax.ClipStepSizeController(diffrax.PIDController(0.1, 0.1), step_ts=[0.7])
    times = step_times(record, control, 0.1, 2.0)
    _, moved = times.tangents(jnp.ones(()), jnp.zeros(()), None)
    np.testing.assert_array_equal(moved[:2], [1.0, 0.0])


@pytest.mark.parametrize(
    ("told", "moved"), [([0.6, np.inf], [1.0, 0.0, 0.0]), ([np.inf], [1.0] * 3)]
)
def test_a_jump_at_infinity_is_none(told, moved):
    starts = jnp.array([0.1, 0.6, 0.7])
    record = StepRecord(starts, starts + 0.1, jnp.ones((3, 1)), jnp.ones(1), None, jnp.array(3))
    control = diffrax.ClipStepSizeController(diffrax.PIDController(0.1, 0.1), jump_ts=told)
    times = step_times(record, control, 0.1, 2.0)
    found, _ = times.tangents(jnp.ones(()), jnp.zeros(()), None)
    np.testing.assert_array_equal(found, moved)


class FirstStep(eqx.Module):
    tprev: jax.Array
    tnext: jax.Array


@pytest.mark.parametrize(("first", "slope"), [(0.5, 0.0), (0.4, 1.0)])
def test_a_first_step_to_a_jump_does_not_move_with_the_start(first, slope):
    control = diffrax.ClipStepSizeController(
        diffrax.PIDController(0.1, 0.1), jump_ts=jnp.array([0.5])
    )
    start = FirstStep(jnp.zeros(()), jnp.nextafter(jnp.asarray(first), 0.0))
    assert jax.grad(lambda t0: moving_with(start, control, t0, 1.0).tnext)(0.0) == slope
