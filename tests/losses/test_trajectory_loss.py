"""TrajectoryLoss: adaptive solves through the samples."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.array([0.0, 0.01, 0.1, 0.5, 2.0])
SCALE = [1.0, 0.1]


class Decay(eqx.Module):
    """y' = -rate y, and a pole: y2' = y2^2, which ends a run that starts above 1/2 before t = 2."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([-self.rate * y[0], y[1] ** 2])


def solution(ts, y0):
    return np.stack([y0[0] * np.exp(-30 * ts), y0[1] / (1 - ts * y0[1])], axis=1)


def samples(starts=((1.0, 0.1), (2.0, -0.3)), lengths=(5, 3)):
    runs = [(TS[:k], solution(TS[:k], y0)) for y0, k in zip(starts, lengths, strict=True)]
    return srx.Trajectories.from_arrays(*zip(*runs, strict=True))


MODEL = Decay(jnp.array(30.0))
OTHER = Decay(jnp.array(10.0))


def loss(**options):
    options = {"rtol": 1e-6, "max_steps": 200} | options
    return srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMSE(SCALE), **options)


value = eqx.filter_jit(lambda loss, model, data: loss(model, data))


@functools.cache
def compiled():
    @eqx.filter_jit
    def both(model, data):
        def value_of(model):
            found = loss().evaluate(model, data)
            return found.value, found.num_failed

        (value, failed), gradient = eqx.filter_value_and_grad(value_of, has_aux=True)(model)
        return value, failed, gradient.rate

    return both


def test_the_true_model_has_no_loss_and_a_wrong_one_has():
    data = samples()
    assert value(loss(), MODEL, data) < 1e-10
    expected = [
        (np.exp(-10 * t) - np.exp(-30 * t)) * y0 for y0, k in ((1.0, 5), (2.0, 3)) for t in TS[1:k]
    ]
    np.testing.assert_allclose(
        value(loss(), OTHER, data), np.sum(np.square(expected)) / (2 * len(expected)), rtol=1e-3
    )


@pytest.mark.slow
def test_gradient_is_that_of_central_differences():
    data = samples()
    _, _, gradient = compiled()(OTHER, data)
    up, down = (compiled()(Decay(jnp.array(10.0 + d)), data)[0] for d in (1e-2, -1e-2))
    np.testing.assert_allclose(gradient, (up - down) / 2e-2, rtol=1e-3)


@pytest.mark.slow
def test_a_run_that_fails_is_counted_and_leaves_the_others_alone():
    healthy = srx.Trajectories.from_arrays(TS, np.stack([solution(TS, (1.0, 0.1))] * 2))
    ys = healthy.ys.copy()
    ys[1, 0, 1] = 0.9  # beyond the pole at t = 1.1
    broken = srx.Trajectories.from_arrays(TS, ys)
    value, failed, gradient = compiled()(OTHER, broken)
    of_two, none, twice = compiled()(OTHER, healthy)
    assert (int(failed), int(none)) == (1, 0)
    assert np.isfinite(value)
    # As if there were the other run only.
    np.testing.assert_allclose(gradient, twice, rtol=1e-12)
    np.testing.assert_allclose(value, of_two, rtol=1e-12)
    assert loss()(OTHER, broken) == np.inf
    cause = loss().first_failure(OTHER, broken)
    assert cause.startswith("the solve of run 1 from t = 0: The maximum number of")


@pytest.mark.slow
def test_runs_of_different_lengths_are_solved_to_their_own_ends():
    # The second run would meet its pole before the last time of the first.
    data = samples(starts=((1.0, 0.1), (2.0, 0.9)), lengths=(5, 3))
    value, failed, _ = compiled()(MODEL, data)
    assert failed == 0
    assert value < 1e-8


@pytest.mark.slow
def test_one_run_gives_what_it_gives_in_a_batch():
    data = samples()
    alone = [loss().evaluate(OTHER, data.select([i])).value for i in (0, 1)]
    together = loss().evaluate(OTHER, data).value
    np.testing.assert_allclose(together, (4 * alone[0] + 2 * alone[1]) / 6, rtol=1e-6)


