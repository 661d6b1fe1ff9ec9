import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.solvers._terms import step_times

TERM = diffrax.ODETerm(lambda t, y, args: -y)


@pytest.mark.parametrize("end", [0.0, 1.0, 1e-3, 1e5])
def test_the_last_stage_of_a_step_to_a_jump_lies_before_it(end):
    ends = np.nextafter(end, -np.inf) if end else -np.finfo(float).tiny
    for start in ends - np.random.default_rng(0).uniform(0, 2, 50) * max(end, 1.0):
        t0, dt, _ = step_times(TERM, start, ends)
        assert t0 + dt <= ends
        np.testing.assert_allclose(dt, ends - start, rtol=1e-15)


def test_a_step_moves_with_both_of_its_ends():
    lengths = jax.grad(lambda t0, t1: step_times(TERM, t0, t1)[1], (0, 1))
    assert lengths(-1.0, -np.finfo(float).tiny) == (-1.0, 1.0)


def across(t0, solver, adjoint):
    """1 before the jump at zero, 3 after it."""
    control = diffrax.ClipStepSizeController(
        diffrax.PIDController(1e-6, 1e-8), jump_ts=jnp.array([0.0])
    )
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.where(t < 0, 1.0, 3.0)),
        solver,
        t0,
        1.0,
        0.1,
        jnp.array(0.0),
        stepsize_controller=control,
        adjoint=adjoint,
        max_steps=8,
    ).ys[-1]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.RadauIIA9(), srx.Rodas5P()], ids=repr)
def test_a_jump_at_zero_is_met_exactly_and_its_time_stays(solver):
    value, slope = jax.value_and_grad(across)(-1.0, solver, srx.DiscreteAdjoint())
    np.testing.assert_allclose([value, slope], [4.0, -1.0], rtol=1e-12)
