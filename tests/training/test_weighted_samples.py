"""How much each sample counts in a least-squares fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._weighted_samples import WeightedSamples

TS = np.arange(4.0)
# Runs of two and of four samples; the weights follow their samples.
DATA = srx.Trajectories.from_arrays([TS[:2], TS, TS[:2]], [np.ones((k, 1)) for k in (2, 4, 2)])
WEIGHT = np.arange(1.0, 13.0).reshape(3, 4, 1)


def test_what_is_no_sample_has_no_weight_and_is_not_counted():
    samples = WeightedSamples.of(DATA, 1.0, WEIGHT)
    assert samples.count(free_starts=True) == 8
    assert samples.count(free_starts=False) == 5


def test_weights_stay_with_their_samples_when_runs_are_held_out():
    train, test = WeightedSamples.of(DATA, 1.0, WEIGHT).split([1])
    np.testing.assert_array_equal(train.weight[..., 0], [[1, 2], [9, 10]])
    np.testing.assert_array_equal(test.weight[..., 0], [[5, 6, 7, 8]])


@pytest.mark.parametrize("criterion", ["held_out", "bic"])
def test_runs_that_do_not_count_are_no_runs_to_judge_by(criterion):
    weight = np.zeros((3, 4, 1))
    weight[1, 1 if criterion == "held_out" else 0] = 1
    options = {"held_out": [1]} if criterion == "held_out" else {}
    with pytest.raises(ValueError, match=r"runs \['0', .* that are predicted have the weight zero"):
        srx.prune_and_refit(
            srx.Polynomial(1, 1), DATA, weight=weight, criterion=criterion, **options
        )


def test_padding_is_not_counted_when_runs_are_held_out():
    train, _ = WeightedSamples.of(DATA, 1.0, WEIGHT).split([0])
    assert train.count(free_starts=True) == 6


def test_the_size_of_states_is_in_units_of_the_residual():
    data = srx.Trajectories.from_arrays(TS, np.stack([TS, 10 + TS], axis=1))
    np.testing.assert_allclose(WeightedSamples.of(data, [1.0, 1.0]).size_of_states, 3.0)
    np.testing.assert_allclose(WeightedSamples.of(data).size_of_states, 1.0)


@pytest.mark.parametrize("give", [np.asarray, lambda weight: lambda t, y: weight[0, t.astype(int)]])
def test_one_weight_a_sample_is_not_taken_for_one_a_state(give):
    data = srx.Trajectories.from_arrays(TS, np.ones((4, 4)))
    weight = np.arange(1.0, 5.0)[None]
    with jax.numpy_rank_promotion("allow"):
        if give is np.asarray:
            with pytest.raises(ValueError, match=r"`weight` of shape \(1, 4\) was given"):
                WeightedSamples.of(data, 1.0, weight)
        else:
            found = WeightedSamples.of(data, 1.0, give(jnp.asarray(weight))).weight
            np.testing.assert_array_equal(found, np.tile(weight[..., None], 4))


def test_samples_of_weight_zero_are_as_if_they_were_not_there():
    weight = np.array([[1.0, 1, 0, 1], [1, 0, 1, 1]])[..., None]
    ys = np.arange(1.0, 9.0).reshape(2, 4, 1)
    found = WeightedSamples.of(srx.Trajectories.from_arrays(TS, ys), 1.0, weight)
    np.testing.assert_array_equal(found.data.ts, [[0, 1, 3, 3], [0, 2, 3, 3]])
    np.testing.assert_array_equal(found.data.ys[..., 0], [[1, 2, 4, 4], [5, 7, 8, 8]])
    np.testing.assert_array_equal(found.data.mask, [[True] * 3 + [False]] * 2)
    np.testing.assert_array_equal(found.weight[..., 0], [[1, 1, 1, 0]] * 2)


@pytest.mark.slow
def test_no_prediction_starts_at_a_sample_of_weight_zero():
    data = srx.Trajectories.from_arrays(TS, [[1.0], [0.5], [100.0], [0.125]])
    weight = np.array([1.0, 1.0, 0.0, 1.0])[None, :, None]
    fit = srx.fit_least_squares(srx.Polynomial(1, degree=1), data, weight=weight)
    np.testing.assert_allclose(fit.model.coefficients, [[0.0, -np.log(2)]], atol=1e-6)


def test_a_start_of_which_a_state_does_not_count_is_refused():
    data = srx.Trajectories.from_arrays(TS, np.ones((4, 2)), names=["A", "B"], run_names=["a"])
    weight = np.ones((1, 4, 2))
    weight[0, 2, 1] = 0.0
    samples = WeightedSamples.of(data, 1.0, weight)
    samples.check_starts(3)
    with pytest.raises(ValueError, match="weight of 'B' at time 2 of run 'a' is zero"):
        samples.check_starts(2)
    WeightedSamples.of(data, 1.0, [1.0, 0.0]).check_starts(1)  # it counts nowhere