@pytest.mark.slow
def test_windows_start_anew_from_samples():
    data = samples()
    windows = loss(window=1).evaluate(OTHER, data)
    expected = [
        y0 * np.exp(-30 * ta) * (np.exp(-10 * (tb - ta)) - np.exp(-30 * (tb - ta)))
        for y0, k in ((1.0, 5), (2.0, 3))
        for ta, tb in zip(TS[: k - 1], TS[1:k], strict=True)
    ]
    mean = np.sum(np.square(expected)) / (2 * len(expected))
    np.testing.assert_allclose(windows.value, mean, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "adjoint"),
    [
        (srx.RadauIIA9(), srx.DiscreteAdjoint()),
        (srx.RadauIIA5(), diffrax.RecursiveCheckpointAdjoint()),
        (diffrax.Kvaerno5(), None),
        (diffrax.Tsit5(), None),
    ],
    ids=["RadauIIA9", "checkpoints", "Kvaerno5", "Tsit5"],
)
def test_other_solvers_and_adjoints_give_the_same_gradient(solver, adjoint):
    data = samples()
    other = srx.TrajectoryLoss(solver, srx.ScaledMSE(SCALE), rtol=1e-6, adjoint=adjoint)
    gradient = eqx.filter_jit(eqx.filter_grad(other))(OTHER, data).rate
    np.testing.assert_allclose(gradient, compiled()(OTHER, data)[2], rtol=1e-3)


@pytest.mark.slow
def test_scale_of_the_data_is_the_default_for_error_and_tolerance():
    data = samples()
    default = srx.TrajectoryLoss(rtol=1e-6)
    given = srx.TrajectoryLoss(
        measure=srx.ScaledMSE(srx.Scaling.from_data(data).y_scale), rtol=1e-6
    )
    np.testing.assert_allclose(default(OTHER, data), given(OTHER, data), rtol=1e-12)


def test_predictions_are_the_solution_at_the_samples():
    data = samples()
    predicted = eqx.filter_jit(loss().predict)(MODEL, data)
    np.testing.assert_allclose(predicted[0], data.ys[0, 1:], atol=5e-6)


@pytest.mark.slow
def test_loss_maps_over_a_batch_of_models():
    data = samples()
    models = Decay(jnp.array([30.0, 10.0]))
    batch = eqx.filter_jit(eqx.filter_vmap(loss(), in_axes=(Decay(0), None)))(models, data)
    np.testing.assert_allclose(batch[1], loss()(OTHER, data), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": 0.0}, "rtol=0.0"),
        ({"atol": [1e-6, -1.0]}, "atol="),
        ({"max_steps": 0}, "`max_steps=0`"),
        ({"window": 0}, "`window=0`"),
        (
            {"controller": diffrax.ConstantStepSize()},
            "ConstantStepSize.*for fixed steps take `stiffrax.SegmentLoss.solver",
        ),
    ],
)
def test_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        loss(**options)


@pytest.mark.slow
def test_the_gradient_by_the_samples_is_that_of_the_errors():
    ts = np.array([0.0, 0.5, 1.0])
    data = srx.Trajectories.from_arrays(jnp.asarray(ts), jnp.array([1.0, 4.0, 2.0])[:, None])
    by_loss = srx.TrajectoryLoss(srx.BackwardEuler(), rtol=1e-2, max_steps=64)

    def by_samples(ys, evaluate):
        return evaluate(eqx.tree_at(lambda x: x.ys, data, ys))

    def exactly(data):
        ts, ys, mask = (jnp.asarray(x) for x in (data.ts, data.ys, data.mask))
        predicted = ys[:, :1] * jnp.exp(-ts[:, 1:, None])
        return srx.ScaledMSE().for_data(data)(predicted, ts[:, 1:], ys[:, 1:], mask[:, 1:])

    gradient = jax.jit(jax.grad(by_samples), static_argnums=1)
    found = gradient(data.ys, lambda data: by_loss(lambda t, y, args: -y, data))
    expected = gradient(data.ys, exactly)
    np.testing.assert_allclose(found, expected, rtol=0.03)


def test_a_run_that_becomes_no_number_in_fixed_steps_has_failed():
    ts = np.linspace(0.0, 2.0, 5)
    straight = srx.Trajectories.from_arrays(ts, (1 - 0.4 * ts)[:, None])
    stepped = srx.TrajectoryLoss(diffrax.Heun(), controller=diffrax.StepTo(ts))

    @eqx.filter_jit
    def evaluated(rate):
        def of(rate):
            found = stepped.evaluate(lambda t, y, args: -rate * jnp.sqrt(y - 0.7), straight)
            return found.value, found

        return jax.value_and_grad(of, has_aux=True)(rate)

    (_, found), slope = evaluated(jnp.array(1.4))
    assert (found.num_failed, found.num_solved) == (1, 0)
    assert slope == 0
    failure = stepped.first_failure(lambda t, y, args: -1.4 * jnp.sqrt(y - 0.7), straight)
    assert failure.endswith("the state is not finite")
