"""Training from coupled to free solutions."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stiffrax as srx
import stiffrax.training._fit_homotopy as fit_homotopy

TS = np.linspace(0.0, 6.0, 25)
# A harmonic oscillator over a period: from zero, a free solution stays where it is.
DATA = srx.Trajectories.from_arrays(TS, np.stack([np.cos(TS), -np.sin(TS)], axis=1))
TRAJECTORY = srx.TrajectoryLoss(
    diffrax.Bosh3(), srx.ScaledMSE([1.0, 1.0]), rtol=1e-4, max_steps=256
)
LOSS = srx.HomotopyLoss(TRAJECTORY, 2.0)
SCHEDULE = srx.HomotopySchedule(values=3, steps=10)
OPTIMIZER = optax.adam(0.1)  # one object, so that nothing compiles twice


value = eqx.filter_jit(lambda model: TRAJECTORY(model, DATA))


def drift(t, y, args):
    return jnp.stack([y[1], jnp.zeros_like(y[1])])


@functools.cache
def oscillator():
    """Second order: the rate of the first state is known to be the second."""
    return srx.PartiallyKnown(
        drift,
        srx.Polynomial(2, degree=1, num_outputs=1),
        outputs=(1,),
    )


def run(**options):
    defaults = {"schedule": SCHEDULE, "optimizer": OPTIMIZER, "judge_every": 5, "progress": False}
    return srx.fit_homotopy(oscillator(), DATA, LOSS, **defaults | options)


@functools.cache
def fitted():
    return run()


@pytest.mark.slow
def test_model_of_second_order_is_learned():
    fit = fitted()
    np.testing.assert_allclose(fit.model.learned.coefficients, [[0.0, -1.0, 0.0]], atol=0.1)
    assert fit.stopped == "steps"


@pytest.mark.slow
def test_the_model_kept_is_the_best_uncoupled_one():
    fit = fitted()
    assert fit.history.loss.shape == (30,)
    assert fit.history.held_out_steps.tolist() == [5, 10, 15, 20, 25, 30]
    assert fit.loss == fit.history.held_out_loss.min()
    np.testing.assert_allclose(value(fit.model), fit.loss, rtol=1e-8)


@pytest.mark.slow
def test_first_loss_is_coupled_and_last_is_free():
    history = fitted().history
    np.testing.assert_allclose(history.loss[0], LOSS(oscillator(), DATA), rtol=1e-8)
    # The look after 25 steps is at the parameters from which step 25 starts.
    np.testing.assert_allclose(history.loss[25], history.held_out_loss[4], rtol=1e-8)


def test_interruption_returns_the_best_so_far(monkeypatch):
    class Bar:
        step = 0

        def update(self, n=1):
            self.step += n
            if self.step >= 10:
                raise KeyboardInterrupt

        def set_postfix_str(self, text):
            pass

        def close(self):
            pass

    monkeypatch.setattr(fit_homotopy, "progress_bar", lambda *args: Bar())
    fit = run()
    monkeypatch.undo()
    assert fit.stopped == "interrupted"
    assert len(fit.history.held_out_loss) == 2
    assert fit.loss == fit.history.held_out_loss.min()
    np.testing.assert_allclose(value(fit.model), fit.loss, rtol=1e-8)


def test_progress_shows_loss_and_gradient(capsys):
    run(progress=True)
    shown = capsys.readouterr().err
    assert "loss" in shown
    assert "gradient" in shown


@pytest.mark.parametrize("judge_every", [0, 2000])
def test_wrong_count_is_named(judge_every):
    with pytest.raises(ValueError, match=f"`judge_every={judge_every}`"):
        run(judge_every=judge_every)


def test_other_losses_are_refused():
    with pytest.raises(ValueError, match="`loss` is a TrajectoryLoss"):
        srx.fit_homotopy(oscillator(), DATA, TRAJECTORY)


def test_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no floating-point array"):
        srx.fit_homotopy(lambda t, y, args: -y, DATA, LOSS)


@pytest.mark.slow
def test_the_failure_is_that_of_the_solve_without_coupling():
    ts = np.linspace(0.0, 1.0, 5)
    data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    explodes = srx.Polynomial(1, degree=2, coefficients=[[0.0, 0.0, 5.0]])
    loss = srx.HomotopyLoss(srx.TrajectoryLoss(diffrax.Tsit5(), max_steps=64), 50.0)
    schedule = srx.HomotopySchedule(values=2, steps=1)
    fit = srx.fit_homotopy(explodes, data, loss, schedule=schedule, optimizer=optax.sgd(0.0))
    assert fit.history.num_failed.tolist() == [0, 1]
    assert fit.failure


def test_times_that_collapse_are_refused():
    data = srx.Trajectories.from_arrays(1.7e9 + np.arange(4.0), np.ones((4, 1)))
    loss = srx.HomotopyLoss(srx.TrajectoryLoss())
    with jax.enable_x64(False), pytest.raises(ValueError, match="apart, and 0 in float32"):
        srx.fit_homotopy(srx.Polynomial(1, degree=1), data, loss)
