"""Checkpoints: whole at any moment, and training goes on from them to the same bits."""

import functools
import json
import pathlib
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training.train_to_be_killed import DATA, TS, Decay, loss

import stiffrax as srx
import stiffrax.training._checkpoint as checkpoint
import stiffrax.training._session as session

OPTIMIZER = optax.adam(0.01)
SETTABLE = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
SLOWER = optax.inject_hyperparams(optax.adam)(learning_rate=1e-4)


def run(steps, path=None, **options):
    options = {"optimizer": OPTIMIZER, "batch_size": 2, "held_out": [3]} | options
    options = {"judge_every": 7, "checkpoint_every": 0.0, "progress": False} | options
    data, of = options.pop("data", DATA), options.pop("loss", loss)
    model = options.pop("model", Decay(jnp.array(0.5)))
    return srx.fit(model, data, of, steps=steps, checkpoint=path, **options)


def assert_same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_in_two_parts_is_training_in_one(tmp_path):
    path = tmp_path / "run.eqx"
    run(33, path)
    assert_same(run(80, path), run(80))


def test_finished_training_is_read_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "run.eqx"
    result = run(20, path)
    monkeypatch.setattr(session, "advance", None)
    assert_same(run(20, path), result)


def test_patience_ends_a_resumed_training_where_it_ended(tmp_path):
    path = tmp_path / "run.eqx"
    options = {"patience": 14, "optimizer": optax.sgd(0.0)}
    result = run(500, path, **options)
    assert result.stopped == "patience"
    assert_same(run(500, path, **options), result)


def test_interrupted_training_is_saved(tmp_path, monkeypatch):
    path = tmp_path / "run.eqx"
    advance, calls = session.advance, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(session, "advance", interrupted)
    assert run(80, path, checkpoint_every=np.inf).stopped == "interrupted"
    monkeypatch.setattr(session, "advance", advance)
    assert_same(run(80, path), run(80))


def test_failure_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.eqx"
    run(10, path)
    before = path.read_bytes()

    def torn(file, tree):
        file.write(b"half of")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.eqx, "tree_serialise_leaves", torn)
    with pytest.raises(OSError, match="disk full"):
        run(20, path)
    assert path.read_bytes() == before


def test_checkpoint_holds_no_pickle(tmp_path):
    path = tmp_path / "run.eqx"
    run(10, path)
    header, arrays = path.read_bytes().split(b"\n", 1)
    assert json.loads(header)["history"] == {"steps": 10, "judged": 1}
    assert arrays.count(b"\x93NUMPY") == arrays.count(b"'descr'")
    assert b"'|O'" not in arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, r"another seed \(0 there, 3 here\)"),
        ({"batch_size": 1}, r"another batch_size \(2 there, 1 here\)"),
        ({"optimizer": optax.sgd(0.01)}, "another model and optimizer"),
        ({"optimizer": SLOWER}, "another model and optimizer"),
        (
            {"data": srx.Trajectories.from_arrays(TS, DATA.ys + 1)},
            "another data",
        ),
        ({"held_out": DATA.select([1])}, "another (data|held_out)"),
        ({"judge_every": 5}, r"another judge_every \(7 there, 5 here\)"),
        ({"loss": srx.SegmentLoss() * 1.0 + loss}, "another loss"),
        ({"transforms": [srx.Steer(0.1)]}, "another transforms"),
    ],
)
def test_checkpoint_of_another_training_is_refused(tmp_path, change, message):
    path = tmp_path / "run.eqx"
    run(5, path, optimizer=SETTABLE)
    with pytest.raises(ValueError, match=message):
        run(10, path, **{"optimizer": SETTABLE} | change)


@pytest.mark.slow
def test_the_end_is_judged_and_a_training_with_fewer_steps_than_that_goes_on_as_if_whole(tmp_path):
    path = tmp_path / "run.eqx"
    options = {"judge_every": 50, "optimizer": optax.sgd(0.5)}
    assert run(5, path, **options).history.held_out_steps.tolist() == [5]
    result = run(60, path, **options)
    assert result.history.held_out_steps.tolist() == [50, 60]
    assert_same(result, run(60, **options))


@pytest.mark.usefixtures("unchecked_types")
def test_counts_of_any_library_are_counts(tmp_path):
    path = tmp_path / "run.eqx"
    options = {"seed": 0, "judge_every": 7, "batch_size": 2, "patience": 50}
    result = run(5, path, **{name: np.int64(count) for name, count in options.items()})
    assert_same(run(5, path, **options), result)


def partly_known(rate):
    return srx.PartiallyKnown(Decay(jnp.array(rate)), srx.Polynomial(1, degree=1))


@jax.tree_util.register_static
class Registered:
    def __init__(self, power):
        self.power = power


class Prior:
    """A penalty that is neither a module nor a function."""

    def __init__(self, mean):
        self.mean, self.owner = mean, self

    def __call__(self, model, data):
        return (model.rate - self.mean) ** 2


