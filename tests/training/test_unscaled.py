"""A warning for states of very different sizes."""

import inspect
import warnings

import equinox as eqx
import jax
import numpy as np
import pytest

import stiffrax as srx
import stiffrax.training._fit as training
from stiffrax.training._fit import warn_if_unscaled

TS = np.linspace(0.0, 1.0, 5)


def data(ratio):
    return srx.Trajectories.from_arrays(TS, np.stack([TS, ratio * TS, np.ones(5)], axis=1))


NET = eqx.nn.MLP(3, 3, 5, 1, key=jax.random.key(0))


def test_ranges_beyond_a_thousand_warn_and_name_the_remedy():
    with pytest.warns(UserWarning, match="ScaledField"):
        warn_if_unscaled(NET, data(1e-4))


def test_the_warning_points_to_where_fit_is_called(monkeypatch):
    # The checks of annotations in tests are frames of their own.
    for name in ("_parts", "warn_if_unscaled"):
        monkeypatch.setattr(training, name, inspect.unwrap(getattr(training, name)))
    fit = inspect.unwrap(srx.fit)
    refused = pytest.raises(ValueError, match="batch_size=99")
    with pytest.warns(UserWarning, match="ScaledField") as seen, refused:
        fit(NET, data(1e-4), srx.SegmentLoss(), steps=1, batch_size=99)
    assert seen[0].filename == __file__


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


class OneOutput(eqx.Module):
    """A network that feeds one equation."""

    net: eqx.Module

    def __call__(self, t, y, args=None):
        return self.net(y)[:1]


class Mechanism(eqx.Module):
    """Rates of a reaction, which are in the units that its states are in."""

    rates: jax.Array

    def __call__(self, t, y, args=None):
        return self.rates * y


@pytest.mark.parametrize(
    "model",
    [
        Mechanism(jax.numpy.array([1.0, 1e-4, 1.0])),
        srx.Polynomial(3, degree=1),
        srx.PartiallyKnown(lambda t, y, args: -y, srx.Polynomial(3, degree=1)),
        # Only the first equation is learned by a network: one size is enough.
        srx.PartiallyKnown(
            lambda t, y, args: -y,
            OneOutput(NET),
            outputs=(0,),
            num_states=3,
        ),
    ],
)
def test_models_without_a_network_of_several_sizes_do_not_warn(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unscaled(model, data(1e-4))


def test_a_network_that_feeds_states_of_several_sizes_warns_wherever_it_is():
    partial = srx.PartiallyKnown(
        lambda t, y, args: -y, srx.PiNet(3, 4, 2, key=jax.random.key(0)), num_states=3
    )
    with pytest.warns(UserWarning, match="ScaledField"):
        warn_if_unscaled(partial, data(1e-4))


def test_fit_warns():
    loss = lambda model, data: model.layers[0].bias[0] ** 2
    with pytest.warns(UserWarning, match="ScaledField"):
        srx.fit(NET, data(1e-4), loss, steps=1, progress=False)
