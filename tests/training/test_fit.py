"""fit: any optax optimizer, minibatches, early stopping, faults."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stiffrax as srx
import stiffrax.training._fit as fit_module
import stiffrax.training._session as session_module
from stiffrax.training._parameter_vector import FreeParameters, ParameterVector

TS = np.array([0.0, 0.1, 0.3, 0.7])
STARTS = np.array([[1.0, 1.0], [2.0, 0.5], [0.5, 1.5], [1.5, 1.0]])
RATES = np.array([1.0, 3.0])
DATA = srx.Trajectories.from_arrays(TS, STARTS[:, None] * np.exp(-np.outer(TS, RATES))[None])


class Decay(eqx.Module):
    rates: jax.Array

    def __call__(self, t, y, args=None):
        return -self.rates * y


MODEL = Decay(jnp.array([0.5, 0.5]))


def exact(model, data):
    """The trajectory loss of a linear model, without a solver."""
    elapsed = (data.ts - data.ts[:, :1])[..., None]
    error = data.ys[:, :1] * jnp.exp(-model.rates[None, None] * elapsed) - data.ys
    return jnp.sum(jnp.where(data.mask[..., None], error**2, 0)) / jnp.sum(
        jnp.asarray(data.mask, float)
    )


OPTIMIZER = optax.adam(0.05)  # one object, so that nothing compiles twice


def run(loss=exact, model=MODEL, data=DATA, **options):
    options = {"optimizer": OPTIMIZER, "steps": 40, "progress": False} | options
    return srx.fit(model, data, loss, **options)


of_exact = eqx.filter_jit(eqx.filter_value_and_grad(exact))


def hand_written(steps, optimizer):
    model, history = MODEL, []
    state = optimizer.init(model)
    for _ in range(steps):
        value, gradient = of_exact(model, jax.tree.map(jnp.asarray, DATA))
        history.append(float(value))
        with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
            updates, state = optimizer.update(gradient, state, model)
        model = eqx.apply_updates(model, updates)
    return model, history


def test_fit_is_the_loop_a_user_would_write():
    model, history = hand_written(40, OPTIMIZER)
    result = run()
    np.testing.assert_allclose(result.history.loss, history, rtol=1e-10)
    np.testing.assert_allclose(result.last_model.rates, model.rates, rtol=1e-10)


@pytest.mark.slow
def test_segment_loss_recovers_the_rates():
    result = run(srx.SegmentLoss(srx.RadauIIA5()), steps=400)
    np.testing.assert_allclose(result.model.rates, RATES, rtol=1e-3)


def test_best_model_is_returned_when_the_last_is_worse():
    result = run(optimizer=optax.sgd(30.0), steps=6)
    assert result.loss == np.min(result.history.loss)
    np.testing.assert_allclose(exact(result.model, DATA), result.loss, rtol=1e-10)
    assert exact(result.last_model, DATA) > result.loss


def test_learning_rate_schedules_and_clipping_are_those_of_optax():
    schedule = optax.cosine_decay_schedule(0.1, 40)
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(schedule))
    model, _ = hand_written(40, optimizer)
    result = run(optimizer=optimizer)
    np.testing.assert_allclose(result.last_model.rates, model.rates, rtol=1e-10)


@pytest.mark.slow
def test_line_searches_get_the_value_they_ask_for():
    result = run(optimizer=optax.lbfgs(), steps=15)
    np.testing.assert_allclose(result.model.rates, RATES, rtol=1e-6)


def test_gradient_norm_is_recorded_before_clipping():
    result = run(optimizer=optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0)), steps=2)
    gradient = jax.grad(exact)(MODEL, jax.tree.map(jnp.asarray, DATA))
    expected = np.linalg.norm(gradient.rates)
    np.testing.assert_allclose(result.history.gradient_norm[0], expected, rtol=1e-10)


def test_minibatches_show_every_run_once_before_any_comes_again():
    def starts(model, data):
        return (
            jnp.sum(data.ys[:, 0, 0] * 10.0 ** jnp.arange(float(len(data.ys)))) + 0 * model.rates[0]
        )

    seen = run(starts, batch_size=1, steps=8).history.loss
    assert sorted(seen[:4]) == sorted(seen[4:]) == sorted(STARTS[:, 0])
    assert list(seen[:4]) != list(seen[4:])


@pytest.mark.slow
def test_minibatches_of_segments_are_segments():
    def size(model, data):
        return jnp.sum(jnp.asarray(data.mask, float)) + 0 * model.rates[0]

    loss = srx.SegmentLoss(srx.BackwardEuler()) * 0.0 + size
    result = run(loss, batch_size=5, steps=2)
    np.testing.assert_array_equal(result.history.loss, 10.0)


@pytest.mark.slow
def test_seed_decides_the_minibatches():
    one, again, other = (run(batch_size=2, steps=9, seed=s).history.loss for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)


def test_training_stops_when_held_out_runs_improve_no_more():
    held_out = srx.Trajectories.from_arrays(TS, DATA.ys[:1] ** 0.5)
    result = run(steps=400, held_out=held_out, judge_every=10, patience=30)
    assert result.stopped == "patience"
    history = result.history
    best = history.held_out_steps[np.argmin(history.held_out_loss)]
    assert history.loss.size == best + 30
    np.testing.assert_allclose(result.loss, np.min(history.held_out_loss))
    np.testing.assert_allclose(exact(result.model, held_out), result.loss, rtol=1e-10)


@pytest.mark.slow
def test_runs_held_out_are_looked_at_at_the_end_at_the_latest():
    result = run(steps=5, held_out=[3], judge_every=50)
    assert len(result.history.held_out_loss) == 1
    np.testing.assert_allclose(result.loss, exact(result.model, DATA.select([3])), rtol=1e-6)


def test_runs_are_not_judged_by_what_a_loss_holds_of_others():
    data = srx.Trajectories.from_arrays(np.linspace(0, 1, 5), np.ones((2, 5, 1)))
    for loss in (
        srx.HomotopyLoss(srx.TrajectoryLoss(), coupling=1.0),
        exact + srx.NeighborhoodLoss(num_neighbors=1, theiler=0),
        srx.JacobianLoss(np.ones((1, 5, 1, 1))),
    ):
        with pytest.raises(ValueError, match="judged by those of others.*Leave it out"):
            run(loss=loss, data=data, held_out=0.5)


def test_runs_are_held_out_by_fraction_or_name():
    result = run(held_out=0.25, steps=2)
    by_name = run(held_out=["3"], steps=2)
    without = run(data=DATA.select([0, 1, 2]), steps=2)
    np.testing.assert_array_equal(result.history.loss, without.history.loss)
    np.testing.assert_array_equal(by_name.history.loss, without.history.loss)


@pytest.mark.slow
def test_steps_without_a_finite_gradient_are_skipped_and_counted():
    def broken(data, step, key):
        ys = jnp.where((step == 3) | (step == 5), jnp.nan, data.ys)
        return eqx.tree_at(lambda d: d.ys, data, ys)

    result = run(transforms=[broken], steps=10)
    assert result.num_skipped == 2
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(result.history.loss)), [3, 5])
    np.testing.assert_array_equal(result.last_model.rates, run(steps=8).last_model.rates)


def test_training_that_cannot_go_on_says_so():
    result = run(lambda model, data: jnp.sum(model.rates) * jnp.nan, steps=5000)
    assert result.stopped == "not finite"
    assert result.history.loss.size < 5000
    np.testing.assert_array_equal(result.model.rates, MODEL.rates)


class Clipped(eqx.Module):
    rates: jax.Array
    largest: jax.Array


def test_what_a_model_holds_as_infinite_does_not_stop_it():
    result = run(exact, Clipped(MODEL.rates, jnp.array([1.0, jnp.inf])), steps=4)
    assert result.num_skipped == 0
    np.testing.assert_allclose(result.last_model.rates, hand_written(4, OPTIMIZER)[0].rates)
    np.testing.assert_array_equal(result.last_model.largest, [1.0, np.inf])


@pytest.mark.slow
def test_interruption_returns_the_best_so_far(monkeypatch):
    class Bar:
        calls = 0

        def update(self, n=1):
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt

        def set_postfix_str(self, text):
            pass

        def close(self):
            pass

    monkeypatch.setattr(fit_module, "progress_bar", lambda *args: Bar())
    result = run(steps=100_000)
    monkeypatch.undo()
    assert result.stopped == "interrupted"
    taken = result.history.loss.size
    assert 0 < taken < 100_000
    assert result.loss == np.min(result.history.loss)
    np.testing.assert_array_equal(result.last_model.rates, run(steps=taken).last_model.rates)


def test_progress_shows_loss_and_gradient(capsys):
    run(steps=3, progress=True)
    shown = capsys.readouterr().err
    assert "loss" in shown
    assert "gradient" in shown


@pytest.mark.slow
def test_switched_off_terms_stay_off():
    model = srx.Polynomial(2, 1, active=[[False, True, False], [False, False, True]])
    result = run(srx.SegmentLoss(srx.BackwardEuler()), model=model, steps=20)
    off = ~np.asarray(model.active)
    assert not np.any(np.asarray(result.model.coefficients)[off])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps=0`"),
        ({"batch_size": 5}, "`batch_size=5`.*1 to 4, the number of runs"),
        ({"batch_size": True}, "`batch_size=True`"),
        ({"patience": 10}, "without runs to judge by"),
        ({"patience": 0, "held_out": 0.5}, "`patience=0`"),
        ({"judge_every": 0}, "`judge_every=0`"),
        ({"model": lambda t, y, args: -y}, "no floating-point array to train"),
        ({"held_out": 1.5}, "`held_out` is 1.5"),
    ],
)
def test_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_loss_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="it needs one real number"):
        run(lambda model, data: model.rates)


class Pole(eqx.Module):
    """y' = k y^2, which has no solution from sample to sample for large k y."""

    k: jax.Array

    def __call__(self, t, y, args=None):
        return self.k * y**2


