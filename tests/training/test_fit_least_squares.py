"""Levenberg-Marquardt on one-step residuals."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def linear_data(rates=((-2.0, 1.0), (0.0, -30.0)), runs=3, times=25):
    """Exact samples of y' = K y, so that the fitted matrix is known."""
    K = np.asarray(rates)
    values, vectors = np.linalg.eig(K)
    ts = np.concatenate([[0.0], np.geomspace(1e-3, 2.0, times - 1)])
    starts = np.random.default_rng(0).uniform(0.5, 2.0, (runs, 2))
    weights = starts @ np.linalg.inv(vectors).T
    ys = np.einsum("ij,rj,tj->rti", vectors, weights, np.exp(np.outer(ts, values)))
    return srx.Trajectories.from_arrays(ts, ys.real), K


@pytest.mark.slow
def test_exact_linear_data_give_the_matrix():
    data, K = linear_data()
    fit = srx.fit_least_squares(srx.Polynomial(2, 1), data, srx.RadauIIA9(), progress=False)
    assert fit.converged
    assert fit.num_failed == 0
    np.testing.assert_allclose(fit.model.coefficients[:, 1:], K, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_terms_that_are_alike_to_a_hundred_millionth_are_told_apart():
    # Normal equations would see the two states as one.
    ts = np.linspace(0.0, 1.0, 25)
    ratios = 1 + 1e-8 * np.random.default_rng(0).normal(size=3)
    runs = np.stack([np.ones(3), ratios], axis=1)[:, None] * np.exp(-2.0 * ts)[:, None]
    data = srx.Trajectories.from_arrays(ts, runs)
    active = np.array([[False, True, True]] * 2)
    fit = srx.fit_least_squares(
        srx.Polynomial(2, 1, active=active), data, srx.RadauIIA9(), progress=False
    )
    np.testing.assert_allclose(fit.model.coefficients[:, 1:], -2 * np.eye(2), atol=1e-5)


@pytest.mark.slow
def test_a_step_that_cannot_be_solved_at_the_start_is_counted_and_left_behind():
    # y' = 50 y^2 has no backward Euler solution over these gaps; y' = -y has exactly the data.
    ts = np.linspace(0.0, 3.0, 10)
    data = srx.Trajectories.from_arrays(ts, (4 / 3) ** -np.arange(10.0)[:, None])
    model = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 50.0]])
    stuck = srx.fit_least_squares(
        model, data, srx.BackwardEuler(), start="given", max_steps=1, progress=False
    )
    fit = srx.fit_least_squares(model, data, srx.BackwardEuler(), progress=False)
    assert stuck.num_failed > 0
    assert fit.num_failed == 0
    assert fit.loss < 1e-6


@pytest.mark.slow
def test_a_network_starts_from_the_slopes_where_these_predict_better():
    data, _ = linear_data(rates=((-2.0, 1.0), (0.0, -3.0)))
    first = {}
    for start in ("given", "regression"):
        model = srx.PiNet(2, 4, 2, key=jax.random.key(0))
        first[start] = srx.fit_least_squares(
            model, data, srx.BackwardEuler(), start=start, max_steps=1, progress=False
        ).losses[0]
    assert first["regression"] < first["given"]


@pytest.mark.slow
def test_a_fit_of_a_linear_model_compiles_no_steps_without_derivatives(monkeypatch):
    from stiffrax.training import _compressed_residuals as module

    compiled, values = [], module._values

    def watched(residuals, model, block):
        compiled.append(type(residuals.step).__name__)
        return values(residuals, model, block)

    monkeypatch.setattr(module, "_values", watched)
    data, _ = linear_data()
    srx.fit_least_squares(srx.Polynomial(2, 1), data, srx.BackwardEuler(), progress=False)
    assert "SegmentStep" not in compiled


