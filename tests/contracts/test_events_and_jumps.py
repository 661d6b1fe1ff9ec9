"""Events found on the collocation polynomial, and times at which the vector field jumps."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

RTOL = 1e-8
ATOL = 1e-10
CONTROLLER = diffrax.PIDController(rtol=RTOL, atol=ATOL)
# The tolerance of the state where it is one half, as a relative error of the time.
OF_THE_TIME = (ATOL + RTOL / 2) / (np.log(2) / 2)


def time_to_half(rate, solver):
    """Stiff decay onto `exp(-rate t)`, until its second component is one half: `log(2) / rate`."""

    def field(t, y, args):
        fast, slow = y
        return jnp.stack([-1e4 * (fast - slow), -rate * slow])

    event = diffrax.Event(lambda t, y, args, **_: y[1] - 0.5, optx.Newton(1e-12, 1e-12))
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        100.0,
        1e-4,
        jnp.array([0.0, 1.0]),
        stepsize_controller=CONTROLLER,
        event=event,
    )
    return sol.ts[-1]


def worst_event_error(solver):
    """Relative, over eight rates: one alone may have its event close to the end of a step."""
    found = jax.jit(lambda rate: time_to_half(rate, solver))
    rates = np.geomspace(0.1, 3.0, 8)
    return max(abs(float(found(rate)) * rate / np.log(2) - 1) for rate in rates)


@pytest.mark.slow_cases("5")
@pytest.mark.parametrize(
    ("method", "bound"), [(srx.RadauIIA5, OF_THE_TIME), (srx.RadauIIA9, RTOL)], ids=["5", "9"]
)
def test_event_times_are_found_to_the_tolerance_where_interiors_are_controlled(method, bound):
    assert worst_event_error(method(control_interior=True)) < bound


def test_otherwise_to_that_of_the_polynomial_between_the_ends_of_steps():
    assert 5 * RTOL < worst_event_error(srx.RadauIIA5()) < 20 * RTOL


@pytest.mark.slow
def test_the_time_of_an_event_is_differentiable():
    slope = jax.jit(jax.grad(lambda rate: time_to_half(rate, srx.RadauIIA5())))(0.3)
    np.testing.assert_allclose(slope, -np.log(2) / 0.3**2, rtol=1e-5)


def switched(controller):
    """A stiff relaxation whose target jumps from 0 to 1 at t = 1."""

    def field(t, y, args):
        return -1e3 * (y - jnp.where(t < 1, jnp.cos(t), 3 + jnp.cos(t)))

    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        2.0,
        1e-4,
        jnp.array(1.0),
        stepsize_controller=controller,
    )


@pytest.mark.slow
def test_a_jump_whose_time_is_given_costs_hardly_a_rejected_step():
    told = switched(diffrax.ClipStepSizeController(CONTROLLER, jump_ts=jnp.array([1.0])))
    untold = switched(CONTROLLER)
    # What is left are the two transients, at the start and after the jump.
    assert int(told.stats["num_rejected_steps"]) < 10
    assert int(untold.stats["num_rejected_steps"]) > 50
    # Past the transient: `y = 3 + cos(t) + sin(t) / lambda` to the second order in `1 / lambda`.
    z = 1e3
    exact = 3 + (z**2 * np.cos(2.0) + z * np.sin(2.0)) / (z**2 + 1)
    np.testing.assert_allclose(told.ys[-1], exact, rtol=1e-7)
