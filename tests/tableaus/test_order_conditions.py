import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.tableaus import gauss, lobatto_iiia, order_conditions, radau_iia
from stiffrax.tableaus._order_conditions import rooted_trees

CLASSICAL_RUNGE_KUTTA = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1.0, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)


def arrays_of(tableau):
    return tableau.A, tableau.b, tableau.c


def test_number_of_rooted_trees_is_the_published_one():
    counts = [len(rooted_trees(order)) for order in range(1, 11)]
    assert counts == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]


def test_conditions_up_to_order_four_are_the_textbook_ones():
    """On arbitrary coefficients, so that no residual is zero by accident."""
    rng = np.random.default_rng(0)
    A, b, c = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    textbook = {
        1: [b.sum() - 1],
        2: [b @ c - 1 / 2],
        3: [b @ c**2 - 1 / 3, b @ A @ c - 1 / 6],
        4: [
            b @ c**3 - 1 / 4,
            b @ (c * (A @ c)) - 1 / 8,
            b @ A @ c**2 - 1 / 12,
            b @ A @ A @ c - 1 / 24,
        ],
    }
    for order, residuals in textbook.items():
        found = order_conditions((A, b, c), order)
        np.testing.assert_allclose(np.sort(found), np.sort(residuals), rtol=1e-12)


def test_classical_runge_kutta_method_has_order_four_and_not_five():
    residuals = [np.max(np.abs(order_conditions(CLASSICAL_RUNGE_KUTTA, p))) for p in range(1, 6)]
    assert max(residuals[:4]) < 2e-16
    assert residuals[4] > 1e-3


def test_wrong_node_is_seen():
    A, b, c = arrays_of(radau_iia(3))
    assert np.max(np.abs(order_conditions((A, b, c + [1e-6, 0, 0]), 2))) > 1e-7


def test_wrong_matrix_entry_is_seen_although_the_row_sums_are_kept():
    A, b, c = arrays_of(radau_iia(3))
    A = A + 1e-6 * np.array([[1, -1, 0], [0, 0, 0], [0, 0, 0]])
    assert np.max(np.abs(order_conditions((A, b, c), 2))) < 1e-15
    assert np.max(np.abs(order_conditions((A, b, c), 3))) > 1e-8


@pytest.mark.parametrize("order", [1, 2, 5, 6])
def test_jax_arrays_give_the_same_residuals_under_jit(order):
    method = arrays_of(lobatto_iiia(2))
    traced = jax.jit(lambda *method: order_conditions(method, order))(*map(jnp.asarray, method))
    assert isinstance(traced, jax.Array)
    np.testing.assert_allclose(traced, order_conditions(method, order), atol=1e-15)


def test_single_precision_stays_single_precision():
    method = tuple(jnp.asarray(x, jnp.float32) for x in arrays_of(radau_iia(3)))
    residuals = order_conditions(method, 5)
    assert residuals.dtype == jnp.float32
    assert jnp.max(jnp.abs(residuals)) < 1e-7


@pytest.mark.parametrize("order", [1, 3, 5])
def test_gradient_agrees_with_central_differences(order):
    rng = np.random.default_rng(1)
    method = tuple(jnp.asarray(rng.normal(size=shape)) for shape in [(3, 3), (3,), (3,)])
    direction = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in method)

    def penalty(method):
        return jnp.sum(order_conditions(method, order) ** 2)

    def moved(step):
        return penalty(tuple(x + step * d for x, d in zip(method, direction, strict=True)))

    gradient = jax.grad(penalty)(method)
    slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=2e-6)


def test_gradient_is_finite_at_a_node_of_zero():
    A, b, c = (jnp.asarray(x) for x in arrays_of(lobatto_iiia(2)))
    jacobian = jax.jacobian(lambda c: order_conditions((A, b, c), 4))(c)
    assert jnp.all(jnp.isfinite(jacobian))


@pytest.mark.parametrize("order", [0, -1, 11, True])
def test_order_out_of_range_raises(order):
    with pytest.raises(ValueError, match="needs an integer from 1 to 10. For higher orders write"):
        order_conditions(gauss(2), order)


@pytest.mark.parametrize("order", [2.0, None, "2"])
def test_order_of_another_type_raises(order):
    with pytest.raises(ValueError, match="needs an integer from 1 to 10"):
        inspect.unwrap(order_conditions)(gauss(2), order)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3), (2,), (2,)),
        ((2, 2), (3,), (3,)),
        ((2, 2), (2,), (1,)),
        ((2, 2), (2,)),
        ((2, 2), (2,), (2,), (2,)),
    ],
)
def test_arrays_that_do_not_belong_together_raise(shapes):
    with pytest.raises(ValueError, match=r"it needs `\(A, b, c\)` of shapes \(s, s\), \(s,\)"):
        order_conditions(tuple(np.zeros(shape) for shape in shapes), 1)


@pytest.mark.usefixtures("unchecked_types")
def test_lists_are_arrays():
    assert order_conditions(([[0.0]], [1.0], [0.0]), 1) == [0.0]
    with pytest.raises(ValueError, match=r"it needs `\(A, b, c\)` of shapes"):
        order_conditions(([[0.0]], [1.0], 0.0), 1)
