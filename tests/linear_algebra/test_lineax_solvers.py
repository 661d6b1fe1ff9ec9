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