HYPERBOLA = srx.Trajectories.from_arrays(TS[:, None].T, (1 / (1 - 0.5 * TS))[None, :, None])
STEPS = srx.SegmentLoss(srx.RadauIIA5())


@pytest.mark.slow
def test_training_that_starts_where_every_solve_fails_says_so():
    result = run(STEPS, Pole(jnp.asarray(1e3)), HYPERBOLA, steps=1000)
    assert result.stopped == "all solves failed"
    assert result.history.loss.size == result.num_skipped == 20
    assert np.all(result.history.num_failed == 3)
    assert "the step from t = 0 to 0.1: its equations were not solved" in result.failure
    assert result.failure in repr(result)
    assert result.loss == np.inf


@pytest.mark.slow
def test_a_step_to_where_every_solve_fails_is_taken_back_by_halves():
    # The first step leads from k = -1 to 170, too far even for half of it.
    result = run(STEPS, Pole(jnp.asarray(-1.0)), HYPERBOLA, optimizer=optax.sgd(3e2), steps=30)
    failed = result.history.num_failed
    assert failed[0] == 0
    assert np.all(failed[1:3] == 3)
    assert np.any(failed[3:] < 3)
    assert result.num_skipped == np.count_nonzero(failed == 3)
    assert result.stopped == "steps"


