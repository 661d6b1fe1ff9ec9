"""Standard errors of fits to windows, where the noise of a sample is in several residuals."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training import _window_residuals
from stiffrax.training._compressed_residuals import CompressedResiduals
from stiffrax.training._fit_least_squares import fit_windows
from stiffrax.training._weighted_samples import WeightedSamples, padded_windows
from stiffrax.training._window_residuals import WindowResiduals, mean_slope_step


class Slope(eqx.Module):
    """The second state rises twice as fast: one slope, told by both."""

    slope: jax.Array

    def __call__(self, t, y, args):
        return self.slope * jnp.array([1.0, 2.0])


def steps_of(samples, window, free, step=mean_slope_step):
    windows = padded_windows(samples, window, free)
    return CompressedResiduals(WindowResiduals(step, free), windows)


def by_hand(samples, window, free):
    """Slope and standard error, from all residuals as a linear function of all samples."""
    ts, ys, weight = samples.data.ts, np.asarray(samples.data.ys), np.sqrt(samples.weight)
    cells = np.arange(ys.size).reshape(ys.shape)
    maps, columns = [], []
    for run, count in enumerate(np.sum(samples.data.mask, axis=1)):
        for a in range(0, count - 1, window):
            k = np.arange(a, min(a + window, count - 1) + 1)
            shared = free & np.isin(k, range(window, count - 1, window))
            for state, rate in enumerate((1.0, 2.0)):
                v = weight[run, k, state] * np.where(shared, np.sqrt(0.5), 1)
                M, X = np.zeros((len(k), ys.size)), v * rate * (ts[run, k] - ts[run, a])
                M[np.arange(len(k)), cells[run, k, state]] = v
                if free:
                    project = np.eye(len(k)) - np.outer(v, v) / (v @ v)
                    M, X = project @ M, project @ X
                else:
                    M[:, cells[run, a, state]] -= v
                maps.append(M)
                columns.append(X)
    M, X = np.concatenate(maps), np.concatenate(columns)
    estimate = X @ M / (X @ X)
    left = M - np.outer(X, estimate)
    sd = np.where(weight > 0, 1 / np.where(weight > 0, weight, 1), 0).reshape(-1)
    variance = np.sum((left @ ys.reshape(-1)) ** 2) / np.sum((left * sd) ** 2)
    return estimate @ ys.reshape(-1), np.sqrt(variance * np.sum((estimate * sd) ** 2))


@pytest.mark.slow_cases("1-False", "8-False")
@pytest.mark.parametrize(("window", "free"), [(1, False), (3, False), (8, False), (3, True)])
def test_standard_errors_know_in_which_residuals_the_noise_of_a_sample_is(window, free):
    rng = np.random.default_rng(0)
    runs = [np.linspace(0, 1, 9), np.linspace(1, 3, 7)]
    ys = [np.outer(t, [1.0, 2.0]) + 0.1 * rng.normal(size=(len(t), 2)) for t in runs]
    weight = rng.uniform(1.0, 4.0, (2, 9, 2))
    samples = WeightedSamples.of(srx.Trajectories.from_arrays(runs, ys), 1.0, weight)
    fit = fit_windows(Slope(jnp.array(0.5)), steps_of(samples, window, free), 28, progress=False)
    assert fit.converged
    slope, error = by_hand(samples, window, free)
    np.testing.assert_allclose(fit.model.slope, slope, rtol=1e-5)
    np.testing.assert_allclose(fit.standard_errors.slope, error, rtol=1e-6)


class Decay(eqx.Module):
    k: jax.Array

    def __call__(self, t, y, args):
        return -self.k * y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "initial_states"), [(1, "measured"), (20, "measured"), (4, "free"), (20, "free")]
)
def test_intervals_of_two_standard_errors_hold_the_rate_as_often_as_they_should(
    window, initial_states
):
    # Of J^T J alone the errors are 3 times too large at (1, "measured"), half at (20, "measured").
    rng, ts = np.random.default_rng(0), np.linspace(0.0, 2.0, 21)
    found = []
    for _ in range(200):
        noisy = np.exp(-ts) + 0.02 * rng.normal(size=21)
        fit = srx.fit_least_squares(
            Decay(jnp.array(1.0)),
            srx.Trajectories.from_arrays(ts, noisy[:, None]),
            diffrax.Midpoint(),
            window=window,
            initial_states=initial_states,
            start="given",
            scale=1.0,
            progress=False,
        )
        found.append((float(fit.model.k), float(fit.standard_errors.k)))
    k, error = np.array(found).T
    assert np.median(error) / np.std(k) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.abs(k - 1) < 2 * error) > 0.9


def growth(model, y, ta, tb, ya, yb):
    """The flow of y' = k y^2, which has no value beyond t = 1 / (k y)."""
    left = 1 - model.k * (tb - ta) * y
    return jnp.where(left > 0, y / left, jnp.nan)


def growing(guess, free=True, step=growth):
    """Samples of k = 1 from y = 2.2 on, the first not measured."""
    ts = np.linspace(0.0, 0.4, 5)
    ys = np.append(guess, 2.2 / (1 - 2.2 * ts[1:]))[None, :, None]
    weight = np.append(0.0, np.ones(4))[None, :, None]
    data = srx.Trajectories(ts[None], ys, np.ones((1, 5), bool), ("y",), ("0",))
    return steps_of(WeightedSamples(data, np.ones(1), weight), 4, free, step)


@pytest.mark.parametrize("guess", [0.0, 2.4])
def test_a_free_start_is_found_from_a_poor_guess(guess):
    # A whole Gauss-Newton step from zero leads to where nothing can be predicted.
    steps = growing(guess)
    assert steps.misfit(Decay(jnp.array(1.0))).norm < 1e-9


def test_models_are_compared_by_residuals_of_the_starts_that_were_found():
    # Not by those that the next step towards a better start would leave.
    steps, model = growing(1.0), Decay(jnp.array(0.8))
    triangle, _ = steps.triangle(model)
    np.testing.assert_allclose(
        np.linalg.norm(triangle[:, -1]), steps.misfit(model).norm, rtol=1e-12
    )


def test_a_fit_whose_starts_are_not_found_has_not_converged(monkeypatch):
    monkeypatch.setattr(_window_residuals, "_MOST_POINTS", 1)
    steps = growing(1.0, step=lambda *given: growth(*given))
    fit = fit_windows(Decay(jnp.array(1.0)), steps, 4, progress=False)
    assert fit.stopped == "stalled"


def test_a_value_of_weight_zero_gives_way_to_what_lies_between_those_that_count():
    ys = np.stack([np.arange(5.0), [1.0, 2.0, 0.0, 0.0, 8.0]], axis=1)
    weight = np.ones((1, 5, 2))
    weight[0, 2:4, 1] = 0.0
    data = srx.Trajectories.from_arrays([0.0, 1.0, 2.0, 4.0, 5.0], ys)
    found = WeightedSamples.of(data, 1.0, weight)
    np.testing.assert_allclose(found.data.ys[0, :, 1], [1.0, 2.0, 3.5, 6.5, 8.0])
    np.testing.assert_array_equal(found.data.ys[0, :, 0], ys[:, 0])
    # Of a state that counts nowhere in a run the values are the only guess.
    weight[..., 1] = 0.0
    np.testing.assert_array_equal(WeightedSamples.of(data, 1.0, weight).data.ys, data.ys)
