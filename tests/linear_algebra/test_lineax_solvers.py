"""Solvers of lineax for right-hand sides of any size."""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from stiffrax.linear_algebra import library_solve

MATRIX = np.eye(6) * 4 + np.cos(np.arange(36.0)).reshape(6, 6)
RIGHT = np.sin(1.0 + np.arange(6.0))
ITERATIVE = [lx.GMRES(1e-5, 1e-5), lx.BiCGStab(1e-5, 1e-5)]


@functools.partial(jax.jit, static_argnums=0)
def solved(solver, b):
    operator = lx.MatrixLinearOperator(jnp.asarray(MATRIX, b.dtype))
    return library_solve(solver, solver.init(operator, {}), b)


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1e30])
@pytest.mark.parametrize("solver", ITERATIVE, ids=lambda x: type(x).__name__)
def test_right_hand_sides_of_any_size_are_solved_in_single_precision(solver, size):
    x = solved(solver, (size * RIGHT).astype(np.float32))
    np.testing.assert_allclose(x, size * np.linalg.solve(MATRIX, RIGHT), rtol=1e-3)


@pytest.mark.parametrize("size", [0.0, 5e-309, 1.0, 1e308])
def test_no_digit_of_a_direct_solver_changes(size):
    b = size * RIGHT
    plain = lx.linear_solve(lx.MatrixLinearOperator(jnp.asarray(MATRIX)), b, lx.LU()).value
    # Smaller numbers than the normal ones are zeros to a compiled program.
    atol = np.finfo(float).tiny
    np.testing.assert_allclose(solved(lx.LU(), b), plain, rtol=1e-15, atol=atol)


def test_a_solver_that_says_that_it_failed_gives_no_number():
    solver = lx.GMRES(1e-12, 1e-12, max_steps=2, restart=1)
    assert np.all(np.isnan(solved(solver, RIGHT)))


def test_a_right_hand_side_that_is_not_finite_gives_no_number():
    assert np.all(np.isnan(solved(lx.LU(), np.full(6, np.nan))))


def test_transposed_at_zero_a_direct_solver_solves_the_transposed_system():
    # As a linear map is transposed: there is no right-hand side whose size could be asked.
    zero, bar = jnp.zeros(6), 1e-3 * jnp.asarray(RIGHT)
    found = jax.jit(lambda bar: jax.vjp(lambda b: solved(lx.LU(), b), zero)[1](bar)[0])(bar)
    np.testing.assert_allclose(found, 1e-3 * np.linalg.solve(MATRIX.T, RIGHT), rtol=1e-12)


def test_a_direct_solver_keeps_small_components_beside_a_huge_one():
    apart = jnp.array([[3.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    solver, b = lx.LU(), jnp.array([1e-8, 2e-9, 1e299])
    factors = solver.init(lx.MatrixLinearOperator(apart), {})
    found = jax.jit(lambda b: library_solve(solver, factors, b))(b)
    np.testing.assert_allclose(found, [3.5e-9, -5e-10, 5e298], rtol=1e-14)
