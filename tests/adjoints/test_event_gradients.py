"""Times and states at events, differentiated by the implicit function theorem, in both modes."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from every_solver import EULER

import stiffrax as srx

ROOT = optx.Newton(1e-13, 1e-13)
CONTROL = diffrax.PIDController(rtol=1e-11, atol=1e-12)


def solve(field, y0, event, t0, args, saveat=None, adjoint=None):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA9(control_interior=True),
        t0,
        100.0,
        None,
        y0,
        args,
        stepsize_controller=CONTROL,
        saveat=diffrax.SaveAt(t1=True) if saveat is None else saveat,
        adjoint=srx.DiscreteAdjoint() if adjoint is None else adjoint,
        event=diffrax.Event(event, ROOT),
        max_steps=256,
    )


def decay_until(rate, threshold, start, stiffness=1e4):
    """A stiff component on a decay; the time at which it is `threshold`, closed over."""
    field = lambda t, y, args: jnp.stack([-stiffness * (y[0] - y[1]), -args * y[1]])
    event = lambda t, y, args, **_: y[1] - threshold
    saveat = diffrax.SaveAt(ts=jnp.array([0.1, 50.0]), t1=True)
    sol = solve(field, jnp.stack([start, start]), event, 0.0, rate, saveat)
    return jnp.stack([sol.ts[1], sol.ys[1, 1], sol.ys[0, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("take", [jax.jacfwd, jax.jacrev])
def test_a_stiff_decay_stops_at_its_threshold_and_the_time_has_its_closed_form(take):
    rate, threshold, start = jnp.array(0.7), jnp.array(0.5), jnp.array(1.2)
    found = jnp.stack(jax.jit(take(decay_until, (0, 1, 2)))(rate, threshold, start), axis=1)
    # t* = log(start / threshold) / rate; the state there is the threshold.
    time = jnp.log(start / threshold) / rate
    by_time = [-time / rate, -1 / (rate * threshold), 1 / (rate * start)]
    before = jnp.exp(-0.1 * rate)
    expected = [by_time, [0.0, 1.0, 0.0], [-0.1 * start * before, 0.0, before]]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def bounce(height, gravity, restitution):
    """When and how fast a ball falls for the second time."""
    field = lambda t, y, args: jnp.stack([y[1], -args])
    event = lambda t, y, args, **_: y[0]
    first = solve(field, jnp.stack([height, 0.0 * height]), event, 0.0, gravity)
    up = jnp.stack([0.0 * height + 1e-12, -restitution * first.ys[-1, 1]])
    second = solve(field, up, event, first.ts[-1], gravity)
    return jnp.stack([first.ts[-1], second.ts[-1], second.ys[-1, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("take", [jax.jacfwd, jax.jacrev])
def test_a_bouncing_ball_lands_twice_when_it_should(take):
    height, gravity, restitution = (jnp.array(x) for x in (2.0, 9.81, 0.8))
    found = jnp.stack(jax.jit(take(bounce, (0, 1, 2)))(height, gravity, restitution), axis=1)

    def exactly(height, gravity, restitution):
        fall, speed = jnp.sqrt(2 * height / gravity), jnp.sqrt(2 * gravity * height)
        return jnp.stack([fall, (1 + 2 * restitution) * fall, -restitution * speed])

    expected = jnp.stack(jax.jacfwd(exactly, (0, 1, 2))(height, gravity, restitution), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_a_boolean_condition_stops_at_the_end_of_a_step_and_no_time_moves():
    def end(rate):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y),
            EULER,
            0.0,
            2.0,
            0.5,
            1.0,
            adjoint=srx.DiscreteAdjoint(chunk=2),
            event=diffrax.Event(lambda t, y, args, **_: y < 0.4),
            max_steps=4,
        ).ys[-1]

    # Two steps of 0.5 with the factors 1 - rate h.
    assert jax.jit(jax.grad(end))(0.8) == pytest.approx(-0.6, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("start", [1.0, 0.3])
def test_a_stop_without_a_root_does_not_move_with_the_end_of_the_solve(start):
    def stopped(t0, t1, ts):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            srx.RadauIIA5(),
            t0,
            t1,
            None,
            jnp.array(start),
            saveat=diffrax.SaveAt(ts=ts, t1=True),
            stepsize_controller=diffrax.PIDController(1e-4, 1e-6),
            adjoint=srx.DiscreteAdjoint(),
            event=diffrax.Event(lambda t, y, args, **_: y < 0.4),
            max_steps=16,
        )
        return sol.ys, sol.ts

    ts = jnp.array([0.0, 40.0])
    (by_t0, _), (by_t1, time_by_t1), (by_ts, _) = zip(
        *(jax.jacrev(lambda *x, i=i: stopped(*x)[i], (0, 1, 2))(0.0, 50.0, ts) for i in (0, 1)),
        strict=True,
    )
    # Autonomous, with steps of the same lengths: only what is saved at a fixed time moves, which
    # nothing is where the condition holds at the start.
    moves = start if start > 0.4 else 0.0
    np.testing.assert_allclose(by_t0, [moves, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose([by_t1, time_by_t1], np.zeros((2, 3)), atol=0)
    np.testing.assert_allclose(by_ts, [[-moves, 0], [0, 0], [0, 0]], atol=1e-12)


@pytest.mark.slow
def test_a_time_saved_in_the_last_step_is_not_taken_for_a_root_that_is_not_saved():
    def saved(rate):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y),
            srx.RadauIIA5(),
            0.0,
            2.0,
            0.1,
            jnp.array(1.0),
            # Of seven steps the sixth is the last that is saved; the root lies in the seventh.
            saveat=diffrax.SaveAt(ts=jnp.array([0.65, 1.9]), steps=2),
            adjoint=srx.DiscreteAdjoint(),
            event=diffrax.Event(lambda t, y, args, **_: y - 0.5, ROOT),
            max_steps=32,
        )
        return sol.ts, sol.ys

    (ts, _), (ts_dot, ys_dot) = jax.jvp(saved, (jnp.array(1.0),), (jnp.array(1.0),))
    slot = int(jnp.argmin(jnp.abs(ts - 0.65)))
    assert ts_dot[slot] == 0
    np.testing.assert_allclose(ys_dot[slot], -0.65 * np.exp(-0.65), rtol=1e-5)


@pytest.mark.slow
def test_another_condition_may_have_no_derivative_at_the_event():
    def time(rate):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: jnp.stack([-rate * y[0], 0 * y[1]])),
            srx.BackwardEuler(),
            0.0,
            2.0,
            0.1,
            jnp.array([1.0, 0.0]),
            adjoint=srx.DiscreteAdjoint(),
            event=diffrax.Event(
                [lambda t, y, args, **_: y[0] - 0.5, lambda t, y, args, **_: jnp.sqrt(y[1]) - 1],
                ROOT,
            ),
            max_steps=32,
        )
        return sol.ts[-1]

    def exactly(rate):
        # Between its seventh and its eighth step the method's solution is a line.
        before, after = (1 + 0.1 * rate) ** -7, (1 + 0.1 * rate) ** -8
        return 0.7 + 0.1 * (before - 0.5) / (before - after)

    rate = jnp.array(1.0)
    for take in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(take(time)(rate), jax.grad(exactly)(rate), rtol=1e-9)


def test_a_condition_without_a_derivative_at_the_start_does_not_enter_what_is_saved_before():
    def before(start):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: 1 - y),
            EULER,
            0.0,
            1.0,
            0.5,
            start,
            saveat=diffrax.SaveAt(ts=jnp.array([0.5])),
            adjoint=srx.DiscreteAdjoint(chunk=2),
            event=diffrax.Event(lambda t, y, args, **_: jnp.log(y) + 0.5, optx.Newton(1e-9, 1e-9)),
            max_steps=4,
        ).ys[0]

    # The root, 0.607, is in the second step.
    assert jax.jit(jax.grad(before))(0.0) == pytest.approx(0.5, rel=1e-12)