@pytest.mark.slow
def test_damping_falls_less_after_a_step_that_was_rejected(monkeypatch):
    from stiffrax.training import _levenberg_marquardt as module

    used, step = [], module._step

    def watched(C, c, size, damping, room):
        used.append((float(np.linalg.norm(c)), damping))
        return step(C, c, size, damping, room)

    monkeypatch.setattr(module, "_step", watched)
    data, _ = linear_data(rates=((-2.0, 1.0), (0.0, -3.0)))
    model = srx.PiNet(2, 4, 2, key=jax.random.key(1))
    srx.fit_least_squares(
        model, data, srx.BackwardEuler(), start="given", max_steps=20, progress=False
    )
    falls = {False: [], True: []}
    rejected = False
    for (loss, damping), (new_loss, new_damping) in zip(used, used[1:], strict=False):
        if new_loss < loss:
            falls[rejected].append(new_damping / damping)
        rejected = new_loss == loss
    assert falls[True]
    assert min(falls[True]) >= 0.1 * (1 - 1e-12)
    assert min(falls[False]) < 0.1


def test_fits_of_any_size_have_blocks_of_one_of_two_sizes():
    from stiffrax.training._weighted_samples import WeightedSamples, padded_windows

    sizes = set()
    for times in (3, 130, 200, 400, 513, 700, 3000):
        ts = np.arange(float(times))
        data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
        windows = padded_windows(WeightedSamples.of(data, 1.0), 1, False)
        blocks, size, _ = windows.ts.shape
        assert (blocks - 1) * size < times - 1 <= blocks * size
        sizes.add(size)
        assert size == 128 or blocks * size <= 1.25 * (times - 1)
    assert sizes == {128, 384}


@pytest.mark.slow
def test_losses_never_rise():
    data, _ = linear_data()
    fit = srx.fit_least_squares(
        srx.PiNet(2, 4, 2, key=jax.random.key(0)),
        data,
        srx.RadauIIA5(),
        max_steps=8,
        progress=False,
    )
    assert np.all(np.diff(fit.losses) <= 1e-12 * fit.losses[0])
    assert fit.losses[-1] < 0.1 * fit.losses[0]


@pytest.mark.slow
def test_terms_switched_off_stay_off():
    data, K = linear_data(rates=((-2.0, 0.0), (0.0, -30.0)))
    active = np.array([[False, True, False], [False, False, True]])
    model = srx.Polynomial(2, 1, active=active)
    fit = srx.fit_least_squares(model, data, srx.RadauIIA9(), progress=False)
    assert not np.any(np.asarray(fit.model.coefficients)[~active])
    np.testing.assert_allclose(fit.model.coefficients[:, 1:], K, rtol=1e-7)


