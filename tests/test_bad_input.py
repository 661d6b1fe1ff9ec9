"""Random input, most of it bad: a clear `ValueError` or a correct result, and nothing else."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clear_errors import result_or_clear_error
from hypothesis import given, settings, strategies as st

import stiffrax as srx

# Two hundred in all; the same ones in every run.
EXAMPLES = {"derandomize": True, "database": None, "deadline": None}
SIZES = st.sampled_from([-1, 0, 1, 2, 3, 5])


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


FLAWS = st.sampled_from(
    ["none"] * 6 + ["nan", "inf", "int64", "complex128", "float32", "object", "bool", "U8", "list"]
)


@settings(max_examples=60, **EXAMPLES)
@given(
    seed=st.integers(0, 99),
    shape=st.lists(st.sampled_from([0, 1, 2, 4]), min_size=1, max_size=4)
    | st.sampled_from([[4, 2], [2, 4, 1]]),
    flaw=FLAWS,
    times=st.sampled_from(
        ["sorted"] * 3 + ["shuffled", "repeated", "short", "nan", "runs", "text"]
    ),
    mask=st.sampled_from([None] * 4 + ["random", "integers", "wrong shape", "none there"]),
    names=st.sampled_from([None] * 4 + [["a"], ["a", "b"], ["a", "a"], ["t"], ["1x"], "ab"]),
)
def test_data_from_arrays(seed, shape, flaw, times, mask, names):
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
    given_ts = np.broadcast_to(np.asarray(ts, float), (data.num_runs, count))
    given_ys = np.asarray(ys, float).reshape(data.num_runs, count, data.num_states)
    there = np.broadcast_to(True if present is None else present, given_ts.shape)
    for i, (run_ts, run_ys) in enumerate(data):
        np.testing.assert_array_equal(run_ts, given_ts[i, there[i]])
        np.testing.assert_array_equal(run_ys, given_ys[i, there[i]])
        assert np.all(np.diff(run_ts) > 0)
        assert np.all(np.isfinite(run_ys))


@settings(max_examples=50, **EXAMPLES)
@given(
    seed=st.integers(0, 99),
    num_states=SIZES,
    degree=st.sampled_from([-1, 0, 1, 2]),
    shape=st.sampled_from([None, "right", "right", "transposed", (3,), ()]),
    flaw=FLAWS,
    active=st.sampled_from([None, None, "random", "integers", (2, 2)]),
    state=st.sampled_from(["right", "right", "matrix", "short"]),
)
def test_polynomials(seed, num_states, degree, shape, flaw, active, state):
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
    model, derivative = found
    c = np.zeros((n, monomials)) if coefficients is None else np.asarray(coefficients, float)
    c = c if switched is None else np.where(switched, c, 0)
    features = np.prod(y ** np.asarray(model.exponents), axis=1)
    if np.all(np.isfinite(c)):
        np.testing.assert_allclose(derivative, c @ features, rtol=1e-5, atol=1e-6)


INDICES = st.none() | st.lists(st.integers(-1, 3), max_size=3)


@settings(max_examples=30, **EXAMPLES)
@given(
    inputs=INDICES,
    outputs=INDICES,
    learned_states=st.sampled_from([1, 2, 3]),
    learned_outputs=st.sampled_from([1, 2, 3]),
    num_states=st.sampled_from([None, 2, 3]),
)
def test_partially_known_models(inputs, outputs, learned_states, learned_outputs, num_states):
    shape = learned_outputs, 1 + learned_states
    c = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    learned = srx.Polynomial(learned_states, 1, coefficients=c, num_outputs=learned_outputs)
    size = learned_states if num_states is None else num_states
    y = np.arange(1.0, 1 + size)

    def value():
        model = srx.PartiallyKnown(
            lambda t, y, args: -y, learned, inputs=inputs, outputs=outputs, num_states=num_states
        )
        return np.asarray(model(0.0, jnp.asarray(y)))

    found = result_or_clear_error(value)
    if found is None:
        return
    seen = y if inputs is None else y[inputs]
    expected = -y
    expected[list(range(size)) if outputs is None else outputs] += c @ np.append(1.0, seen)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=40, **EXAMPLES)
@given(
    num_states=st.sampled_from([1, 1, 1, 2]),
    substeps=st.sampled_from([1, 1, 0, -3]),
    window=st.sampled_from([1, 1, 0, -2]),
    initial_states=st.sampled_from(["measured", "free", "fixed"]),
    scale=st.sampled_from([None, None, 2.0, [3.0], [1.0, 2.0], 0.0, np.nan, "large"]),
    weight=st.sampled_from([None, None, 1.0, [4.0], -1.0, np.inf, np.ones(5), np.ones((3, 6, 1))]),
    start=st.sampled_from(["regression", "regression", "given", "cold"]),
    max_steps=st.sampled_from([30, 30, 0, -1]),
)
def test_least_squares(num_states, max_steps, **options):
    model = srx.Polynomial(
        num_states, 1, active=np.tile([False, True, True][: num_states + 1], (num_states, 1))
    )
    fit = result_or_clear_error(
        lambda: srx.fit_least_squares(
            model, decay(), srx.BackwardEuler(), max_steps=max_steps, progress=False, **options
        )
    )
    if fit is not None:
        assert float(fit.model.coefficients[0, 1]) == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.slow
@settings(max_examples=20, **EXAMPLES)
@given(
    steps=st.sampled_from([2, 2, 0, -1]),
    batch_size=st.sampled_from([None, None, 0, 99]),
    held_out=st.sampled_from([None, None, 0.3, 0.0, 1.5, [7], [0, 0], "x"]),
    patience=st.sampled_from([None, None, 1, 0]),
    judge_every=st.sampled_from([1, 0]),
    parameters=st.sampled_from(["all", "all", "none"]),
)
def test_fit(parameters, **options):
    model = srx.Polynomial(1, 1) if parameters == "all" else (lambda t, y, args: -y)
    fit = result_or_clear_error(
        lambda: srx.fit(
            model,
            decay(),
            srx.SegmentLoss(srx.BackwardEuler()),
            optimizer=optax.sgd(0.1),
            progress=False,
            **options,
        )
    )
    if fit is not None:
        assert fit.history.loss.size <= options["steps"]
        assert np.all(np.isfinite(fit.history.loss))
        assert fit.num_skipped == 0