@pytest.mark.slow
def test_a_model_without_failures_is_better_than_one_with_a_smaller_loss():
    # At the start one segment of four fails, and the others are fitted exactly.
    ts = np.array([[0.0, 1.0]] * 4)
    starts = np.array([0.1, 0.2, 0.4, 4.0])
    ends = starts / (1 - 0.5 * starts)
    ends[3] = 8.0
    data = srx.Trajectories.from_arrays(ts, np.stack([starts, ends], axis=1)[..., None])

    def leave(updates, state, params=None):
        return jax.tree.map(lambda k: jnp.full_like(k, -0.25), params), state

    optimizer = optax.GradientTransformation(lambda params: None, leave)
    result = run(STEPS, Pole(jnp.asarray(0.5)), data, optimizer=optimizer, steps=3)
    num_failed = result.history.num_failed
    assert num_failed[0] == 1
    assert result.history.solved_loss[0] < 1e-6
    assert result.history.loss[0] == np.inf
    assert num_failed[-1] == 0
    best = np.argmin(result.history.loss)
    assert num_failed[best] == 0
    assert result.loss == result.history.loss[best] > result.history.solved_loss[0]


def test_a_gradient_whose_square_overflows_is_skipped_and_the_next_ones_move():
    def spiked(data, step, key):
        return eqx.tree_at(lambda d: d.ys, data, data.ys * jnp.where(step == 3, 1e20, 1.0))

    with jax.enable_x64(False):
        model = Decay(jnp.array([0.5, 0.5]))
        linear = lambda model, data: jnp.sum(model.rates) * data.ys[0, 0, 0]
        result = run(linear, model, transforms=[spiked], steps=10)
        assert result.num_skipped == 1
        np.testing.assert_allclose(result.last_model.rates, 0.5 - 9 * 0.05, rtol=1e-3)


