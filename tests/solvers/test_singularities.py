"""No solve walks through a singularity behind which there is no solution."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful

# Field, start, and the time at which its solution ends.
ENDING = (
    (lambda y: 0.28 * y**3 * (1 + 0.2 * y**2) / (1 - y**2), 0.3, 13.248),
    (lambda y: 1 / (1 - y), 0.0, 0.5),
    (lambda y: -1 / y, 1.0, 0.5),
    (lambda y: 1 / (1 - y) ** 3, 0.0, 0.25),
    (jnp.exp, 0.0, 1.0),
)


@eqx.filter_jit
def solve(field, solver, t1, rtol, y0, args=None, controller=diffrax.PIDController):
    term = field if isinstance(field, diffrax.AbstractTerm) else diffrax.ODETerm(field)
    sol = diffrax.diffeqsolve(
        term,
        solver,
        0.0,
        t1,
        None,
        y0,
        args=args,
        stepsize_controller=controller(rtol=rtol, atol=rtol),
        max_steps=1024,
        throw=False,
    )
    return jax.tree.map(lambda y: y[-1], sol.ys), sol.result, sol.stats["num_steps"]


def ending(t, y, index):
    del t
    return lax.switch(index, [field for field, _, _ in ENDING], y)


@pytest.mark.slow_cases(
    "RadauIIA5()-PredictiveController",
    "RadauIIA9()-PIDController",
    "RadauIIA9()-PredictiveController",
    "Rodas5P()-PIDController",
)
@pytest.mark.parametrize("controller", [diffrax.PIDController, srx.PredictiveController])
@pytest.mark.parametrize(
    "solver",
    [
        srx.RadauIIA5(),
        srx.RadauIIA9(),
        pytest.param(srx.RadauIIA13(), marks=pytest.mark.slow),
        pytest.param(srx.RadauIIA(), marks=pytest.mark.slow),
        pytest.param(srx.Rosenbrock23(), marks=pytest.mark.slow),
        pytest.param(srx.Rodas3P(), marks=pytest.mark.slow),
        pytest.param(srx.Rodas4P(), marks=pytest.mark.slow),
        srx.Rodas5P(),
    ],
    ids=repr,
)
def test_a_solve_past_the_end_of_its_solution_fails_and_one_before_succeeds(solver, controller):
    for index, (_, y0, end) in enumerate(ENDING):
        for rtol in (1e-2, 1e-4):
            for factor in (0.9, 1.01, 2.0):
                t1 = jnp.asarray(factor * end)
                given = (t1, jnp.asarray(rtol), jnp.asarray(y0), jnp.asarray(index), controller)
                _, result, _ = solve(ending, solver, *given)
                assert (result == SUCCESS) == (factor < 1), (index, rtol, factor)


def two(t, y, args):
    """One component ends at t = 0.5; the others decay, and wait."""
    del args
    return jnp.stack([1 / (1 - y[0]), -100 * (y[1] - jnp.cos(t)), -y[2]])


TWO = jnp.array([0.0, 1.0, 1.0])
STRUCTURES = [None, srx.Banded(0, 0), srx.BlockDiagonal(3), srx.MatrixFree()]


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES, ids=repr)
def test_whatever_the_structure_of_the_jacobian(structure):
    solver = srx.RadauIIA9(structure=structure)
    _, result, _ = solve(two, solver, jnp.asarray(0.6), jnp.asarray(1e-3), TWO)
    assert result != SUCCESS
    _, result, _ = solve(two, solver, jnp.asarray(0.49), jnp.asarray(1e-3), TWO)
    assert result == SUCCESS


@pytest.mark.slow
def test_in_a_pytree_with_a_mass_matrix_and_a_constraint():
    def field(t, y, args):
        return {"x": 2 / (1 - y["x"]), "z": y["z"] - 3 * y["x"]}

    term = srx.MassMatrixTerm(field, {"x": jnp.array(2.0), "z": jnp.array(0.0)})
    start = {"x": jnp.array(0.0), "z": jnp.array(0.0)}
    for t1, good in ((0.49, True), (0.55, False), (2.0, False)):
        _, result, _ = solve(term, srx.RadauIIA9(), jnp.asarray(t1), jnp.asarray(1e-3), start)
        assert (result == SUCCESS) == good


@pytest.mark.slow
def test_backward_in_time_and_in_a_batch():
    def one(t1):
        field = lambda t, y, args: -1 / (1 - y)
        return solve(field, srx.RadauIIA9(), t1, jnp.asarray(1e-3), jnp.asarray(0.0))[1]

    results = jax.vmap(one)(jnp.array([-0.49, -0.55, -2.0]))
    np.testing.assert_array_equal(results == SUCCESS, [True, False, False])


@pytest.mark.slow
def test_a_mode_that_grows_for_long_is_solved_and_resolved():
    # By 10^86: every step has h J > 0 and none may be refused for good.
    growth = lambda t, y, args: jnp.stack([1000 * y[0], -1e5 * (y[1] - jnp.sin(t))])
    given = (jnp.asarray(0.2), jnp.asarray(1e-6), jnp.array([1.0, 0.0]))
    y, result, steps = solve(growth, srx.RadauIIA9(), *given)
    assert result == SUCCESS
    np.testing.assert_allclose(y[0], np.exp(200.0), rtol=200e-6)
    assert steps < 200  # h J of 1.1 a step


def logistic_or_forced(t, y, forced):
    """Y' = 1000 y (1 - y), or a forced motion: one program for both."""
    return 1000 * jnp.where(forced, jnp.cos(t) - y, y * (1 - y))


@pytest.mark.slow_cases("RadauIIA9()")
@pytest.mark.parametrize("solver", [srx.RadauIIA9(), srx.Rodas5P()], ids=repr)
def test_a_quiet_start_off_an_unstable_state_is_not_stepped_over(solver):
    # From 1e-30: below atol until t = 0.06, and one soon after.
    given = (jnp.asarray(1.0), jnp.asarray(1e-4), jnp.asarray(1e-30), jnp.asarray(False))
    y, result, _ = solve(logistic_or_forced, solver, *given)
    assert result == SUCCESS
    np.testing.assert_allclose(y, 1.0, rtol=1e-3)


def test_a_forced_motion_that_turns_is_no_singularity():
    # At t = 0 nothing moves: all of the way of a step is what the forcing bends.
    given = (jnp.asarray(1.0), jnp.asarray(1e-2), jnp.asarray(1.0), jnp.asarray(True))
    y, result, steps = solve(logistic_or_forced, srx.Rodas5P(), *given)
    assert result == SUCCESS
    np.testing.assert_allclose(y, np.cos(1.0), rtol=1e-2)
    assert steps < 10
