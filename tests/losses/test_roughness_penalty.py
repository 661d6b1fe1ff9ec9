"""A penalty on Jacobians that change other than linearly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.arange(6) * 0.1
DATA = srx.Trajectories.from_arrays(
    [TS, TS[:4]], list(np.split(np.random.default_rng(0).normal(size=(10, 2)), [6]))
)
PENALTY = srx.RoughnessPenalty(2.0, size=0.7)
compiled = eqx.filter_jit(lambda model, data: PENALTY(model, data))
penalty_and_gradient = eqx.filter_jit(eqx.filter_value_and_grad(PENALTY.__call__))


def cubic(t, y, args):
    return jnp.stack([-(y[0] ** 3), y[0] - y[1]])


def test_a_quadratic_field_has_none():
    field = lambda t, y, args: jnp.stack([y[0] * y[1] - t, y[0] ** 2 - 3 * y[1]])
    assert compiled(field, DATA) < 1e-28


def test_that_of_a_cubic_field_is_as_by_hand():
    present = np.asarray(DATA.ys)[DATA.mask]
    scale = present.std(axis=0)
    d = 0.7 * scale * np.asarray(jax.random.normal(jax.random.key(0), (2, 6, 2)))[DATA.mask]
    ratio = scale[0] / scale[1]
    size = (3 * present[:, 0] ** 2) ** 2 + ratio**2 + 1
    expected = 2.0 * np.sum((6 * d[:, 0] ** 2) ** 2) / np.sum(size)
    np.testing.assert_allclose(compiled(cubic, DATA), expected, rtol=1e-12)


def test_units_of_states_and_time_do_not_matter():
    units = np.array([1e-3, 50.0])
    data = srx.Trajectories(DATA.ts, DATA.ys * units, DATA.mask, DATA.names, DATA.run_names)
    scaled = lambda t, y, args: 7.0 * units * cubic(t, y / units, args)
    np.testing.assert_allclose(compiled(scaled, data), compiled(cubic, DATA), rtol=1e-10)


def test_a_constant_hides_no_other_state():
    """The mean of equal numbers is rounded, and they deviate from it by 1e-17, which is no unit."""

    def of_constant(value):
        ys = np.stack([DATA.ys[..., 0], np.full(DATA.mask.shape, value)], axis=2)
        data = srx.Trajectories(DATA.ts, ys, DATA.mask, DATA.names, DATA.run_names)
        return compiled(cubic, data)

    expected = of_constant(0.125)  # which is not
    assert expected > 0.1
    np.testing.assert_allclose(of_constant(0.1), expected, rtol=1e-12)


def test_what_is_no_sample_enters_neither_value_nor_gradient():
    model = srx.Polynomial(2, degree=3)
    model = eqx.tree_at(lambda m: m.coefficients, model, model.coefficients + 0.1)
    ys = np.where(DATA.mask[..., None], DATA.ys, np.nan)
    data = srx.Trajectories(DATA.ts, ys, DATA.mask, DATA.names, DATA.run_names)
    value = penalty_and_gradient
    (found, gradient), (expected, _) = value(model, data), value(model, DATA)
    assert found == expected > 0
    assert np.all(np.isfinite(gradient.coefficients))


class Root(eqx.Module):
    """y' = -k sqrt(y), which has no value below zero."""

    k: jax.Array

    def __call__(self, t, y, args):
        return -self.k * jnp.sqrt(y)


def test_samples_near_the_edge_of_the_domain_are_left_out():
    ys = np.array([0.01, 0.3, 0.8, 1.2, 1.5])
    data = srx.Trajectories.from_arrays(TS[:5], ys[:, None])
    d = 0.7 * ys.std() * np.asarray(jax.random.normal(jax.random.key(0), (1, 5, 1))).ravel()
    inside = ys > np.abs(d)
    assert 0 < inside.sum() < 5
    y, d = ys[inside], d[inside]
    rough = np.sum(((y + d) ** -0.5 - 2 * y**-0.5 + (y - d) ** -0.5) ** 2)
    value, gradient = penalty_and_gradient(Root(jnp.array(3.0)), data)
    np.testing.assert_allclose(value, 2 * rough / np.sum(1 / y), rtol=1e-10)
    # The denominator is held.
    np.testing.assert_allclose(gradient.k, 2 * value / 3, rtol=1e-10)


def test_where_no_sample_is_left_there_is_no_penalty():
    assert np.isnan(compiled(Root(jnp.array(3.0)), srx.Trajectories.from_arrays(TS, -TS[:, None])))


def test_minibatches_are_windows_of_the_loss_it_is_added_to():
    assert (srx.SegmentLoss(window=5) + srx.RoughnessPenalty()).window == 5
    assert (srx.SegmentLoss(window=5) + 0.1 * srx.RoughnessPenalty()).window == 5


def test_it_scales_and_adds_like_a_loss():
    # Of -k sqrt(y) at one sample.
    model, data = Root(jnp.array(3.0)), srx.Trajectories.from_arrays(TS, 2 + TS[:, None])
    losses = PENALTY, 3 * PENALTY, PENALTY + 0.5 * PENALTY
    alone, scaled, added = eqx.filter_jit(lambda model: [loss(model, data) for loss in losses])(
        model
    )
    assert alone > 0
    np.testing.assert_allclose([scaled, added], [3 * alone, 1.5 * alone], rtol=1e-14)


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"size": -1.0}])
def test_wrong_option_is_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}="):
        srx.RoughnessPenalty(**options)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_single_precision_has_the_same_in_every_unit(unit):
    def penalty(unit):
        ys = (unit * np.asarray(DATA.ys)).astype(np.float32)
        data = srx.Trajectories(
            np.asarray(DATA.ts), jnp.asarray(ys), DATA.mask, DATA.names, ("0", "1")
        )
        unit = jnp.float32(unit)
        return PENALTY(lambda t, y, args: unit * cubic(t, y / unit, args), data)

    np.testing.assert_allclose(penalty(unit), penalty(1.0), rtol=1e-3)


@pytest.mark.parametrize("rate", [1e-20, 1e20])
def test_single_precision_has_the_same_in_every_unit_of_time(rate):
    ys = np.linspace(1.0, 2.0, 5)[:, None]
    with jax.enable_x64(False):
        data = srx.Trajectories.from_arrays(np.arange(5) / rate, ys)
        found = srx.RoughnessPenalty()(lambda t, y, args: jnp.float32(rate) * y**3, data)
    d = 0.5 * np.std(ys) * jax.device_get(jax.random.normal(jax.random.key(0), (5,), np.float32))
    expected = 1e-2 * np.sum((6 * d**2) ** 2) / np.sum((3 * ys**2) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
