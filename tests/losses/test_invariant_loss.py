"""Lyapunov exponents and statistics of a model, as a loss."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses._invariant_loss import _moments_of, _statistics

TS = np.arange(40) * 0.2
CIRCLE = np.stack([np.cos(TS), np.sin(TS)], axis=1)
DATA = srx.Trajectories.from_arrays([TS, TS[:20]], [CIRCLE, CIRCLE[:20]])
TURN = np.array([[0.0, -1.0], [1.0, 0.0]])


class Spiral(eqx.Module):
    growth: jax.Array

    def __call__(self, t, y, args=None):
        return TURN @ y + self.growth * y


@eqx.filter_jit
def compiled(model, loss):
    return loss.evaluate(model, DATA)


def evaluate(growth, exponents=(0.0, 0.0), **options):
    options = {"time": 4.0, "interval": 0.2, "starts": 8} | options
    return compiled(Spiral(jnp.array(growth)), srx.InvariantLoss(exponents, **options))


def test_true_exponents_have_no_loss_and_wrong_ones_have():
    assert evaluate(0.0).value < 1e-8
    assert evaluate(0.3).value > 0.1


@pytest.mark.slow
def test_error_of_the_exponents_is_squared_and_weighted():
    np.testing.assert_allclose(evaluate(0.3).value, 2 * 0.3**2, rtol=1e-4)
    np.testing.assert_allclose(evaluate(0.3, weight=5.0).value, 10 * 0.3**2, rtol=1e-4)
    np.testing.assert_allclose(evaluate(0.3, (4.0,)).value, 3.7**2 / 16, rtol=1e-4)


@pytest.mark.slow
def test_gradient_is_exact():
    loss = srx.InvariantLoss([0.0, 0.0], time=1.0, interval=0.2, starts=3)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: loss(model, DATA)))
    np.testing.assert_allclose(gradient(Spiral(jnp.array(0.3))).growth, 4 * 0.3, rtol=1e-3)


def test_statistics_are_those_of_the_attractor():
    # 31 intervals after the burn-in are once round; the data are a little more.
    options = {"time": 2 * 31 * 0.2, "statistics": 1.0}
    same, shrunk = (evaluate(growth, (), **options).value for growth in (0.0, -0.2))
    assert same < 0.3 < 1.0 < shrunk


def test_a_state_that_is_constant_is_compared_in_units_of_itself():
    ys = jnp.array([[0.0, 3.0, 0.0], [2.0, 3.0, 0.0]])
    mask, good = jnp.ones(2, bool), jnp.ones(1, bool)
    assert _statistics(ys[None], good, _moments_of(ys[None], mask[None])) == 0
    # Means are off by 2 units of 3 and by 5 of 1; the first state has the deviation 1.
    moved = _statistics(
        ys[None] + jnp.array([[[0.0, 6.0, 5.0]]]), good, _moments_of(ys[None], mask[None])
    )
    np.testing.assert_allclose(moved, 29.0, rtol=1e-12)


def test_a_constant_state_of_a_solve_in_single_precision_is_constant_in_double_too():
    noise = np.float32(0.7) * (1 + np.array([0.0, 1.0, -1.0, 0.0]) * np.float32(1.2e-7))
    ys = jnp.stack([jnp.arange(4.0), jnp.asarray(noise.astype(np.float32), float)], axis=1)
    mask, good = jnp.ones(4, bool), jnp.ones(1, bool)
    assert (
        _statistics(ys[None] * jnp.array([[[1.0, 1.001]]]), good, _moments_of(ys[None], mask[None]))
        < 1e-5
    )


def test_a_start_that_fails_is_counted_and_left_out():
    def hole(t, y, args):
        return TURN @ y + jnp.where(t > 7.0, jnp.nan, 0.3) * y

    loss = srx.InvariantLoss([0.0, 0.0], time=1.0, interval=0.2, starts=6)
    value, failed, solved = eqx.filter_jit(lambda loss: loss.evaluate(hole, DATA))(loss)
    assert 0 < failed < 6
    assert failed + solved == 6
    np.testing.assert_allclose(value, 2 * 0.3**2, rtol=1e-3)


@pytest.mark.parametrize(
    ("exponents", "options", "message"),
    [
        ([0.0, 1.0], {}, "descending order"),
        ([np.nan], {}, "finite numbers"),
        ([0.0], {"burn_in": 4.0}, "must hold the burn-in"),
        ([0.0], {"interval": 0.0}, "`interval=0.0`"),
        ([0.0], {"time": np.inf}, "`time=inf`"),
        ([0.0], {"burn_in": np.nan}, "`burn_in=nan`"),
        ([0.0], {"starts": 0}, "`starts=0`"),
        ([0.0], {"weight": -1.0}, "`weight=-1.0` was given; it needs finite numbers"),
        ([0.0], {"weight": [np.nan]}, "`weight=.*not negative"),
        ([], {"weight": 3.0, "statistics": 1.0}, "was given for 0 exponents"),
        ([0.0], {"statistics": -1.0}, "`statistics=-1.0`"),
    ],
)
def test_wrong_option_is_named(exponents, options, message):
    options = {"time": 4.0, "interval": 0.2} | options
    with pytest.raises(ValueError, match=message):
        srx.InvariantLoss(exponents, **options)


def test_more_exponents_than_states_are_refused():
    with pytest.raises(ValueError, match="for 2 states"):
        evaluate(0.0, (0.0, 0.0, 0.0))


def test_one_weight_is_that_of_all_exponents():
    given = {"time": 1.0, "interval": 0.1}
    assert np.shape(srx.InvariantLoss([0.0, -1.0], **given, weight=[2.0]).weight) == (1,)


def test_weights_of_another_number_than_the_exponents_are_refused():
    with pytest.raises(ValueError, match=r"`weight` of shape \(2,\) was given for 1 exponents"):
        srx.InvariantLoss([-1.0], time=1.0, interval=0.1, weight=[1.0, 2.0])


@pytest.mark.slow
def test_statistics_of_a_batch_are_compared_with_those_of_all_data():
    ts, ys = np.arange(3.0), np.ones((2, 3, 1)) * np.array([1.0, 3.0])[:, None, None]
    whole, part = (srx.Trajectories.from_arrays(ts, x) for x in (ys, ys[:1]))
    loss = srx.InvariantLoss((), time=1.0, interval=0.5, statistics=1.0, solver=diffrax.Euler())
    # Mean and variance are 2 and 1, and of the model that stays where it is 1 and 0.
    np.testing.assert_allclose(loss.for_data(whole)(lambda t, y, args: 0 * y, part), 2.0)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="so that nothing is compared. Write `statistics=1.0`"):
        srx.InvariantLoss((), time=1.0, interval=0.1)
