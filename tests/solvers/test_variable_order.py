"""Radau IIA of variable order."""

import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

HIRES = srx.problems.hires()


def solve(solver, rtol, y0=HIRES.y0, atol=None, **options) -> Any:
    controller = diffrax.PIDController(rtol=rtol, atol=1e-4 * rtol if atol is None else atol)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(HIRES.vector_field),
        solver,
        HIRES.t0,
        HIRES.t1,
        1e-4,
        y0,
        args=HIRES.args,
        **({"stepsize_controller": controller, "throw": False} | options),
    )


# The tolerance is an array: one program for all of them.
SOLVE = eqx.filter_jit(lambda solver, rtol: solve(solver, rtol))


@functools.cache
def hires(rtol):
    sol = SOLVE(srx.RadauIIA(order="auto"), jnp.array(rtol))
    assert sol.result == diffrax.RESULTS.successful
    return sol


def relative_error(sol):
    true = HIRES.reference_values[-1]
    return np.max(np.abs(sol.ys[-1] / true - 1))


@pytest.mark.slow_cases("0.0001")
@pytest.mark.parametrize("rtol", [1e-4, 1e-8, 1e-11])
def test_the_tolerance_is_met(rtol):
    assert relative_error(hires(rtol)) < 100 * rtol


@pytest.mark.slow
def test_tight_tolerances_take_the_steps_of_a_high_order():
    fixed = SOLVE(srx.RadauIIA5(), jnp.array(1e-11))
    assert int(hires(1e-11).stats["num_steps"]) < int(fixed.stats["num_steps"]) / 2


def test_a_state_at_rest_without_atol_leaves_the_estimate_its_order():
    # As diffrax fills them in.
    finder, given = srx.SimplifiedNewton(), (1e-2, 0.0, optx.rms_norm)
    finder = eqx.tree_at(lambda x: (x._rtol, x._atol, x._norm), finder, given)
    y, estimate = jnp.array([1.0, 0.0]), jnp.array([0.04, 0.0])
    found = srx.RadauIIA(root_finder=finder)._rescaled(estimate, y, y, 0.5)
    np.testing.assert_allclose(found, estimate / np.sqrt(4 / np.sqrt(2)))


@pytest.mark.slow
def test_loose_tolerances_cost_few_steps_more_than_the_low_order():
    fixed = SOLVE(srx.RadauIIA5(), jnp.array(1e-4))
    assert int(hires(1e-4).stats["num_steps"]) < 1.25 * int(fixed.stats["num_steps"])


@pytest.mark.slow
def test_lanes_of_a_batch_take_the_steps_they_take_alone():
    y0 = jnp.asarray(HIRES.y0)[None] * jnp.array([1.0, 1.5])[:, None]
    solver, steps = srx.RadauIIA(order=(5, 9)), lambda sol: sol.stats["num_steps"]
    together = jax.jit(jax.vmap(lambda y: steps(solve(solver, 1e-8, y))))(y0)
    alone = jax.jit(lambda y: steps(solve(solver, 1e-8, y)))
    assert [int(n) for n in together] == [int(alone(y)) for y in y0]


@pytest.mark.slow
def test_its_gradient_is_the_slope_of_the_solution():
    def end(scale, solver, adjoint):
        y0 = scale * jnp.asarray(HIRES.y0)
        return solve(solver, 1e-8, y0, max_steps=512, throw=True, adjoint=adjoint).ys[-1, 0]

    checkpoints, several = diffrax.RecursiveCheckpointAdjoint(), srx.RadauIIA(order=(5, 9))
    ours, carried, fixed = (
        jax.jit(jax.grad(functools.partial(end, solver=solver, adjoint=adjoint)))(1.0)
        for solver, adjoint in (
            (several, checkpoints),
            (several, srx.ForwardSensitivity()),
            (srx.RadauIIA5(), checkpoints),
        )
    )
    np.testing.assert_allclose(carried, ours, rtol=1e-9)
    np.testing.assert_allclose(ours, fixed, rtol=1e-5)


@pytest.mark.parametrize("order", [5, "five", (5,), (5, 7), [5, 9]])
def test_orders_that_it_has_not_are_refused(order):
    with pytest.raises(ValueError, match=r"or two or more of the orders 5, 9 and 13"):
        srx.RadauIIA(order)


def test_a_root_finder_without_its_contraction_is_refused():
    with pytest.raises(ValueError, match="chooses its order by the contraction"):
        srx.RadauIIA(root_finder=optx.Newton(1e-8, 1e-8))


def test_fixed_steps_are_refused():
    with pytest.raises(ValueError, match="was given fixed steps"):
        solve(srx.RadauIIA(), 1e-6, stepsize_controller=diffrax.ConstantStepSize())


def test_continuous_adjoints_name_what_to_use_instead():
    with pytest.raises(ValueError, match=r"variable order.*RadauIIA5\(\).*DiscreteAdjoint\(\)"):
        solve(srx.RadauIIA(), 1e-6, adjoint=srx.GaussAdjoint(), max_steps=16)


@pytest.mark.slow
def test_it_is_shown_in_short():
    assert repr(srx.RadauIIA()) == "RadauIIA(order='auto')"
    assert repr(srx.RadauIIA((9, 5))) == "RadauIIA(order=(5, 9))"
