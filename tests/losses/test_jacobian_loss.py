"""The error of Jacobians."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import stiffrax as srx

MATRIX = np.array([[-0.5, 2.0], [-2.0, -0.1]])
TS = np.array([0.0, 0.1, 0.3, 0.4])
DATA = srx.Trajectories.from_arrays([TS, TS[:3]], [np.ones((4, 2)), np.ones((3, 2))])
MODEL = srx.Polynomial(2, degree=1, coefficients=np.column_stack([np.zeros(2), MATRIX + 0.5]))


def known(matrix=MATRIX):
    return np.broadcast_to(matrix, (2, 4, 2, 2)).copy()


def test_error_is_the_mean_square_of_the_entries():
    np.testing.assert_allclose(srx.JacobianLoss(known())(MODEL, DATA), 0.25)


def test_gradient_moves_the_linear_terms_toward_the_jacobian():
    gradient = eqx.filter_grad(srx.JacobianLoss(known()))(MODEL, DATA)
    np.testing.assert_allclose(gradient.coefficients, [[0, 0.25, 0.25]] * 2, atol=1e-14)


def test_missing_jacobians_and_samples_do_not_count():
    jacobians = known()
    jacobians[0, 1] = np.nan
    jacobians[1, 3] = 1e3  # a sample that is missing
    value, gradient = eqx.filter_value_and_grad(srx.JacobianLoss(jacobians))(MODEL, DATA)
    np.testing.assert_allclose(value, 0.25)
    assert np.all(np.isfinite(gradient.coefficients))


@pytest.mark.slow
def test_derivatives_of_the_flow_are_those_of_each_segment():
    flows = np.full((2, 4, 2, 2), np.nan)
    for k, dt in enumerate(np.diff(TS)):
        flows[:, k] = scipy.linalg.expm((MATRIX + 0.5) * dt)
    loss = srx.JacobianLoss(flows, flow_solver=diffrax.Dopri8(), substeps=2)
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(MODEL, DATA)
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient.coefficients, 0, atol=1e-6)


def test_a_jacobian_that_is_not_finite_is_counted_and_leaves_the_others_alone():
    data = srx.Trajectories.from_arrays(TS, np.array([[1.0], [0.0], [2.0], [3.0]]))
    root = jax.jit(lambda t, y, args: jnp.sqrt(y))  # infinite slope at 0
    value, failed, solved = srx.JacobianLoss(np.zeros((1, 4, 1, 1))).evaluate(root, data)
    assert (failed, solved) == (1, 3)
    np.testing.assert_allclose(value, (1 / 4 + 1 / 8 + 1 / 12) / 3)


def test_jacobians_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"`jacobians` of shape \(2, 4, 2\)"):
        srx.JacobianLoss(known()[..., 0])(MODEL, DATA)


@pytest.mark.usefixtures("unchecked_types")
def test_steps_of_no_solver_and_a_solver_that_is_none_are_refused():
    with pytest.raises(ValueError, match="`substeps=4` was given without a `flow_solver`"):
        srx.JacobianLoss(np.zeros((1, 4, 2, 2)), substeps=4)
    with pytest.raises(ValueError, match="`solver` is `'Tsit5'`; it needs a solver"):
        srx.JacobianLoss(np.zeros((1, 4, 2, 2)), flow_solver="Tsit5")


def test_a_step_that_fails_has_no_jacobian_that_could_be_right():
    ys = np.array([[1.0], [6.0], [6.0], [6.0]])  # no rate above 5
    data = srx.Trajectories.from_arrays(TS, ys)
    loss = srx.JacobianLoss(np.zeros((1, 4, 1, 1)), flow_solver=srx.BackwardEuler())
    evaluate = eqx.filter_jit(loss.evaluate)
    value, failed, solved = evaluate(lambda t, y, args: -y * jnp.sqrt(5 - y), data)
    assert (failed, solved) == (2, 1)
    assert 0.5 < value < 0.9  # (1 + h (sqrt(5 - y) - y / 2 / sqrt(5 - y)))^-2 near y = 0.84
