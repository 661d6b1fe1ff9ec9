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
