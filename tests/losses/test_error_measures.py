"""ScaledMAE and ScaledMSE: means over what is there."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

RNG = np.random.default_rng(0)
TS = np.tile(np.arange(4.0), (3, 1))
YS = RNG.normal(size=(3, 4, 2))
PREDICTED = YS + RNG.normal(size=YS.shape)
MASK = np.arange(4) < np.array([4, 2, 3])[:, None]
SCALE = np.array([2.0, 1e-3])


def value(measure, predicted=PREDICTED, ys=YS, mask=MASK):
    return measure(*(jnp.asarray(x) for x in (predicted, TS, ys, mask)))


@pytest.mark.parametrize(("measure", "size"), [(srx.ScaledMAE, np.abs), (srx.ScaledMSE, np.square)])
def test_measure_is_the_mean_over_present_samples(measure, size):
    expected = np.mean(size((PREDICTED - YS) / SCALE)[MASK])
    np.testing.assert_allclose(value(measure(SCALE)), expected, rtol=1e-12)


def test_what_stands_at_missing_samples_is_not_read():
    predicted, ys = PREDICTED.copy(), YS.copy()
    predicted[~MASK], ys[~MASK] = np.nan, np.inf
    assert value(srx.ScaledMAE(SCALE), predicted, ys) == value(srx.ScaledMAE(SCALE))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_of_which_one_state_was_not_predicted_takes_part_in_no_sum(bad):
    predicted = PREDICTED.copy()
    predicted[0, 1, 0] = bad
    solved = MASK.copy()
    solved[0, 1] = False
    for measure, size in ((srx.ScaledMAE(SCALE), np.abs), (srx.ScaledMSE(SCALE), np.square)):
        expected = np.mean(size((PREDICTED - YS) / SCALE)[solved])
        np.testing.assert_allclose(value(measure, predicted), expected)


def test_failed_prediction_leaves_the_derivative_of_the_others_alone():
    predicted = PREDICTED.copy()
    predicted[0, 1] = np.nan
    measure = srx.ScaledMSE(SCALE)
    gradient = jax.grad(lambda p: value(measure, p))(jnp.asarray(predicted))
    healthy = jax.grad(lambda p: value(measure, p))(jnp.asarray(PREDICTED))
    assert not np.any(gradient[0, 1])
    others = np.sum(MASK) / (np.sum(MASK) - 1) * np.delete(healthy, 1, axis=1)
    np.testing.assert_allclose(np.delete(gradient, 1, axis=1), others)


def test_weights_multiply_states():
    weight = np.array([0.0, 3.0])
    expected = np.mean(weight * np.abs((PREDICTED - YS) / SCALE)[MASK])
    np.testing.assert_allclose(value(srx.ScaledMAE(SCALE, weight)), expected)


def test_weights_may_depend_on_the_sample():
    measure = srx.ScaledMSE(SCALE, lambda t, y: jnp.exp(-t) * (1 + y**2))
    weight = np.exp(-TS)[..., None] * (1 + YS**2)
    expected = np.mean((weight * ((PREDICTED - YS) / SCALE) ** 2)[MASK])
    np.testing.assert_allclose(value(measure), expected)


def test_no_samples_give_zero():
    assert value(srx.ScaledMAE(SCALE), mask=np.zeros_like(MASK)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: srx.ScaledMAE([1.0, 0.0]), "`scale="),
        (lambda: srx.ScaledMSE([-1.0]), "`scale="),
        (lambda: srx.ScaledMAE(weight=[1.0, -1.0]), "`weight="),
        (lambda: srx.ScaledMSE(weight=np.nan), "`weight=nan`"),
    ],
)
def test_wrong_size_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_scale_of_another_number_of_states_is_refused():
    data = srx.Trajectories.from_arrays(TS[0], YS)
    loss = srx.SegmentLoss(measure=srx.ScaledMSE([1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="`scale` has 3 numbers, but the data have 2 states"):
        loss(lambda t, y, args: -y, data)


@pytest.mark.parametrize("deviation", [1e20, 1e-20])
def test_a_weight_that_single_precision_does_not_hold_is_refused(deviation):
    srx.ScaledMSE(weight=1 / deviation**2)
    with jax.enable_x64(False):
        srx.ScaledMSE(scale=[deviation])
        with pytest.raises(ValueError, match=r"zero or infinite in float32.*`scale=`"):
            srx.ScaledMSE(weight=1 / deviation**2)


def without_rank_promotion_errors(call):
    with jax.numpy_rank_promotion("allow"):
        return call()


def test_one_weight_for_all_states_of_a_sample_is_that_of_no_other_sample():
    measure = srx.ScaledMSE([1.0], lambda t, y: jnp.where(t < 1.5, 0.0, 1.0))
    ts, mask = jnp.asarray(TS[:1]), jnp.ones((1, 4), bool)
    ys = jnp.where(ts < 1.5, 0.0, 1.0)[..., None]
    assert without_rank_promotion_errors(lambda: measure(jnp.ones_like(ys), ts, ys, mask)) == 0


class Summed(srx.AbstractErrorMeasure):
    scale: Any = None
    weight: Any = None

    def size(self, x):
        return jnp.sum(x**2, axis=-1)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (srx.ScaledMSE(weight=lambda t, y: jnp.ones(3)), r"returns shape \(3,\) for a sample of 2"),
        (srx.ScaledMSE(weight=[1.0, 2.0, 3.0]), "`weight` has 3 numbers, but the data have 2"),
        (Summed(), r"`size` of Summed returns shape \(9, 1\) for errors of shape \(9, 1, 2\)"),
    ],
)
def test_weights_and_sizes_of_another_shape_are_refused(measure, message):
    loss = srx.SegmentLoss(diffrax.Euler(), measure)
    data = srx.Trajectories.from_arrays(TS[0], YS)
    with pytest.raises(ValueError, match=message):
        without_rank_promotion_errors(
            lambda: jax.eval_shape(lambda: loss(lambda t, y, args: -y, data))
        )


@pytest.mark.parametrize(
    ("weight", "bad"), [(lambda t, y: -1.0 - 0 * t, "-1"), (lambda t, y: 1 / (0.1 * y) ** 2, "inf")]
)
def test_weights_by_a_function_are_checked_on_the_data(weight, bad):
    data = srx.Trajectories.from_arrays([0.0, 1.0], [[1.0], [0.0]])
    with pytest.raises(ValueError, match=rf"`weight\(t, y\)` returns {bad} for a sample"):
        srx.ScaledMSE(weight=weight).for_data(data)
