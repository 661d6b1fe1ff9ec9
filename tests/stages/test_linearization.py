import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx
from stiffrax.solvers import system_of_terms
from stiffrax.stages import (
    StageMethod,
    error_controlled_rule,
    error_tolerance,
    flat_field,
    no_linearization,
    solve_with_reuse,
)
from stiffrax.tableaus import radau_iia

TABLEAU = radau_iia(3)


@functools.cache
def program(linear_solver, batched):
    def step(rate, t0, h, y0, kept, made_jump):
        term = diffrax.ODETerm(lambda t, y, args: -rate * y * jnp.abs(y) ** 0.1)
        system, _ = system_of_terms(TABLEAU, term, t0, t0 + h, y0, None)
        tolerance = error_tolerance(TABLEAU, y0, 1e-6, 1e-9, optx.rms_norm)
        rule = error_controlled_rule(TABLEAU, tolerance, jnp.ones(()))
        method = StageMethod(
            srx.SimplifiedNewton(),
            rule,
            None,
            srx.SmallInverse(),
            max_steps=50,
            retry_exactly=False,
        )
        solution, _, kept, work = solve_with_reuse(
            system, jnp.zeros((3, 2)), method, kept, made_jump, srx.Dense(linear_solver)
        )
        return solution.Z, solution.converged, kept, work

    return eqx.filter_jit(eqx.filter_vmap(step) if batched else step)


def start(linear_solver=None):
    t, y = jnp.zeros(()), jnp.ones(2)
    field, _, _ = flat_field(lambda t, y: -y, t, y)
    return no_linearization(TABLEAU, field, t, y, srx.Dense(linear_solver))


def run(rate=5.0, t0=0.0, h=0.1, kept=None, made_jump=False, linear_solver=None):
    kept = start(linear_solver) if kept is None else kept
    arguments = (jnp.asarray(rate), jnp.asarray(t0), jnp.asarray(h), jnp.ones(2), kept)
    return program(linear_solver, False)(*arguments, jnp.asarray(made_jump))


def served(kept):
    return eqx.tree_at(lambda k: k.serves, kept, jnp.asarray(True))


def counted(work):
    return int(work.jacobians), int(work.factorizations)


def test_the_first_step_makes_its_own():
    _, converged, _, work = run()
    assert converged
    assert counted(work) == (1, 1)


def test_what_served_well_is_used_again():
    Z, _, kept, _ = run()
    again, _, _, work = run(kept=served(kept))
    assert counted(work) == (0, 0)
    np.testing.assert_array_equal(again, Z)


def test_the_factors_of_an_error_estimate_are_kept_with_the_others():
    t, y, tableau = jnp.zeros(()), jnp.ones(2), radau_iia(2)
    field, _, _ = flat_field(lambda t, y: -y, t, y)
    kept = no_linearization(tableau, field, t, y, srx.Dense())
    assert kept.factors.real.shape == kept.factors.pair.shape == (1, 2, 2)


def test_another_step_size_needs_new_factors_of_the_old_jacobian():
    _, _, kept, _ = run()
    _, _, kept, work = run(h=0.12, kept=served(kept))
    assert counted(work) == (0, 1)
    assert kept.h == pytest.approx(0.12)


def test_a_jump_of_the_vector_field_makes_a_new_jacobian():
    _, _, kept, _ = run()
    assert counted(run(kept=served(kept), made_jump=True)[3]) == (1, 1)


def test_an_iteration_that_fails_with_an_old_jacobian_is_repeated_with_a_new_one():
    _, _, kept, _ = run(rate=-3.0, h=1.0)
    Z, converged, _, work = run(rate=300.0, h=1.0, kept=served(kept))
    expected, alone, _, once = run(rate=300.0, h=1.0)
    assert converged == alone
    assert counted(work) == (1, 1)
    assert work.iterations > once.iterations
    np.testing.assert_array_equal(Z, expected)


def test_a_failure_with_a_new_jacobian_is_not_repeated():
    _, converged, kept, work = run(rate=jnp.nan)
    assert not converged
    assert not kept.serves
    assert counted(work) == (1, 1)


def test_any_lineax_solver_keeps_its_factors():
    import lineax as lx

    Z, _, kept, _ = run(linear_solver=lx.LU())
    again, _, _, work = run(kept=served(kept), linear_solver=lx.LU())
    assert counted(work) == (0, 0)
    np.testing.assert_array_equal(again, Z)


def test_a_lane_that_needs_new_ones_changes_no_bit_of_the_others():
    _, _, kept, _ = run()
    kept = jax.tree.map(lambda x: jnp.stack([x, x]), kept)
    serves = [jnp.array([True, True]), jnp.array([True, False])]
    results = []
    for mask in serves:
        lanes = eqx.tree_at(lambda k: k.serves, kept, mask)
        two = jnp.zeros(2)
        arguments = (two + 5.0, two, two + 0.1, jnp.ones((2, 2)), lanes, jnp.zeros(2, bool))
        results.append(program(None, True)(*arguments))
    (Z, _, _, work), (Z_mixed, _, _, work_mixed) = results
    np.testing.assert_array_equal(Z_mixed[0], Z[0])
    assert work.jacobians.tolist() == [0, 0]
    assert work_mixed.jacobians.tolist() == [0, 1]