class TestWhatIsCompared:
    """Of a loss, a model and transforms: classes, numbers and static fields, functions by name."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (srx.SegmentLoss() * 1.0, srx.SegmentLoss() * 1e-9),
            (srx.SegmentLoss(), srx.SegmentLoss(srx.RadauIIA5())),
            (srx.SegmentLoss(substeps=1), srx.SegmentLoss(substeps=2)),
            (srx.SegmentLoss() + loss, srx.SegmentLoss() + run),
            (srx.LikelihoodLoss(noise=srx.StudentNoise(3.0)), srx.LikelihoodLoss()),
            (srx.positive(2.0), srx.bounded(2.0)),
            (srx.bounded(2.0, 0.0, 3.0), srx.bounded(2.0, 0.0, 4.0)),
            (srx.Steer(0.1), srx.Steer(0.2)),
            ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}),
            ([1, 2], [1, 2, 3]),
            (((1,), 2), ((1, 2),)),
            (jax.random.key(0), jax.random.key(1)),
            (functools.partial(loss, data=1), functools.partial(loss, data=2)),
            (srx.Steer(0.1).__call__, srx.Steer(0.2).__call__),
            ({"a"}, {"a", "b"}),
            (partly_known(1.0), partly_known(2.0)),
            (Registered(1), Registered(2)),
            (Prior(1.0), Prior(3.0)),
            (Prior(1.0).__call__, Prior(3.0).__call__),
            (jax.jit(Prior(1.0)), jax.jit(Prior(3.0))),
        ],
    )
    def test_what_differs_is_seen(self, one, other):
        assert checkpoint.digest_of(one) != checkpoint.digest_of(other)

    def test_what_is_made_again_is_the_same(self):
        def made():
            return (
                srx.SegmentLoss(measure=srx.ScaledMAE(scale=[1.0, 2.0])) + (lambda m, d: 0.0),
                eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0), activation=lambda x: x),
                functools.partial(lambda x: x, 1),
                object(),
                {"b": 1, "a": 2},
                partly_known(1.0),
                Prior(1.0),
                jax.jit(lambda x: x),
                jax.nn.relu,
            )

        assert checkpoint.digest_of(made()) == checkpoint.digest_of(made())


class Noisy(eqx.Module):
    """A model that holds what is no number that is trained."""

    rate: jax.Array
    key: jax.Array
    power: float

    def __call__(self, t, y, args=None):
        return -self.rate * y


@pytest.mark.slow
def test_numbers_and_keys_of_a_model_are_compared(tmp_path):
    path = tmp_path / "run.eqx"

    def model(seed=0, power=1.0):
        return Noisy(jnp.array(0.5), jax.random.key(seed), power)

    result = run(5, path, model=model())
    np.testing.assert_array_equal(run(5, path, model=model()).model.rate, result.model.rate)
    for other in (model(seed=1), model(power=2.0)):
        with pytest.raises(ValueError, match="a training with another model"):
            run(10, path, model=other)


@pytest.mark.slow
def test_an_optimizer_may_hold_a_random_key(tmp_path):
    path = tmp_path / "run.eqx"
    noisy = optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(0)), optax.sgd(0.1))
    run(3, path, optimizer=noisy)
    assert_same(run(6, path, optimizer=noisy), run(6, optimizer=noisy))


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"[1, 2]\n", b"3\n"])
def test_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "run.eqx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no checkpoint"):
        run(5, path)


SCRIPT = pathlib.Path(__file__).with_name("train_to_be_killed.py")


def start(path, steps):
    command = [sys.executable, str(SCRIPT), str(path), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_ten_times_training_ends_with_the_same_bits(tmp_path):
    steps = 6000
    expected, _ = start(tmp_path / "whole.eqx", steps).communicate(timeout=250)
    path, kills = tmp_path / "killed.eqx", 0
    rng = np.random.default_rng(0)
    while kills < 10:
        process = start(path, steps)
        assert process.stdout is not None
        process.stdout.readline()  # it is training now
        time.sleep(rng.uniform(0.0, 0.15))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    result, _ = start(path, steps).communicate(timeout=250)
    assert result.splitlines()[-1] == expected.splitlines()[-1]


def test_a_model_that_begins_elsewhere_is_another_training(tmp_path):
    run(2, tmp_path / "run.eqx")
    with pytest.raises(ValueError, match="holds a training with another initial model"):
        run(2, tmp_path / "run.eqx", model=Decay(jnp.array(0.7)))


@pytest.mark.slow
def test_weights_of_numpy_go_on_in_single_precision(tmp_path):
    with jax.enable_x64(False):
        for steps in (2, 4):
            result = run(steps, tmp_path / "run.eqx", model=Decay(np.array(0.5)))
    assert result.history.loss.size == 4


def test_a_folder_that_does_not_exist_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "advance", None)
    with pytest.raises(ValueError, match="the folder '.*nowhere' does not exist"):
        run(2, tmp_path / "nowhere" / "run.eqx")


def test_a_training_that_got_stuck_goes_on_with_another_optimizer(tmp_path):
    path = tmp_path / "run.eqx"
    assert run(300, path, optimizer=optax.sgd(np.inf)).stopped == "not finite"
    result = run(130, path, optimizer=optax.sgd(0.1))
    assert result.stopped == "steps"
    assert result.num_skipped == 100
    assert result.history.loss[-1] < result.history.loss[0]
