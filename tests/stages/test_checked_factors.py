"""What a Rosenbrock step asks of factors that nothing corrects."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.stages import Mass, flat_field
from stiffrax.stages._checked_factors import checked_factors

STRUCTURES = {
    "Banded": srx.Banded(1, 1),
    "Sparsity": srx.Sparsity(np.abs(np.subtract.outer(range(6), range(6))) <= 1),
}


def solved(structure, matrix, h=1.0, dtype=float, y=None, mass=None):
    """`(3 M - h J)^-1` times the state, for the field `J y`."""
    matrix, t = jnp.asarray(matrix, dtype), jnp.array(0.0, dtype)
    y = jnp.asarray(np.linspace(0.5, 1.5, len(matrix)) if y is None else y, dtype)
    field, y, _ = flat_field(lambda t, y: matrix @ y, t, y)

    @jax.jit
    def solve(y, h):
        at = field, t, y
        factors = checked_factors(3.0, h, structure.jacobian(*at), structure, mass, at)
        return structure.solve(factors, y[None])[0]

    return solve(y, jnp.asarray(h, dtype)), y


def exchange(rate):
    """Cells that equalize at a rate: their mean is a slow mode."""
    return rate * (np.eye(6, k=1) + np.eye(6, k=-1) - np.diag([1, 2, 2, 2, 2, 1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_entry_that_counts_beside_slow_modes_is_refused_however_small_in_its_row(
    structure, dtype
):
    matrix = exchange(1e4 if dtype == np.float64 else 3e2)
    matrix[0, 4] = 0.1
    with pytest.raises(Exception, match="entry outside of `structure="):
        jax.block_until_ready(solved(STRUCTURES[structure], matrix, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_entry_of_rounding_is_left_out(structure, dtype):
    matrix = exchange(1e4)
    matrix[0, 4] = 1e4 * np.finfo(dtype).eps
    found, rhs = solved(STRUCTURES[structure], matrix, dtype=dtype)
    expected = np.linalg.solve(3 * np.eye(6) - matrix, np.asarray(rhs, float))
    np.testing.assert_allclose(found, expected, rtol=1e5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("solver", [None, lx.LU()], ids=["inverse", "LU"])
def test_a_solution_is_not_lost_where_units_are_far_apart(solver):
    # The largest entry of the first column couples next to nothing: it has the units of the second row.
    # A library exchanges them all the same, and its factors are none where that has lost the digits.
    matrix, mass = np.diag([-1.0, -1.0, -1.0, -1.0]), np.diag([1.0, 1.0, 1.0, 0.0])
    matrix[0, 1], matrix[1, 0], matrix[3, 2] = 1.0, 1e-16, 1.0
    units = np.array([1.0, 1e20, 1.0, 1.0])
    expected = units * np.linalg.solve(3 * mass - 0.1 * matrix, np.ones(4))
    matrix = units[:, None] * matrix / units
    found, _ = solved(srx.Dense(solver), matrix, 0.1, y=units, mass=Mass(jnp.diag(mass)))
    assert np.allclose(found, expected, rtol=1e-10) or (solver and np.isnan(found).all())


def test_the_residual_of_a_dense_matrix_is_found_in_full_precision_on_accelerators_too():
    def factors(y):
        t = jnp.array(0.0)
        at = flat_field(lambda t, y: -(y**3), t, y)[0], t, y
        structure = srx.Dense(lx.LU())
        return checked_factors(3.0, jnp.array(1.0), structure.jacobian(*at), structure, None, at)

    assert "HIGHEST" in str(jax.make_jaxpr(factors)(jnp.ones(6)))


def test_factors_that_lose_all_digits_are_none():
    # Nothing but rounding is left on the diagonal, and rows are not exchanged.
    matrix = np.eye(40) * 3 * (1 - 1e-15) + np.eye(40, k=1) - 2 * np.eye(40, k=-1)
    found, rhs = solved(srx.Banded(1, 1), matrix)
    expected = np.linalg.solve(3 * np.eye(40) - matrix, np.asarray(rhs))
    assert np.isnan(found).all() or np.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("structure", "others"), [("Banded", 1.0), ("Sparsity", 1e-37)])
def test_a_component_that_has_decayed_to_nearly_nothing_takes_no_factors_away(structure, others):
    # Its solution is below the least normal number, and zero in a compiled program.
    rates, y = np.array([1e6, 1, 1, 1, 1, 1]), np.array([1e-36, *np.full(5, others)])
    found, _ = solved(STRUCTURES[structure], -np.diag(rates), dtype=np.float32, y=y)
    np.testing.assert_allclose(found, y / (3 + rates), rtol=1e-6, atol=1e-38)
