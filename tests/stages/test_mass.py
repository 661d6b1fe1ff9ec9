"""Mass matrices on the flat state, in all their forms."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from stiffrax.stages import Mass, flat_mass

STATE = jnp.array([1.0, 2.0, 3.0])
DIAGONAL = jnp.array([1.0, 2.0, 0.0])
SINGULAR = jnp.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (2.0, 2 * np.eye(3)),
        (DIAGONAL, np.diag(DIAGONAL)),
        (SINGULAR, SINGULAR),
        (lx.DiagonalLinearOperator(DIAGONAL), np.diag(DIAGONAL)),
        (lx.MatrixLinearOperator(SINGULAR), SINGULAR),
        (lx.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), float)), np.eye(3)),
    ],
    ids=["scalar", "diagonal", "matrix", "diagonal operator", "matrix operator", "identity"],
)
def test_every_form_of_a_mass_is_the_same_matrix(given, expected):
    mass = flat_mass(given, STATE, None)
    np.testing.assert_array_equal(mass.as_matrix(), expected)
    rows = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(mass.times(rows), rows @ np.asarray(expected).T)


def test_a_mass_for_each_leaf_is_block_diagonal_in_the_order_of_the_flat_state():
    state = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    matrix = flat_mass({"a": SINGULAR[:2, :2], "b": 3.0}, state, None).as_matrix()
    np.testing.assert_array_equal(matrix[:2, :2], SINGULAR[:2, :2])
    np.testing.assert_array_equal(matrix[2], [0, 0, 3])
    assert flat_mass({"a": jnp.ones(2), "b": 0.0}, state, None).is_diagonal


@pytest.mark.parametrize(
    ("mass", "message"),
    [(jnp.ones(2), "shape \\(2,\\)"), ({"a": 1.0}, "structure")],
)
def test_a_mass_that_does_not_match_the_state_is_refused(mass, message):
    with pytest.raises(ValueError, match=message):
        flat_mass(mass, STATE, None)


def test_an_index_for_another_number_of_components_is_refused():
    with pytest.raises(ValueError, match="`index` was given for 2"):
        flat_mass(1.0, STATE, (0, 1))


def test_a_mass_has_the_precision_of_the_state():
    assert flat_mass(SINGULAR, STATE.astype(jnp.float32), None).entries.dtype == jnp.float32


@pytest.mark.parametrize("entries", [DIAGONAL, SINGULAR], ids=["diagonal", "matrix"])
def test_constraints_are_what_no_derivative_can_balance(entries):
    mass = Mass(entries)
    f = jnp.array([1.0, 2.0, 3.0])
    left = f - mass.with_projector().in_range(f)
    slope = np.linalg.lstsq(mass.as_matrix(), f - left, rcond=None)[0]
    np.testing.assert_allclose(mass.as_matrix() @ slope, f - left, atol=1e-14)
    assert np.max(np.abs(left)) > 1
    assert mass.is_singular()
    # Of the size of the derivatives there are, and none where there is none.
    np.testing.assert_allclose(mass.typical_slope(f), slope, rtol=1e-6, atol=1e-6)


def test_division_by_a_mass_has_the_derivative_of_a_solve():
    matrix, x = SINGULAR + jnp.eye(3), STATE
    found = jax.jacfwd(lambda m: Mass(m).divider()(x))(matrix)
    expected = jax.jacfwd(lambda m: jnp.linalg.solve(m, x))(matrix)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_errors_of_higher_index_weigh_less_with_the_step():
    np.testing.assert_allclose(
        Mass(DIAGONAL, (0, 1, 2)).error_weights(jnp.array(-0.1)), [1, 0.1, 0.01]
    )
    assert Mass(DIAGONAL).error_weights(jnp.array(0.1)) == 1


def test_a_mass_in_the_shape_of_a_square_state_is_refused_as_unclear():
    state = jnp.zeros((2, 2))
    with pytest.raises(ValueError, match=r"reshape\(-1\)"):
        flat_mass(jnp.array([[1.0, 1.0], [1.0, 0.0]]), state, None)
    assert flat_mass(jnp.array([1.0, 1.0, 1.0, 0.0]), state, None).is_diagonal
    assert flat_mass(jnp.ones((3, 2)), jnp.zeros((3, 2)), None).is_diagonal
