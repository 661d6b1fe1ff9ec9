"""ScaledField: dy/dt = net(x) y_scale / t_scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

Y_SCALE, T_SCALE = [1.0, 3.6e-5, 2.0], 1e5
Y = jnp.array([0.5, 1e-5, -3.0])


def network(inputs=3, outputs=3):
    return eqx.nn.MLP(inputs, outputs, 5, 2, jax.nn.gelu, key=jax.random.key(0))


def scaled(net=None, **options):
    return srx.ScaledField(network() if net is None else net, Y_SCALE, T_SCALE, **options)


def test_rates_are_the_network_times_the_scales():
    expected = network()(Y) * np.array(Y_SCALE) / T_SCALE
    np.testing.assert_allclose(scaled()(0.0, Y), expected, rtol=1e-14)


def test_scales_are_no_parameters():
    trained = jax.tree.leaves(eqx.filter(scaled(), eqx.is_inexact_array))
    assert len(trained) == len(jax.tree.leaves(eqx.filter(network(), eqx.is_inexact_array)))


def test_models_of_equal_scales_share_a_compiled_program():
    calls = []

    @eqx.filter_jit
    def rates(model, y):
        calls.append(1)
        return model(0.0, y)

    rates(scaled(), Y)
    rates(scaled(), 2 * Y)
    assert len(calls) == 1


def test_scaled_states_are_of_order_one():
    expected = [0.5, 1e-5 / 3.6e-5, -1.5]
    np.testing.assert_allclose(scaled(states="scaled").features(0.0, Y), expected)


def test_logarithm_separates_small_states_and_grows_by_decades():
    model = scaled(states="log", floor=1e-8)
    x = jnp.array([1e-2, 1e-3, 1e-4])
    steps = np.diff([model.features(0.0, jnp.array([v, 0.0, 0.0]))[0] for v in x])
    np.testing.assert_allclose(steps, -np.log(10) / np.log(2e8), rtol=1e-6)


def test_logarithm_of_negative_and_zero_states_is_smooth():
    model = scaled(states="log")
    y = jnp.array([0.0, -1e-30, -1.0])
    x, slope = jax.jvp(lambda y: model.features(0.0, y), (y,), (jnp.ones(3),))
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(x[0], 0.0)
    assert x[2] < 0


def test_logarithm_of_a_state_of_its_size_is_one():
    x = scaled(states="log").features(0.0, jnp.array(Y_SCALE))
    np.testing.assert_allclose(x, 1.0, rtol=1e-12)


def test_logarithm_of_the_time_is_the_last_feature():
    model = scaled(network(inputs=4), log_time=True)
    np.testing.assert_allclose(model.features(T_SCALE, Y), [*Y, 1.0], rtol=1e-12)


def test_logarithmic_clock_gives_rates_by_the_chain_rule():
    model, y = scaled(network(inputs=4), log_time=True, floor=1e-4), jnp.asarray(Y)
    for t in (0.0, 3.0, 5e4):
        clock = jax.grad(lambda t: model.features(t, y)[-1])(t)
        expected = model.net(model.features(t, y)) * np.array(Y_SCALE) * clock
        np.testing.assert_allclose(model(t, y), expected, rtol=1e-10)


def test_logarithmic_clock_takes_as_much_of_every_decade():
    ones = srx.ScaledField(lambda x: jnp.ones(3), Y_SCALE, T_SCALE, log_time=True, floor=1e-8)
    np.testing.assert_allclose(1e2 * ones(1e2, Y), 1e4 * ones(1e4, Y), rtol=1e-6)


def test_the_clock_of_runs_that_start_elsewhere_begins_there():
    here, there = (
        scaled(network(inputs=4), log_time=True, floor=1e-4, t0=t0) for t0 in (0.0, 1000.0)
    )
    for t in (0.0, 3.0, 5e4):
        np.testing.assert_allclose(there(1000.0 + t, Y), here(t, Y), rtol=1e-10)


def test_a_model_of_stiffrax_is_a_network_too():
    polynomial = srx.Polynomial(3, 1, coefficients=[[0, -1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2.0]])
    expected = np.array([-0.5, 0.5, -6.0]) * Y_SCALE / T_SCALE
    np.testing.assert_allclose(scaled(polynomial)(0.0, Y), expected)


def test_single_precision_stays_single():
    model = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x,
        scaled(network(inputs=4), states="log", log_time=True),
    )
    assert model(jnp.float32(1.0), Y.astype(jnp.float32)).dtype == jnp.float32


def test_model_is_mapped_over_batches():
    batch = jnp.stack([Y, 2 * Y])
    rates = jax.vmap(scaled(), in_axes=(None, 0))(0.0, batch)
    np.testing.assert_allclose(rates[1], scaled()(0.0, 2 * Y), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scaled(states="logarithm"), "states='logarithm'"),
        (lambda: scaled(t0=1.0, states="log"), "`t0` or `floor` was given without"),
        (lambda: scaled(floor=1e-8), "`t0` or `floor` was given without"),
        (lambda: scaled(floor=0.0), r"`floor=\[0.0\]`"),
        (lambda: srx.ScaledField(network(), [1.0, 0.0], 1.0), "`y_scale="),
        (lambda: srx.ScaledField(network(), [1.0], -1.0), "`t_scale="),
        (lambda: scaled(network(outputs=2))(0.0, Y), r"returned shape \(2,\).*3 states"),
        (lambda: scaled()(0.0, Y[:2]), r"shape \(3,\), got shape \(2,\)"),
    ],
)
def test_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_learned_part_of_a_model_feeds_fewer_states_than_it_sees():
    part = srx.ScaledField(network(2, 1), [1.0, 2.0], T_SCALE, output_scale=[3.6e-5])
    model = srx.PartiallyKnown(
        lambda t, y, args: -y, part, inputs=(0, 2), outputs=(1,), num_states=3
    )
    expected = -np.asarray(Y)
    expected[1] += network(2, 1)(Y[np.array([0, 2])])[0] * 3.6e-5 / T_SCALE
    np.testing.assert_allclose(model(0.0, Y), expected, rtol=1e-12)


def test_a_size_of_an_output_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="`output_scale="):
        scaled(output_scale=[0.0])


def test_scales_are_saved_with_the_weights(tmp_path):
    def model(y_scale, t_scale, t0, seed):
        net = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(seed))
        return srx.ScaledField(net, y_scale, t_scale, log_time=True, floor=t_scale / 10, t0=t0)

    saved = model([2.0], 3.0, 0.5, 0)
    eqx.tree_serialise_leaves(tmp_path / "model.eqx", saved)
    found = eqx.tree_deserialise_leaves(tmp_path / "model.eqx", model([1.0], 1.0, 0.0, 1))
    assert eqx.tree_equal(found, saved)


def test_a_model_of_arrays_and_scales_is_an_argument_of_jit_and_vmap():
    model = srx.ScaledField(
        srx.Polynomial(1, degree=1, coefficients=[[0.0, -1.0]]), [2.0], 3.0, states="log"
    )
    rates = lambda model: model(0.5, jnp.array([0.7]))
    both = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), model)
    np.testing.assert_allclose(jax.jit(rates)(model), rates(model), rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(rates)(both)[1], rates(model), rtol=1e-14)


def test_a_network_of_one_needed_argument_is_called_by_it_alone():
    def net(x, gain=2.0, shift=0.0):
        return gain * x + shift

    model = srx.ScaledField(net, Y_SCALE, T_SCALE)
    np.testing.assert_allclose(model(7.0, Y), 2 * Y * jnp.array(Y_SCALE) / T_SCALE, rtol=1e-12)
    of_time = srx.ScaledField(lambda t, x, *rest: t * x, Y_SCALE, T_SCALE)
    np.testing.assert_allclose(of_time(7.0, Y), 7 * Y * jnp.array(Y_SCALE) / T_SCALE, rtol=1e-12)


def test_whole_states_are_numbers_like_others():
    net = lambda x: 2.0 + x
    model = srx.ScaledField(net, y_scale=[1.0, 1e-3], t_scale=0.5)
    y = np.array([1, 0])
    np.testing.assert_allclose(model(0.0, jnp.asarray(y)), model(0.0, jnp.asarray(y, float)))


def test_small_states_change_over_long_times_in_single_precision():
    options = {"y_scale": [1e-26, 1.0], "t_scale": 1e13, "states": "log", "log_time": True}
    rates = lambda: srx.ScaledField(lambda x: 1 + x[:2], **options)(0.0, jnp.array([1e-26, 1.0]))
    expected = np.asarray(rates())
    with jax.enable_x64(False):
        found = rates()
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_clock_and_slopes_of_logarithms_are_right_far_above_a_small_floor_in_single_precision():
    with jax.enable_x64(False):
        y, options = jnp.ones(1), {"states": "log", "log_time": True, "floor": 1e-20}
        model = srx.ScaledField(lambda x: jnp.ones(1), [1.0], 1.0, **options)
        expected = 1 / np.arcsinh(1e20)
        np.testing.assert_allclose(model(1.0, y), [expected], rtol=1e-5)
        slopes = jax.jacrev(lambda y: model.features(1.0, y))(y)
        np.testing.assert_allclose(slopes, [[expected], [0.0]], rtol=1e-5)
