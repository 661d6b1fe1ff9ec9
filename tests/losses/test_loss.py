"""Losses add, weigh and nest."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.linspace(0.0, 1.0, 6)
DATA = srx.Trajectories.from_arrays(TS, np.stack([np.exp(-TS), np.exp(-2 * TS)], axis=1))
MODEL = srx.Polynomial(2, 1, coefficients=[[0.1, -0.5, 0.0], [0.0, 0.0, -1.0]])
ONE = srx.SegmentLoss(srx.BackwardEuler())
TWO = srx.SegmentLoss(srx.BackwardEuler(), window=2)


@eqx.filter_jit
def value(loss, model=MODEL, data=DATA):
    return loss(model, data)


def penalty(model, data):
    return jnp.sum(model.coefficients**2)


@pytest.mark.slow
def test_sum_and_product_are_those_of_the_values():
    expected = 2 * value(ONE) + 0.5 * value(TWO)
    np.testing.assert_allclose(value(2 * ONE + TWO * 0.5), expected, rtol=1e-12)


@pytest.mark.slow
def test_plain_functions_are_losses():
    np.testing.assert_allclose(value(ONE + 3 * (ONE * 0 + penalty)), value(ONE) + 3 * 1.26)
    np.testing.assert_allclose(value(penalty + ONE), value(ONE) + 1.26)


@pytest.mark.slow
def test_derivative_of_a_sum_is_the_sum_of_derivatives():
    gradient = eqx.filter_jit(eqx.filter_grad(ONE + 0.5 * TWO))(MODEL, DATA).coefficients
    parts = [eqx.filter_jit(eqx.filter_grad(loss))(MODEL, DATA).coefficients for loss in (ONE, TWO)]
    np.testing.assert_allclose(gradient, parts[0] + 0.5 * parts[1], rtol=1e-10)


@pytest.mark.slow
def test_failures_add_up():
    exploding = srx.Polynomial(2, 2, coefficients=np.full((2, 6), 1e3))
    evaluated = eqx.filter_jit(lambda loss: loss.evaluate(exploding, DATA))(ONE + ONE)
    assert evaluated.num_failed == 2 * 5


def test_minibatches_follow_the_window_that_all_losses_share():
    assert (ONE + penalty).window == 1
    assert (0.5 * TWO).window == 2
    assert (ONE + TWO).window is None
    assert (ONE + srx.TrajectoryLoss()).window is None


def test_a_weighted_penalty_does_not_hide_that_every_solve_failed():
    loss = srx.SegmentLoss(diffrax.Euler()) + 0.5 * srx.RoughnessPenalty()
    evaluated = eqx.filter_jit(loss.evaluate)(lambda t, y, args: jnp.full(2, jnp.nan), DATA)
    assert evaluated.nothing_solved


@pytest.mark.slow
def test_fixed_scales_are_those_of_the_data_given():
    loss = (ONE + penalty).for_data(DATA)
    half = srx.Trajectories.from_arrays(TS, DATA.ys / 2)
    zero = srx.Polynomial(2, 1)
    np.testing.assert_allclose(value(loss, zero, half), value(ONE, zero, half) / 4, rtol=1e-12)


@pytest.mark.parametrize(
    "wrong", [lambda m, d: jnp.zeros(2), lambda m, d: 1, lambda m, d: jnp.array(1j)]
)
def test_loss_that_is_no_number_is_refused(wrong):
    with pytest.raises(ValueError, match="it needs one real number"):
        value(ONE + wrong)


@pytest.mark.parametrize("array", [np.ones(2), jnp.ones(2)])
def test_a_weight_of_many_numbers_is_refused(array):
    with pytest.raises(ValueError, match=r"an array of shape \(2,\); it needs one number"):
        _ = array * ONE


def test_a_weight_may_be_a_number_of_numpy():
    weighted: Any = np.float64(2.0) * ONE
    assert weighted.weights == (2.0,)


def test_a_loss_of_weight_zero_is_left_out():
    swept: list[Any] = [ONE + w * TWO for w in (0.0, 0, np.float64(0.0))]
    assert [loss.losses for loss in swept] == 3 * [(ONE,)]
    alone: Any = 0.0 * ONE
    assert alone.losses == (ONE,)
    traced: Any = ONE + jnp.array(0.0) * TWO
    assert traced.losses == (ONE, TWO)


def test_a_list_of_losses_has_a_sum():
    total: Any = sum([ONE, TWO])
    assert total.losses == (ONE, TWO)


def test_sums_with_other_things_are_refused():
    with pytest.raises(TypeError):
        _ = ONE + 1.0
    with pytest.raises(TypeError):
        _ = ONE * TWO


def test_a_penalty_that_is_a_loss_does_not_hide_that_every_solve_failed():
    class Failing(srx.AbstractLoss):
        def evaluate(self, model, data):
            return srx.LossValue(jnp.asarray(0.0), jnp.asarray(3), jnp.asarray(0))

    class Penalty(srx.AbstractLoss):
        def evaluate(self, model, data):
            return srx.LossValue(jnp.asarray(1.0), jnp.asarray(0))

    assert (Failing() + Penalty()).evaluate(None, None).nothing_solved
    assert not Penalty().evaluate(None, None).nothing_solved