def network_residuals(window, coupling=0.0):
    from stiffrax.training._compressed_residuals import CompressedResiduals
    from stiffrax.training._weighted_samples import WeightedSamples, padded_windows
    from stiffrax.training._window_residuals import SegmentStep, WindowResiduals

    data, _ = linear_data()
    windows = padded_windows(WeightedSamples.of(data, [1.0, 2.0]), window, False)
    steps = WindowResiduals(SegmentStep(srx.BackwardEuler()), False, coupling=coupling)
    # The programs of the other networks here.
    return srx.PiNet(2, 4, 2, key=jax.random.key(1)), CompressedResiduals(steps, windows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "coupling"),
    [
        (1, 0.0),
        (5, 0.0),
        (5, 0.3),
    ],
)
def test_the_compressed_residuals_have_the_gauss_newton_model_of_all_residuals(window, coupling):
    from stiffrax.training._parameter_vector import FreeParameters

    model, residuals = network_residuals(window, coupling)
    free = FreeParameters(model)

    def everything(theta):
        return residuals.values(free.model(theta)).reshape(-1)

    theta = free.values
    r, J = everything(theta), jax.jacfwd(everything)(theta)
    R, failures = residuals.triangle(free.model(theta))
    assert failures == 0
    C, c = R[:, :-1], R[:, -1]
    np.testing.assert_allclose(C.T @ C, J.T @ J, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(C.T @ c, J.T @ r, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(c @ c, r @ r, rtol=1e-10)


@pytest.mark.slow
def test_a_step_of_a_network_that_gains_nothing_costs_no_derivatives(monkeypatch):
    from stiffrax.training._compressed_residuals import CompressedResiduals
    from stiffrax.training._levenberg_marquardt import levenberg_marquardt

    calls = {"misfit": 0, "triangle": 0}

    def count(name, method):
        def counted(*arguments):
            calls[name] += 1
            return method(*arguments)

        monkeypatch.setattr(CompressedResiduals, name, counted)

    for name in calls:
        count(name, getattr(CompressedResiduals, name))
    model, residuals = network_residuals(1)
    # So little damping that the first steps lead away.
    found = levenberg_marquardt(residuals, model, 20, damping=1e-12)
    assert calls["triangle"] == len(found.misfits)
    assert calls["misfit"] > len(found.misfits) > 1


@pytest.mark.slow
def test_residuals_that_overflow_leave_the_model_as_it_is():
    from stiffrax.training._fit_least_squares import fit_windows

    model, residuals = network_residuals(1)
    q = len(residuals.triangle(model)[0])
    residuals.triangle = lambda model, passes=1: (np.full((q, q), np.nan), 0)
    fit = fit_windows(model, residuals, 10, progress=False)
    assert not fit.converged
    assert fit.loss == np.inf
    for old, new in zip(jax.tree.leaves(model), jax.tree.leaves(fit.model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_standard_errors_are_those_of_linear_regression():
    # Of the Euler method the prediction is y + h (c0 + c1 y): ordinary regression of the slopes.
    rng = np.random.default_rng(1)
    h, count = 1e-4, 60
    starts = rng.uniform(1, 2, count)
    ends = starts + h * (1.0 - 2.0 * starts) + 1e-6 * rng.normal(size=count)
    ts = np.tile([0.0, h], (count, 1))
    ys = np.stack([starts, ends], axis=1)[..., None]
    data = srx.Trajectories.from_arrays(ts, ys)
    fit = srx.fit_least_squares(
        srx.Polynomial(1, 1), data, diffrax.Euler(), scale=1.0, progress=False
    )
    design = h * np.stack([np.ones(count), starts], axis=1)
    target = ends - starts
    best, *_ = np.linalg.lstsq(design, target, rcond=None)
    variance = np.sum((target - design @ best) ** 2) / (count - 2)
    expected = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(fit.model.coefficients[0], best, rtol=1e-3)
    np.testing.assert_allclose(fit.standard_errors.coefficients[0], expected, rtol=1e-2)


@pytest.mark.slow
def test_more_substeps_remove_the_error_of_a_coarse_method():
    data, K = linear_data(rates=((-2.0, 0.0), (0.0, -3.0)))
    one, many = (
        srx.fit_least_squares(
            srx.Polynomial(2, 1), data, srx.RadauIIA3(), substeps=k, progress=False
        ).model.coefficients[:, 1:]
        for k in (1, 8)
    )
    assert np.max(np.abs(many - K)) < 0.02 * np.max(np.abs(one - K))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "cold"}, "start='cold'"),
        ({"max_steps": 0}, "`max_steps=0`"),
        ({"scale": [1.0, -1.0]}, "`scale="),
        ({"scale": [1.0, 1.0, 1.0]}, "`scale="),
    ],
)
def test_a_wrong_option_is_named(change, message):
    data, _ = linear_data()
    with pytest.raises(ValueError, match=message):
        srx.fit_least_squares(srx.Polynomial(2, 1), data, **change)


def test_a_model_of_another_size_is_refused():
    data, _ = linear_data()
    with pytest.raises(ValueError, match="2 states of the data"):
        srx.fit_least_squares(srx.Polynomial(3, 1), data)


def test_a_model_without_parameters_is_refused():
    data, _ = linear_data()
    model = srx.Polynomial(2, 1, active=np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="no free parameter"):
        srx.fit_least_squares(model, data)


@pytest.mark.slow
def test_progress_without_tqdm_says_what_to_install(monkeypatch):
    import stiffrax.training._progress as progress

    monkeypatch.setattr(progress, "_has_tqdm", lambda: False)
    data, _ = linear_data()
    with pytest.raises(ValueError, match=r"stiffrax\[progress\]"):
        srx.fit_least_squares(srx.Polynomial(2, 1), data, progress=True)


