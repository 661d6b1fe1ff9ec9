"""Random input, most of it bad: a clear `ValueError` or a correct result, and nothing else."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clear_errors import at_most_one_flaw, result_or_clear_error
from hypothesis import given, settings, strategies as st

import stiffrax as srx

# Nearly two hundred in all; the same ones in every run.
EXAMPLES = {"derandomize": True, "database": None, "deadline": None}


@functools.cache
def decay():
    """What the backward Euler method makes of y' = -y."""
    ts = np.linspace(0.0, 1.0, 6)
    ys = np.array([1.0, 2.0, 0.5])[:, None] * 1.2 ** -np.arange(6.0)
    return srx.Trajectories.from_arrays(ts, ys[..., None])


def arrays(seed, shape, flaw):
    """Numbers, or what people pass instead."""
    values = np.random.default_rng(seed).uniform(0.5, 2.0, shape)
    if flaw in ("nan", "inf") and values.size:
        values.flat[seed % values.size] = float(flaw)
    if flaw in ("int64", "complex128", "float32", "object", "bool", "U8"):
        values = values.astype(flaw)
    return values.tolist() if flaw == "list" else values


FLAWS = ["none", "nan", "inf", "int64", "complex128", "float32", "object", "bool", "U8", "list"]


def test_data_from_arrays():
    accepted = []

    @settings(max_examples=60, **EXAMPLES)
    @given(
        seed=st.integers(0, 99),
        shape=st.sampled_from([(4,), (4, 2), (2, 4, 1), (3, 2, 2)]),
        given_=at_most_one_flaw(
            flaw=FLAWS,
            shape=[None, (0,), (1,), (4, 0), (0, 4, 1), (2, 0, 1), (2, 4, 1, 1)],
            times=["sorted", "shuffled", "repeated", "short", "nan", "runs", "text"],
            mask=[None, "random", "integers", "wrong shape", "none there"],
            names=[None, ["a"], ["a", "b"], ["a", "a"], ["t"], ["1x"], "ab"],
        ),
    )
    def check(seed, shape, given_):
        shape, flaw = given_["shape"] or shape, given_["flaw"]
        times, mask, names = (given_[name] for name in ("times", "mask", "names"))
        rng = np.random.default_rng(seed)
        ys = arrays(seed, shape, flaw)
        count = shape[-2] if len(shape) > 1 else shape[0]
        ts = np.sort(rng.uniform(0, 1, count))
        if times == "shuffled":
            ts = rng.permutation(ts)
        elif times == "repeated":
            ts[1:] = ts[:1]
        elif times == "short":
            ts = ts[1:]
        elif times == "nan" and count:
            ts[-1] = np.nan
        elif times == "runs":
            ts = np.tile(ts, (shape[0], 1))
        elif times == "text":
            ts = "0 1 2"
        present = {
            None: None,
            "random": rng.uniform(size=np.shape(ts)) < 0.8,
            "integers": np.ones(np.shape(ts), int),
            "wrong shape": np.ones(7, bool),
            "none there": np.zeros(np.shape(ts), bool),
        }[mask]
        data = result_or_clear_error(
            lambda: srx.Trajectories.from_arrays(ts, ys, mask=present, names=names)
        )
        if data is None:
            return
        accepted.append(data)
        given_ts = np.broadcast_to(np.asarray(ts, float), (data.num_runs, count))
        given_ys = np.asarray(ys, float).reshape(data.num_runs, count, data.num_states)
        there = np.broadcast_to(True if present is None else present, given_ts.shape)
        for i, (run_ts, run_ys) in enumerate(data):
            np.testing.assert_array_equal(run_ts, given_ts[i, there[i]])
            np.testing.assert_array_equal(run_ys, given_ys[i, there[i]])
            assert np.all(np.diff(run_ts) > 0)
            assert np.all(np.isfinite(run_ys))

    check()
    assert 20 < len(accepted) < 55


