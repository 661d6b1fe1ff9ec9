"""A warning for states of very different sizes."""

import warnings

import equinox as eqx
import jax
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._fit import warn_if_unscaled

TS = np.linspace(0.0, 1.0, 5)


def data(ratio):
    return srx.Trajectories.from_arrays(TS, np.stack([TS, ratio * TS, np.ones(5)], axis=1))


NET = eqx.nn.MLP(3, 3, 5, 1, key=jax.random.key(0))


def test_ranges_beyond_a_thousand_warn_and_name_the_remedy():
    with pytest.warns(UserWarning, match="ScaledField"):
        warn_if_unscaled(NET, data(1e-4))


@pytest.mark.parametrize("ratio", [1.0, 2e-3, 5e2])
def test_moderate_ranges_and_constant_states_do_not_warn(ratio):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unscaled(NET, data(ratio))


def test_scaled_models_do_not_warn_wherever_the_scale_is():
    scaled = srx.ScaledField(NET, [1.0, 1e-4, 1.0], 1.0)
    partial = srx.PartiallyKnown(lambda t, y, args: -y, scaled, num_states=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unscaled(scaled, data(1e-4))
        warn_if_unscaled(partial, data(1e-4))


def test_fit_warns():
    loss = lambda model, data: model.layers[0].bias[0] ** 2  # noqa: E731
    with pytest.warns(UserWarning, match="ScaledField"):
        srx.fit(NET, loss, data(1e-4), steps=1, progress=False)
