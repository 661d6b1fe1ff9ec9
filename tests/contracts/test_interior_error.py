"""The error of dense output between the ends of steps, with and without control."""

import diffrax
import jax.numpy as jnp
import pytest

import stiffrax as srx

TOLERANCE = 1e-6
TS = jnp.linspace(0.0, 10.0, 1001)


def phi(t):
    return jnp.sin(5 * t + jnp.pi / 4)


def largest_error(solver):
    """Of the equation of Prothero and Robinson, whose ends of steps tell nothing of its interior."""

    def field(t, y, args):
        return -1e6 * (y - phi(t)) + 5 * jnp.cos(5 * t + jnp.pi / 4)

    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        10.0,
        1e-3,
        phi(0.0),
        saveat=diffrax.SaveAt(ts=TS),
        stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
    )
    return float(jnp.max(jnp.abs(sol.ys - phi(TS))))


@pytest.mark.slow_cases("RadauIIA9")
@pytest.mark.parametrize("name", ["RadauIIA5", "RadauIIA9"])
def test_controlled_the_interior_of_long_stiff_steps_is_as_accurate_as_their_ends(name):
    assert largest_error(getattr(srx, name)(control_interior=True)) < 10 * TOLERANCE


# That the option is needed is also in test_events_and_jumps.py.
@pytest.mark.slow
def test_otherwise_it_may_be_wrong_by_orders_of_magnitude():
    # What the option is for; without it only the ends of steps are accurate.
    assert largest_error(srx.RadauIIA9()) > 1e3 * TOLERANCE


def test_the_option_shows():
    assert repr(srx.RadauIIA5(control_interior=True)) == "RadauIIA5(control_interior=True)"
