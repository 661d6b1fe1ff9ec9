"""Explicit methods predict samples in a batch, in which one leaves the range of numbers."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.solvers import predict_lanes

TS = np.linspace(0.0, 0.8, 9)


class Steep(eqx.Module):
    """y1' = -rate y1; the second state overflows at once from 1.4, and its derivative with it."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([-self.rate * y[0], self.rate * jnp.exp(800 * (y[1] - 0.5))])


MODEL = Steep(jnp.array(3.0))


def samples(*seconds):
    ys = [
        np.stack([np.exp(-2 * TS) * (1 + k), np.full(9, second)], axis=1)
        for k, second in enumerate(seconds)
    ]
    return srx.Trajectories.from_arrays(TS, np.stack(ys))


MEASURE = srx.ScaledMSE([1.0, 1.0])
JACOBIANS = np.zeros((2, 9, 2, 2))
LOSSES = {
    "one segment": srx.SegmentLoss(diffrax.Tsit5(), MEASURE),
    "a window": srx.SegmentLoss(diffrax.Tsit5(), MEASURE, window=4),
    "neighbors": srx.NeighborhoodLoss(2, theiler=0, measure=MEASURE),
    "exponents": srx.InvariantLoss([-2.0], time=0.4, interval=0.1, starts=4),
    "statistics": srx.InvariantLoss([], time=0.4, interval=0.1, starts=4, statistics=1.0),
    "Jacobians": srx.JacobianLoss(JACOBIANS),
    "of the flow": srx.JacobianLoss(JACOBIANS, flow_solver=diffrax.Tsit5()),
}


@pytest.mark.slow_cases("statistics", "of the flow", "a window", "neighbors", "exponents")
@pytest.mark.parametrize("name", LOSSES)
def test_what_cannot_be_predicted_leaves_the_gradient_finite(name):
    data = samples(0.1, 1.4)

    def value(model):
        found = LOSSES[name].for_data(data).evaluate(model, data)
        return found.value, found.num_failed

    (_, failed), gradient = eqx.filter_jit(eqx.filter_value_and_grad(value, has_aux=True))(MODEL)
    assert failed > 0
    assert np.isfinite(gradient.rate)
    assert gradient.rate != 0


def test_segments_that_can_be_predicted_keep_their_derivative():
    def total(rate, data):
        predicted = srx.segment_predictions(Steep(rate), data.ts, data.ys, diffrax.Tsit5())
        return jnp.sum(jnp.where(jnp.isfinite(predicted), predicted, 0)[..., 0])

    gradient = jax.jit(jax.grad(total))
    healthy = jnp.sum(jnp.asarray(samples(0.1).ys)[0, :-1, 0]) * -0.1 * np.exp(-0.3)
    np.testing.assert_allclose(gradient(3.0, samples(0.1, 1.4)), healthy, rtol=1e-5)
    forward = jax.jit(jax.jacfwd(total))
    np.testing.assert_allclose(forward(3.0, samples(0.1, 1.4)), healthy, rtol=1e-5)


@pytest.mark.slow
def test_samples_of_a_window_before_the_failure_keep_value_and_derivative():
    # From 0.492 the second state reaches infinity in the last of four segments.
    whole = samples(0.492)
    early = srx.Trajectories.from_arrays(TS[:4], np.array(whole.ys)[:, :4])
    whole = srx.Trajectories.from_arrays(TS[:5], np.array(whole.ys)[:, :5])

    @eqx.filter_jit
    def compute(data):
        loss = srx.SegmentLoss(diffrax.Tsit5(), MEASURE, window=len(data.ts[0]) - 1)

        def value(model):
            found = loss.evaluate(model, data)
            return found.value, found

        return eqx.filter_value_and_grad(value, has_aux=True)(MODEL)

    (value, found), gradient = compute(whole)
    (expected, _), derivative = compute(early)
    assert (int(found.num_failed), int(found.num_solved)) == (1, 3)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient.rate, derivative.rate, rtol=1e-12)


@pytest.mark.slow_cases("4")
@pytest.mark.parametrize("window", [1, 4])
def test_where_nothing_can_be_predicted_the_gradient_is_that_of_the_rest_of_a_sum(window):
    loss = srx.SegmentLoss(diffrax.Tsit5(), MEASURE, window=window)
    both = loss + (lambda model, data: model.rate**2)
    data = samples(1.4, 1.4)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: both.evaluate(model, data).value))
    assert gradient(MODEL).rate == 6.0


@pytest.mark.slow
def test_a_window_that_is_missing_does_not_bring_a_failed_one_back():
    # The second window of the second run is missing: it stands for the first one, which fails.
    whole = samples(0.1, 1.4)
    data = eqx.tree_at(lambda d: d.mask, whole, np.array([[True] * 9, [True] * 5 + [False] * 4]))
    loss = srx.SegmentLoss(diffrax.Tsit5(), MEASURE, window=4)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: loss.evaluate(model, data).value))
    assert np.isfinite(gradient(MODEL).rate)


def test_a_member_of_an_ensemble_of_which_all_lanes_fail_has_no_derivative():
    def total(rate):
        values = predict_lanes(lambda start: jnp.exp(rate * start), jnp.array([1.0, 2.0]))
        return jnp.sum(jnp.where(jnp.isfinite(values), values, 0))

    def ensemble(rates):
        return jnp.sum(jax.vmap(total)(rates))

    rates = jnp.array([900.0, 1.0])
    expected = [0, np.exp(1) + 2 * np.exp(2)]
    both = [jax.jacrev(ensemble), jax.jacfwd(ensemble), jax.jacrev(jax.jacrev(ensemble))]
    *first, second = jax.jit(lambda rates: [take(rates) for take in both])(rates)
    np.testing.assert_allclose(first, [expected] * 2, rtol=1e-12)
    np.testing.assert_allclose(second, np.diag([0, np.exp(1) + 4 * np.exp(2)]), rtol=1e-12)
