"""What a solve saves moves finitely, also where a field or a function has no value at the start."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import EULER

import stiffrax as srx


def test_a_lane_without_a_slope_at_its_start_leaves_the_gradient_by_the_shared_end_finite():
    def end(rate, dt0, t1):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y),
            EULER,
            0.0,
            t1,
            dt0,
            jnp.array(1.0),
            adjoint=srx.DiscreteAdjoint(chunk=2),
            max_steps=2,
            throw=False,
        ).ys[-1]

    # The second would need ten steps.
    lanes = jnp.array([1.0, jnp.nan]), jnp.array([0.5, 0.1])

    def total(t1):
        ends = jax.vmap(end, (0, 0, None))(*lanes, t1)
        return jnp.sum(jnp.nan_to_num(ends))

    # Two steps of 0.5, of which the second ends with the solve: y = 0.5 (1 - h).
    assert jax.jit(jax.grad(total))(1.0) == pytest.approx(-0.5, rel=1e-12)


def logarithms(args, max_steps, every):
    """The end of a growth from zero, and logarithms of the ends of some steps."""
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: args + 0 * y),
        EULER,
        0.0,
        1.0,
        0.5,
        jnp.array(0.0),
        args,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(t1=True),
                diffrax.SubSaveAt(steps=every, fn=lambda t, y, args: args * jnp.log(y)),
            ]
        ),
        adjoint=srx.DiscreteAdjoint(chunk=2),
        max_steps=max_steps,
        throw=False,
    )
    return sol.ys[0][-1], jnp.where(jnp.isfinite(sol.ys[1]), sol.ys[1], 0)


def test_a_function_of_which_nothing_is_saved_does_not_enter_the_gradient():
    def total(args):
        end, rows = logarithms(args, 4, 4)
        return end + jnp.sum(rows)

    assert jax.jit(jax.grad(total))(2.0) == pytest.approx(1.0, rel=1e-12)


def test_a_failed_solve_has_the_tangent_zero_past_a_function_without_a_derivative_at_the_start():
    run = lambda args: logarithms(args, 1, 1)[1]
    _, tangent = jax.jit(lambda x: jax.jvp(run, (x,), (x,)))(2.0)
    np.testing.assert_array_equal(tangent, 0)
