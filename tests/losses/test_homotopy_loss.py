"""The error of solutions that are drawn toward the samples."""

import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.linspace(0.0, 2.0, 9)
WRONG = srx.Polynomial(1, degree=1, coefficients=[[0.0, 2.0]])


def samples(*starts):
    ys = np.stack([y0 * np.exp(-TS)[:, None] for y0 in starts])
    return srx.Trajectories.from_arrays(TS, ys)


ONE, TWO = samples(1.0), samples(1.0, 3.0)
TRAJECTORY = srx.TrajectoryLoss(diffrax.Tsit5(), srx.ScaledMSE([1.0]), rtol=1e-6, max_steps=64)


def loss(strength=1.0, **options):
    return srx.HomotopyLoss(TRAJECTORY, 9.0, strength=strength, **options)


@eqx.filter_jit
def value_of(loss, model, data):
    return loss.evaluate(model, data).value


@functools.cache
def compiled():
    return eqx.filter_jit(eqx.filter_value_and_grad(lambda model, loss: loss(model, ONE)))


@pytest.mark.slow
def test_strength_zero_is_the_loss_of_the_trajectory():
    np.testing.assert_allclose(
        value_of(loss(0.0).for_data(ONE), WRONG, ONE), TRAJECTORY(WRONG, ONE), rtol=1e-10
    )


def test_coupled_error_is_that_of_the_closed_form():
    # u' = 2 u - 9 (u - e^-t) from 1: u = (9 e^-t - 3 e^(-7 t)) / 6.
    u = (9 * np.exp(-TS) - 3 * np.exp(-7 * TS)) / 6
    expected = np.mean((u - np.exp(-TS))[1:] ** 2)
    np.testing.assert_allclose(value_of(loss().for_data(ONE), WRONG, ONE), expected, rtol=1e-2)


@pytest.mark.slow
def test_gradient_is_that_of_central_differences():
    fixed = loss(0.3).for_data(ONE)
    _, gradient = compiled()(WRONG, fixed)
    up, down = (
        compiled()(eqx.tree_at(lambda m: m.coefficients, WRONG, WRONG.coefficients + d), fixed)[0]
        for d in (jnp.array([[0.0, 1e-4]]), jnp.array([[0.0, -1e-4]]))
    )
    np.testing.assert_allclose(gradient.coefficients[0, 1], (up - down) / 2e-4, rtol=1e-3)


def test_one_program_serves_every_strength():
    fixed = loss(1.0).for_data(ONE)
    count = []

    @eqx.filter_jit
    def value(loss):
        count.append(1)
        return loss(WRONG, ONE)

    values = [float(value(fixed.with_strength(s))) for s in (1.0, 0.5, 0.0)]
    assert len(count) == 1
    assert values == sorted(values)


def test_each_run_is_drawn_to_its_own_samples():
    both = value_of(loss().for_data(TWO), WRONG, TWO)
    one = value_of(loss().for_data(ONE), WRONG, ONE)
    # The equation is linear: three times the state, nine times the error.
    np.testing.assert_allclose(both, one * (1 + 9) / 2, rtol=1e-4)


def test_a_run_that_fails_is_counted_and_leaves_the_others_alone():
    def explosive(t, y, args):
        return y**3

    evaluate = eqx.filter_jit(lambda loss, data: loss.evaluate(explosive, data))
    mixed, fine = samples(0.1, 3.0), samples(0.1, 0.2)
    broken, healthy = (evaluate(loss(0.0).for_data(data), data) for data in (mixed, fine))
    assert (int(broken.num_failed), int(healthy.num_failed)) == (1, 0)
    assert np.isfinite(broken.value)


def test_in_a_sum_it_is_fixed_to_the_data():
    total: Any = loss() + (lambda model, data: 2 * model.coefficients[0, 1])
    fixed = total.for_data(ONE).losses[0]
    assert eqx.tree_equal(fixed, loss().for_data(ONE))
    assert not eqx.tree_equal(fixed, loss())


@pytest.mark.slow
def test_loss_is_added_to_others():
    total = loss() + (lambda model, data: 2 * model.coefficients[0, 1])
    expected = value_of(loss().for_data(ONE), WRONG, ONE) + 4
    np.testing.assert_allclose(value_of(total.for_data(ONE), WRONG, ONE), expected, rtol=1e-10)