class Redundant(eqx.Module):
    """Two rates of which only the sum matters, one that matters, and one that does not."""

    a: jax.Array
    b: jax.Array
    other: jax.Array
    none: jax.Array

    def __call__(self, t, y, args):
        return -jnp.stack([self.a + self.b, self.other]) * y + 0 * self.none * y


class Decay(eqx.Module):
    """y' = -k y, and a parameter on which nothing depends."""

    k: jax.Array
    none: jax.Array

    def __call__(self, t, y, args):
        return -self.k * y + 0 * self.none


@pytest.mark.slow
@pytest.mark.parametrize("ys", [[1.0, 0.5, 0.3], [0.0, 0.0, 0.0, 0.0]])
def test_residuals_that_vanish_or_are_no_more_than_the_parameters_tell_no_errors(ys):
    # Two residuals for two parameters; three that are exactly zero.
    data = srx.Trajectories.from_arrays(np.arange(float(len(ys))), np.array(ys)[:, None])
    model = Decay(jnp.asarray(0.5), jnp.asarray(1.0))
    fit = srx.fit_least_squares(model, data, srx.BackwardEuler(), start="given", max_steps=2)
    assert np.isinf([fit.standard_errors.k, fit.standard_errors.none]).all()


class Parabola(eqx.Module):
    a: jax.Array

    def __call__(self, t, y, args):
        return self.a[0] + self.a[1] * y + self.a[2] * y**2


def fitted(data, a, max_steps):
    model, method = Parabola(jnp.asarray(a)), srx.BackwardEuler()
    return srx.fit_least_squares(model, data, method, start="given", max_steps=max_steps)


@pytest.mark.slow
def test_errors_in_single_precision_are_those_in_double():
    # Of three columns, 1, y and y^2, the third is new by 500 units of rounding.
    ts = np.linspace(0, 3, 20)
    data = srx.Trajectories.from_arrays(ts, 1 + 0.05 * np.sin(ts)[:, None])
    best = jax.device_get(fitted(data, np.zeros(3), max_steps=50).model.a)
    errors = []
    for double in (False, True):
        # At one point: a search in single precision ends before the minimum.
        with jax.enable_x64(double):
            errors.append(np.asarray(fitted(data, best, max_steps=1).standard_errors.a))
    np.testing.assert_allclose(*errors, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_what_samples_do_not_determine_has_no_finite_error(double):
    ts = np.linspace(0, 2, 20)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(20, 2))
    data = srx.Trajectories.from_arrays(ts, np.exp(-np.outer(ts, [1.0, 2.0])) + noise)
    with jax.enable_x64(double):
        model = Redundant(*map(jnp.asarray, (0.2, 0.3, 1.0, 1.0)))
        errors = srx.fit_least_squares(model, data, srx.BackwardEuler()).standard_errors
    assert np.isinf([errors.a, errors.b, errors.none]).all()
    assert 0 < errors.other < 0.1


class Saturation(eqx.Module):
    K: Any

    def __call__(self, y):
        return y[0] / (self.K + y[0])


@pytest.mark.slow
def test_bounds_hold_in_the_functions_of_a_library_and_errors_are_not_taken_for_values():
    # Samples of K = 0.3, by Euler's method backwards, which the fit has too.
    ys = [2.0]
    for _ in range(20):
        b = 0.3 + 0.1 - ys[-1]
        ys.append((np.sqrt(b**2 + 4 * 0.3 * ys[-1]) - b) / 2)
    data = srx.Trajectories.from_arrays(0.1 * np.arange(21), np.array(ys)[:, None])
    model = srx.Library([Saturation(srx.positive(0.8, 0.7, 1.0))], 1, coefficients=[[-1.0]])
    fit = srx.fit_least_squares(model, data, srx.BackwardEuler(), start="given", progress=False)
    K = np.exp(fit.model.functions[0].K.raw)
    np.testing.assert_allclose(K, 0.7, rtol=1e-9)
    # Of the logarithm: its exponential would be above one.
    assert 0 < fit.standard_errors.functions[0].K < 1
