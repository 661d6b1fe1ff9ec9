"""Rosenbrock methods have no iteration that keeps constraints: their error control does."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

SOLVERS = [srx.Rodas3P(), srx.Rodas4P(), srx.Rodas5P()]
TOLERANCES = jnp.array([1e-2, 1e-3, 1e-5])


def cubic(t, y, a):
    """Decay of all but the last, which moves with the first one and the time."""
    x, z = y[:-1], y[-1]
    return jnp.append(-x, -(z + a * z**3 - 3 * jnp.sin(5 * t) - x[0]))


@eqx.filter_jit
def solve(solver, num_quiet, jump_ts, field=cubic):
    """Results; counts; how many tolerances `z` is off the constraint at the ends of steps, at the most;
    and at which of them."""
    a = 1.0 if num_quiet else 0.1
    n = num_quiet + 1
    term = srx.MassMatrixTerm(field, np.append(np.ones(n), 0.0))
    y0 = jnp.zeros(n + 1).at[0].set(1 + a).at[-1].set(1.0)

    @jax.vmap
    def at(rtol, jump_ts):
        controller = srx.PredictiveController(rtol, rtol)
        sol = diffrax.diffeqsolve(
            term, solver, 0.0, 2.0, None, y0, a, max_steps=512, throw=False,
            saveat=diffrax.SaveAt(steps=True), adjoint=srx.DiscreteAdjoint(),
            stepsize_controller=diffrax.ClipStepSizeController(controller, jump_ts=jump_ts),
        )  # fmt: skip
        z = sol.ys[:, -1]
        left = jnp.abs(jax.vmap(field, (0, 0, None))(sol.ts, sol.ys, a)[:, -1])
        off = left / (1 + 3 * a * z**2) / (rtol + rtol * jnp.abs(z))
        off = jnp.where(jnp.isfinite(sol.ts), off, 0)
        return sol.result, sol.stats, jnp.max(off), sol.ts[jnp.argmax(off)]

    return at(TOLERANCES, jump_ts)


NONE = jnp.full((3, 1), 3.0)


@pytest.mark.slow_cases("*-30", "Rodas4P*", "Rodas5P*")
@pytest.mark.parametrize("num_quiet", [0, 30])
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_steps_end_on_a_constraint_however_many_components_are_at_rest(solver, num_quiet):
    result, stats, off, _ = solve(solver, num_quiet, NONE)
    assert np.all(result == diffrax.RESULTS.successful)
    assert np.all(off < 4)
    assert np.all(stats["num_rejected_steps"] < 0.4 * stats["num_steps"])


@pytest.mark.slow_cases("Rodas4P*", "Rodas5P*")
@pytest.mark.parametrize(
    ("solver", "num_quiet"), list(zip(SOLVERS, (0, 30, 0), strict=True)), ids=repr
)
def test_the_error_of_a_method_is_not_taken_for_a_jump(solver, num_quiet):
    *_, off, worst = solve(solver, num_quiet, NONE)
    assert off[0] > 1
    result, *_ = solve(solver, num_quiet, worst[:, None])
    assert np.all(result == diffrax.RESULTS.successful)


def test_the_end_of_a_step_costs_an_evaluation_and_a_solve():
    _, stats, *_ = solve(srx.Rodas3P(), 0, NONE)
    np.testing.assert_array_equal(stats["num_f_evaluations"], 6 * stats["num_steps"])


def jumping(t, y, a):
    return cubic(t, y, a).at[-1].add(jnp.where(t < 1, 0.0, 0.5))


@pytest.mark.slow
def test_a_jump_of_a_constraint_is_told_from_the_error_of_a_method():
    result, *_ = solve(srx.Rodas3P(), 0, jnp.ones((3, 1)), jumping)
    assert np.all(result == diffrax.RESULTS.nonlinear_divergence)