def test_coupling_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="`coupling` of shape"):
        srx.HomotopyLoss(TRAJECTORY, np.ones(2))(WRONG, ONE)


def test_coupling_of_another_name_is_refused():
    with pytest.raises(ValueError, match="`coupling='strong'` was given; it needs `\"auto\"`"):
        srx.HomotopyLoss(TRAJECTORY, "strong")


def test_chosen_coupling_is_twice_the_largest_rate_in_standard_deviations():
    ts = np.linspace(0.0, 2 * np.pi, 201)
    # Rates of sqrt(2) / 2 over the same deviation; the others do not change, or by rounding alone.
    ys = np.stack([np.sin(ts), 5 * np.cos(3 * ts), np.ones_like(ts), np.ones_like(ts)], axis=1)
    ys[:, 3] += np.sin(3 * ts) + ts - ts - np.sin(3 * ts)
    assert 0 < np.ptp(ys[:, 3]) < 1e-14
    chosen = lambda ts, ys: (
        srx.HomotopyLoss(srx.TrajectoryLoss())
        .for_data(srx.Trajectories.from_arrays(ts, ys))
        .coupling
    )
    np.testing.assert_allclose(chosen(ts, ys), 6.0, rtol=1e-2)
    np.testing.assert_allclose(chosen(60 * ts, 1e-9 * ys), 0.1, rtol=1e-2)


def test_chosen_coupling_is_that_of_all_runs_of_any_length():
    runs = [TWO.ys[0], TWO.ys[1, :6]]
    data = srx.Trajectories.from_arrays([TS, TS[:6]], runs)
    found = srx.HomotopyLoss(TRAJECTORY).for_data(data).coupling
    slopes, spread = np.concatenate([ys[:-1] for ys in runs]), np.std(np.concatenate(runs))
    np.testing.assert_allclose(found, 2 * np.sqrt(np.mean(slopes**2)) / spread, rtol=0.05)


def test_windows_are_refused():
    with pytest.raises(ValueError, match="`window=3`"):
        srx.HomotopyLoss(srx.TrajectoryLoss(window=3), 1.0)


def test_minibatches_are_refused():
    with pytest.raises(ValueError, match="2 runs were given to a loss with splines of 1"):
        loss().for_data(ONE)(WRONG, TWO)


def test_a_run_too_short_for_a_spline_is_refused():
    short = srx.Trajectories.from_arrays(TS[:3], jax.device_get(ONE.ys)[0, :3])
    with pytest.raises(ValueError, match="3 samples were given"):
        loss()(WRONG, short)


@pytest.mark.slow
def test_a_coupling_from_the_data_is_found_where_the_loss_is_called():
    auto = srx.HomotopyLoss(TRAJECTORY)
    np.testing.assert_allclose(auto(WRONG, ONE), auto.for_data(ONE)(WRONG, ONE), rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-12, 1e15])
def test_chosen_coupling_has_its_digits_in_single_precision(unit):
    with jax.enable_x64(False):
        data = srx.Trajectories.from_arrays(1e11 * TS, unit * jax.device_get(ONE.ys))
        found = 1e11 * srx.HomotopyLoss(TRAJECTORY).for_data(data).coupling
    expected = srx.HomotopyLoss(TRAJECTORY).for_data(ONE).coupling
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_other_samples_at_the_same_times_are_refused():
    with pytest.raises(ValueError, match="Other samples .* with splines .* `loss.for_data"):
        loss().for_data(ONE)(WRONG, samples(3.0))


def test_traced_data_have_no_values_to_be_fixed_to():
    with pytest.raises(ValueError, match="`loss = loss.for_data.data.` outside of `jax.jit`"):
        eqx.filter_jit(loss())(WRONG, ONE)


@pytest.mark.usefixtures("unchecked_types")
def test_another_loss_than_that_of_trajectories_is_refused():
    with pytest.raises(ValueError, match="`trajectory` is a SegmentLoss"):
        srx.HomotopyLoss(srx.SegmentLoss())