def test_polynomials():
    accepted = []

    @settings(max_examples=50, **EXAMPLES)
    @given(
        seed=st.integers(0, 99),
        num_states=st.sampled_from([1, 2, 3]),
        degree=st.sampled_from([0, 1, 2]),
        given_=at_most_one_flaw(
            num_states=[None, -1, 0],
            degree=[None, -1],
            shape=["right", None, "transposed", (3,), ()],
            flaw=FLAWS,
            active=[None, "random", "integers", (2, 2)],
            state=["right", "matrix", "short"],
        ),
    )
    def check(seed, num_states, degree, given_):
        num_states = num_states if given_["num_states"] is None else given_["num_states"]
        degree = degree if given_["degree"] is None else given_["degree"]
        shape, flaw, active, state = (given_[x] for x in ("shape", "flaw", "active", "state"))
        rng = np.random.default_rng(seed)
        n = max(num_states, 1)
        monomials = {-1: 1, 0: 1, 1: 1 + n, 2: (1 + n) * (2 + n) // 2}[degree]
        sizes = {"right": (n, monomials), "transposed": (monomials, n)}.get(shape, shape)
        coefficients = None if shape is None else arrays(seed, sizes, flaw)
        switched = {
            None: None,
            "random": rng.uniform(size=(n, monomials)) < 0.5,
            "integers": np.ones((n, monomials), int),
        }.get(active, np.ones((2, 2), bool))
        y = rng.uniform(-1, 1, {"right": (n,), "matrix": (2, n), "short": (n - 1,)}[state])

        def value():
            model = srx.Polynomial(num_states, degree, coefficients=coefficients, active=switched)
            return model, np.asarray(model(0.0, jnp.asarray(y)))

        found = result_or_clear_error(value)
        if found is None:
            return
        accepted.append(found)
        model, derivative = found
        c = np.zeros((n, monomials)) if coefficients is None else np.asarray(coefficients, float)
        c = c if switched is None else np.where(switched, c, 0)
        features = np.prod(y ** np.asarray(model.exponents), axis=1)
        if np.all(np.isfinite(c)):
            np.testing.assert_allclose(derivative, c @ features, rtol=1e-5, atol=1e-6)
        else:
            assert not np.all(np.isfinite(derivative))

    check()
    assert 10 < len(accepted) < 40


def test_partially_known_models():
    accepted = []

    @settings(max_examples=30, **EXAMPLES)
    @given(
        num_states=st.sampled_from([2, 3]),
        order=st.permutations([0, 1, 2]),
        sizes=st.tuples(st.integers(1, 2), st.integers(1, 2)),
        given_=at_most_one_flaw(
            inputs=["right", None, [-1, 0], [0, 0], [0, 7], []],
            outputs=["right", None, [-1], [0, 0], [7], []],
            learned_states=[None, 1, 3],
            learned_outputs=[None, 1, 3],
            num_states=["right", None],
        ),
    )
    def check(num_states, order, sizes, given_):
        order = [i for i in order if i < num_states]
        learned_states, learned_outputs = sizes
        inputs, outputs = given_["inputs"], given_["outputs"]
        inputs = order[:learned_states] if inputs == "right" else inputs
        outputs = order[::-1][:learned_outputs] if outputs == "right" else outputs
        learned_states = given_["learned_states"] or learned_states
        learned_outputs = given_["learned_outputs"] or learned_outputs
        num_states = None if given_["num_states"] is None else num_states
        shape = learned_outputs, 1 + learned_states
        c = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
        learned = srx.Polynomial(learned_states, 1, coefficients=c, num_outputs=learned_outputs)
        size = learned_states if num_states is None else num_states
        y = np.arange(1.0, 1 + size)

        def value():
            model = srx.PartiallyKnown(
                lambda t, y, args: -y,
                learned,
                inputs=inputs,
                outputs=outputs,
                num_states=num_states,
            )
            return np.asarray(model(0.0, jnp.asarray(y)))

        found = result_or_clear_error(value)
        if found is None:
            return
        accepted.append(found)
        seen = y if inputs is None else y[inputs]
        expected = -y
        expected[list(range(size)) if outputs is None else outputs] += c @ np.append(1.0, seen)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    check()
    assert 10 < len(accepted) < 28


@pytest.mark.slow
def test_least_squares():
    accepted = []

    @settings(max_examples=30, **EXAMPLES)
    @given(
        initial_states=st.sampled_from(["measured", "free", "fixed"]),
        given_=at_most_one_flaw(
            num_states=[1, 2],
            substeps=[1, 0, -3],
            window=[1, 0, -2],
            scale=[None, 2.0, [3.0], [1.0, 2.0], 0.0, np.nan, "large"],
            weight=[None, 1.0, [4.0], -1.0, np.inf, np.ones(5), np.ones((3, 6, 1))],
            start=["regression", "given", "cold"],
            max_steps=[30, 0, -1],
        ),
    )
    def check(initial_states, given_):
        num_states = given_.pop("num_states")
        active = np.tile([False, True, True][: num_states + 1], (num_states, 1))
        model = srx.Polynomial(num_states, 1, active=active)
        options = {"initial_states": initial_states, "progress": False} | given_
        fit = result_or_clear_error(
            lambda: srx.fit_least_squares(model, decay(), srx.BackwardEuler(), **options)
        )
        if fit is not None:
            accepted.append(fit)
            assert float(fit.model.coefficients[0, 1]) == pytest.approx(-1.0, abs=1e-4)

    check()
    assert 4 < len(accepted) < 25


@pytest.mark.slow
def test_fit():
    accepted = []
    loss, optimizer = srx.SegmentLoss(srx.BackwardEuler()), optax.sgd(0.1)

    @settings(max_examples=20, **EXAMPLES)
    @given(
        given_=at_most_one_flaw(
            steps=[2, 0, -1],
            batch_size=[None, 2, 0, 99],
            held_out=[None, 0.3, 0.0, 1.5, [7], [0, 0], "x"],
            patience=[None, 1, 0],
            judge_every=[1, 0],
            parameters=["all", "none"],
        )
    )
    def check(given_):
        every = given_.pop("parameters") == "all"
        model = srx.Polynomial(1, 1) if every else (lambda t, y, args: -y)
        options = {"optimizer": optimizer, "progress": False} | given_
        fit = result_or_clear_error(lambda: srx.fit(model, decay(), loss, **options))
        if fit is not None:
            accepted.append(fit)
            assert fit.history.loss.size <= given_["steps"]
            assert np.all(np.isfinite(fit.history.loss))
            assert fit.num_skipped == 0

    check()
    assert 3 < len(accepted) < 18
