"""Batches of solves by explicit methods, in which one run fails by overflow."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses._solve_runs import solve_runs

TS = np.linspace(0.0, 0.2, 5)
ONES = np.array([1.0, 1.0])


class Steep(eqx.Module):
    """y' = -rate y; above 1/2 the second state grows without bounds within the first steps."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([-self.rate * y[0], self.rate * jnp.exp(50 * (y[1] - 0.5))])


MODEL = Steep(jnp.array(3.0))
EXPLICIT = srx.TrajectoryLoss(diffrax.Tsit5(), srx.ScaledMSE(ONES), rtol=1e-4, max_steps=20)


def samples(*seconds):
    ys = [np.stack([np.exp(-2 * TS), np.full(5, second)], axis=1) for second in seconds]
    return srx.Trajectories.from_arrays(TS, np.stack(ys))


@eqx.filter_jit
def compiled(loss, data):
    def value_and_failures(model):
        value = loss.evaluate(model, data)
        return value.value, value.num_failed

    return eqx.filter_value_and_grad(value_and_failures, has_aux=True)(MODEL)


def value_and_gradient(loss, data):
    (value, failed), gradient = compiled(loss.for_data(data), data)
    return float(value), int(failed), float(gradient.rate)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(EXPLICIT, id="trajectory"),
        pytest.param(
            srx.HomotopyLoss(EXPLICIT, 0.1, strength=1.0), id="homotopy", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_that_overflows_leaves_the_gradient_of_the_others(loss):
    broken = value_and_gradient(loss, samples(0.1, 0.9))
    healthy = value_and_gradient(loss, samples(0.1, 0.1))
    assert (broken[1], healthy[1]) == (1, 0)
    # The failed run takes no part in the mean, and the two healthy ones are alike.
    np.testing.assert_allclose(broken[::2], healthy[::2], rtol=1e-10)
    assert healthy[2] != 0


@pytest.mark.parametrize(
    "adjoint",
    [
        diffrax.RecursiveCheckpointAdjoint(),
        diffrax.BacksolveAdjoint(),
        diffrax.DirectAdjoint(),
        diffrax.ImplicitAdjoint(),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("starts", [(800.0,), (800.0, 900.0), (800.0, 0.5)], ids=len)
def test_a_failed_run_gives_no_gradient_with_any_adjoint_of_diffrax(adjoint, starts):
    starts = jnp.array(starts)

    def total(rate):
        def solve(start):
            predicted = jnp.exp(rate * start)[None]
            return predicted, ~jnp.isfinite(predicted[0])

        predicted, failed = solve_runs(solve, adjoint, starts)
        return jnp.sum(jnp.where(failed[:, None], 0, predicted)), failed

    gradient, failed = jax.jit(jax.jacrev(total, has_aux=True))(jnp.array(1.0))
    np.testing.assert_array_equal(failed, starts > 1)
    expected = jnp.sum(jnp.where(failed, 0, starts * jnp.exp(jnp.where(failed, 0, starts))))
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


@pytest.mark.slow_cases("BacksolveAdjoint")
@pytest.mark.parametrize(
    "adjoint",
    [
        diffrax.RecursiveCheckpointAdjoint(),
        diffrax.BacksolveAdjoint(),
        pytest.param(diffrax.DirectAdjoint(), marks=pytest.mark.slow),
    ],
    ids=lambda x: type(x).__name__,
)
def test_losses_take_the_adjoints_of_diffrax(adjoint):
    own = srx.TrajectoryLoss(
        diffrax.Tsit5(), srx.ScaledMSE(ONES), rtol=1e-8, adjoint=diffrax.ForwardMode()
    )
    loss = eqx.tree_at(lambda x: x.adjoint, own, adjoint)
    data = samples(0.1, 0.1)
    found = eqx.filter_jit(eqx.filter_grad(loss))(MODEL, data).rate
    # The second state stays where it is.
    ts = TS[1:]
    missed = np.exp(-3 * ts) - np.exp(-2 * ts)
    np.testing.assert_allclose(found, -np.mean(missed * ts * np.exp(-3 * ts)), rtol=1e-5)


def test_whether_all_failed_may_be_asked_while_runs_are_differentiated():
    def total(rate):
        def solve(start):
            predicted = jnp.exp(rate * start)[None]
            return predicted, ~jnp.isfinite(predicted[0])

        starts = jnp.array([0.5, 800.0])
        predicted, failed = solve_runs(solve, diffrax.RecursiveCheckpointAdjoint(), starts)
        return jnp.where(jnp.all(failed), 0, predicted[0, 0])

    np.testing.assert_allclose(jax.grad(total)(1.0), 0.5 * np.exp(0.5), rtol=1e-12)


def test_derivatives_in_forward_mode_pass_a_failed_run_of_direct_steps():
    def total(rate):
        def solve(start):
            predicted = jnp.exp(rate * start)[None]
            return predicted, ~jnp.isfinite(predicted[0])

        predicted, failed = solve_runs(solve, diffrax.DirectAdjoint(), jnp.array([800.0, 0.5]))
        return jnp.sum(jnp.where(failed[:, None], 0, predicted))

    second = jax.jit(jax.jacrev(jax.jacrev(total)))(jnp.array(1.0))
    first = jax.jit(jax.jacfwd(total))(jnp.array(1.0))
    np.testing.assert_allclose(first, 0.5 * np.exp(0.5), rtol=1e-12)
    np.testing.assert_allclose(second, 0.25 * np.exp(0.5), rtol=1e-12)
