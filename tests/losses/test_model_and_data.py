"""A model or data that do not belong to a loss are named before anything is solved."""

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses import check_data

DATA = srx.Trajectories.from_arrays(np.linspace(0, 1, 4), np.ones((4, 2)))
LOSSES = [srx.SegmentLoss(srx.RadauIIA3()), srx.TrajectoryLoss(srx.RadauIIA3())]


def three(t, y, args):
    return jnp.zeros(3)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_function_of_another_number_of_states_is_named(loss):
    with pytest.raises(
        ValueError, match=r"returns an array of shape \(3,\) for `y` of shape \(2,\)"
    ):
        loss(three, DATA)


def test_a_model_that_returns_no_array_is_named_without_inner_types():
    with pytest.raises(ValueError, match="The model returns a tuple for `y` of shape"):
        srx.fit_least_squares(lambda t, y, args: (y[0], y[1]), DATA)


@pytest.mark.parametrize("data", [srx.Measurements.from_trajectories(DATA), np.ones((4, 2))])
def test_data_of_another_kind_are_named_with_the_way_to_trajectories(data):
    # Not through a loss: there the type checks of the tests are before it.
    with pytest.raises(ValueError, match=r"`data` is a .*Write .*`data.to_trajectories\(\)`"):
        check_data(data)