def test_an_update_that_is_not_finite_is_not_taken():
    def flat(model, data):
        return 0.0 * jnp.sum(model.rates)

    result = run(flat, optimizer=optax.adam(0.1, eps=0.0), batch_size=2, steps=5)
    assert result.num_skipped == 5
    np.testing.assert_array_equal(result.model.rates, MODEL.rates)


def test_complex_arrays_are_refused_wherever_they_would_be_trained():
    model = Decay(jnp.array([1.0 + 1.0j, 0.5]))
    calls = [
        lambda: run(model=model),
        lambda: FreeParameters(model),
        lambda: ParameterVector(srx.System(model, jnp.ones(2), states=["A", "B"])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"complex array, `.*rates`, and real numbers alone"):
            call()


def test_runs_held_out_whose_times_collapse_are_refused():
    later = srx.Trajectories.from_arrays(1.7e9 + TS, DATA.ys)
    with jax.enable_x64(False), pytest.raises(ValueError, match="apart, and 0 in float32"):
        run(held_out=later)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "loss",
    [
        srx.SegmentLoss(),
        srx.TrajectoryLoss() + exact,
        srx.HomotopyLoss(srx.TrajectoryLoss()),
        srx.NeighborhoodLoss(),
        srx.JacobianLoss(np.ones((4, 4, 2, 2))),
        srx.InvariantLoss((), time=1.0, interval=0.1, statistics=1.0),
        srx.SegmentLoss() + srx.RoughnessPenalty(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_measurements_are_refused_with_the_way_to_trajectories(loss):
    with pytest.raises(ValueError, match=r"Write .*`data.to_trajectories\(\)`"):
        run(loss, data=srx.Measurements.from_trajectories(DATA))


def test_ctrl_c_in_the_last_look_keeps_what_was_trained(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session_module, "judge", interrupted)
    result = run(steps=3, held_out=[3], judge_every=50)
    assert result.stopped == "interrupted"
    assert result.history.loss.size == 3


def test_one_transform_may_stand_alone():
    options = {"steps": 2, "held_out": [3]}
    alone, listed = (run(transforms=x, **options) for x in (srx.Steer(0.1), [srx.Steer(0.1)]))
    np.testing.assert_array_equal(alone.history.loss, listed.history.loss)
