"""Solves in float32: the tolerance is met, or refused with what to do."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax._arguments import check_tolerances

FLOORS = {"hires": 1e-4, "robertson": np.array([1e-6, 1e-9, 1e-6]), "oregonator": 1.0}


def solve(problem, solver, rtol, floor):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        solver,
        jnp.float32(problem.t0),
        jnp.float32(problem.t1),
        jnp.float32(1e-6),
        jnp.asarray(problem.y0, jnp.float32),
        jnp.asarray(problem.args, jnp.float32) if problem.args is not None else None,
        stepsize_controller=diffrax.PIDController(
            rtol=rtol, atol=jnp.asarray(rtol * floor, jnp.float32)
        ),
        throw=False,
    )


@pytest.mark.slow_cases("hires", "oregonator")
@pytest.mark.parametrize("name", FLOORS)
def test_a_tolerance_that_float32_holds_is_met(name):
    problem, floor = getattr(srx.problems, name)(), FLOORS[name]
    sol = solve(problem, srx.RadauIIA5(), 1e-4, floor)
    assert sol.result == diffrax.RESULTS.successful
    assert sol.ys.dtype == jnp.float32
    error = np.abs(np.asarray(sol.ys[-1]) - problem.reference) / (np.abs(problem.reference) + floor)
    assert np.max(error) < 1e-2


@pytest.mark.slow
def test_a_tolerance_below_rounding_is_refused_with_the_limit_and_a_way_out():
    with pytest.raises(ValueError, match=r"rtol=1e-06.*float32.*1\.9e-06.*jax_enable_x64"):
        solve(srx.problems.hires(), srx.RadauIIA5(), 1e-6, 1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_tolerance_that_the_message_names_is_taken(dtype):
    state = jnp.ones(1, dtype)
    with pytest.raises(ValueError, match="Write `rtol=") as refused:
        check_tolerances("Solver", 1e-17, 1e-17, state=state)
    written = str(refused.value).partition("Write `rtol=")[2].partition("`")[0]
    check_tolerances("Solver", float(written), 1e-17, state=state)


def test_float64_has_a_limit_as_well():
    term = diffrax.ODETerm(lambda t, y, args: -y)
    controller = diffrax.PIDController(rtol=1e-15, atol=1e-15)
    with pytest.raises(ValueError, match=r"float64.*3\.6e-15"):
        diffrax.diffeqsolve(
            term,
            srx.RadauIIA5(),
            0.0,
            1.0,
            0.1,
            jnp.array(1.0),
            stepsize_controller=controller,
        )
