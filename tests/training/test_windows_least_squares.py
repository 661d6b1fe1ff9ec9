"""Least squares over windows of several segments, with weights and free initial states."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._window_residuals import WindowResiduals, mean_slope_step

RATE = 3.0


def decay(noise=0.0, runs=6, times=33, seed=0):
    """Samples of y' = -3 y, whose least-squares fit is known."""
    rng = np.random.default_rng(seed)
    ts = np.linspace(0.0, 1.5, times)
    ys = np.linspace(1.0, 3.0, runs)[:, None] * np.exp(-RATE * ts)
    return srx.Trajectories.from_arrays(ts, (ys + noise * rng.normal(size=ys.shape))[..., None])


@functools.cache
def linear():
    return srx.Polynomial(1, 1, active=[[False, True]])


def fitted_rate(data, **options):
    fit = srx.fit_least_squares(linear(), data, srx.RadauIIA5(), progress=False, **options)
    assert fit.num_failed == 0
    return float(-fit.model.coefficients[0, 1]), fit


@pytest.mark.slow
def test_exact_samples_give_the_rate_from_windows_that_do_not_divide_the_run():
    # 32 segments are no multiple of 5: the last window is short.
    rate, fit = fitted_rate(decay(), window=5)
    assert fit.converged
    assert rate == pytest.approx(RATE, rel=1e-7)


@pytest.mark.slow
def test_whole_runs_with_free_starts_are_the_least_squares_fit_of_exponentials():
    from scipy.optimize import least_squares

    data = decay(noise=0.05)
    ys, ts = np.asarray(data.ys)[..., 0], np.asarray(data.ts)

    def residual(x):
        return (x[1:, None] * np.exp(-x[0] * ts) - ys).reshape(-1)

    best = least_squares(residual, np.append(2.0, ys[:, 0]), xtol=1e-14, ftol=1e-14)
    rate, fit = fitted_rate(data, window=32, initial_states="free", scale=1.0)
    assert rate == pytest.approx(best.x[0], rel=1e-5)
    J = best.jac
    variance = np.sum(best.fun**2) / (J.shape[0] - J.shape[1])
    error = np.sqrt(variance * np.linalg.inv(J.T @ J)[0, 0])
    assert float(fit.standard_errors.coefficients[0, 1]) == pytest.approx(error, rel=1e-3)


@pytest.mark.slow
def test_free_starts_remove_what_noise_at_the_start_does_to_one_step_fits():
    data = decay(noise=0.2)
    one, _ = fitted_rate(data)
    free, fit = fitted_rate(data, window=32, initial_states="free")
    error = float(fit.standard_errors.coefficients[0, 1])
    assert abs(free - RATE) < 3 * error
    assert abs(one - RATE) > 5 * error


@pytest.mark.slow
def test_a_sample_of_weight_zero_is_not_fitted():
    data = decay()
    ys = np.array(data.ys)
    ys[:, 7] += 1.0
    weight = np.ones(ys.shape)
    weight[:, 7] = 0.0
    spoiled = srx.Trajectories.from_arrays(data.ts, ys)
    options = {"window": 32, "initial_states": "free"}
    assert fitted_rate(spoiled, weight=weight, **options)[0] == pytest.approx(RATE, rel=1e-6)
    assert abs(fitted_rate(spoiled, **options)[0] - RATE) > 0.01


@pytest.mark.slow
def test_weights_by_function_are_those_by_array():
    data = decay(noise=0.05)
    array = 1 / (0.1 + np.asarray(data.ys) ** 2)
    by_array, _ = fitted_rate(data, weight=array)
    by_function, _ = fitted_rate(data, weight=lambda t, y: 1 / (0.1 + y**2))
    assert by_function == pytest.approx(by_array, rel=1e-10)


@pytest.mark.slow
def test_weights_are_one_over_the_variance_in_every_fit_and_loss():
    # y' = k in both states: one step predicts exactly, and the best k is the weighted mean slope.
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Constant(eqx.Module):
        k: jax.Array

        def __call__(self, t, y, args):
            return self.k * jnp.ones_like(y)

    rng = np.random.default_rng(0)
    ts, noise = np.linspace(0.0, 1.0, 9), np.array([1e-3, 0.1])
    ys = np.array([3.0, 700.0]) + ts[:, None] + noise * rng.normal(size=(9, 2))
    data = srx.Trajectories.from_arrays(ts, ys)
    weight = 1 / noise**2
    slopes = np.diff(ys, axis=0) / np.diff(ts)[:, None]
    best = float(np.sum(weight * slopes) / np.sum(weight * np.ones_like(slopes)))
    fit = srx.fit_least_squares(
        Constant(jnp.asarray(0.0)), data, srx.RadauIIA5(), weight=weight, progress=False
    )
    assert float(fit.model.k) == pytest.approx(best, rel=1e-6)
    chi_square = np.sum(weight * (np.diff(ys, axis=0) - best * np.diff(ts)[:, None]) ** 2)
    assert fit.loss == pytest.approx(np.sqrt(chi_square / 16), rel=1e-6)
    measure = srx.ScaledMSE(weight=weight)
    at_best = Constant(jnp.asarray(best))
    for loss in (srx.SegmentLoss(measure=measure), srx.TrajectoryLoss(measure=measure, window=1)):
        assert float(loss(at_best, data)) == pytest.approx(chi_square / 16, rel=1e-6)
    # With a scale beside them weights count errors in its unit.
    scaled = srx.SegmentLoss(measure=srx.ScaledMSE(scale=2 * np.ones(2), weight=4 * weight))
    assert float(scaled(at_best, data)) == pytest.approx(chi_square / 16, rel=1e-6)


@pytest.mark.slow
def test_runs_of_different_length_are_windows_of_different_length():
    data = decay()
    runs = [(ts[: 33 - 3 * i], ys[: 33 - 3 * i]) for i, (ts, ys) in enumerate(data)]
    ragged = srx.Trajectories.from_arrays(*map(list, zip(*runs, strict=True)))
    rate, _ = fitted_rate(ragged, window=32, initial_states="free")
    assert rate == pytest.approx(RATE, rel=1e-6)


@pytest.mark.slow
def test_a_window_that_cannot_be_solved_is_counted():
    # y' = 50 y^2 has no solution over these windows.
    ts = np.linspace(0.0, 3.0, 13)
    data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    model = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 50.0]])
    fit = srx.fit_least_squares(
        model, data, srx.BackwardEuler(), window=4, start="given", max_steps=1, progress=False
    )
    assert fit.num_failed > 0
    assert fit.loss == np.inf
    assert not fit.converged
    assert fit.failure.startswith("the step from t = 0 to 0.25: its equations were not solved")


@pytest.mark.slow
def test_a_coupled_start_follows_a_chaotic_run_that_no_fit_from_slopes_can_follow():
    # From `start="regression"` the fit ends at a loss of 5.5.
    import diffrax
    import jax
    import jax.numpy as jnp

    ts = jnp.linspace(0.0, 5.0, 101)
    lorenz = srx.problems.lorenz().vector_field

    def run(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lorenz),
            diffrax.Tsit5(),
            0.0,
            5.0,
            1e-3,
            y0,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        ).ys

    ys = jax.vmap(run)(jnp.array([[1.0, 1.0, 20.0], [-5.0, -8.0, 25.0]]))
    noisy = ys + 0.1 * np.random.default_rng(0).normal(size=ys.shape)
    fit = srx.fit_least_squares(
        srx.Polynomial(3, 2),
        srx.Trajectories.from_arrays(ts, noisy),
        srx.GaussLegendre4(),
        window=100,
        initial_states="free",
        scale=1.0,
        start="coupled",
        progress=False,
    )
    assert fit.num_failed == 0
    assert 0.09 < fit.loss < 0.11


@pytest.mark.slow
def test_a_coupled_start_is_not_drawn_to_a_sample_of_weight_zero():
    data = decay()
    ys = np.array(data.ys)
    ys[:, 7] += 1e6
    weight = np.ones(ys.shape)
    weight[:, 7] = 0.0
    spoiled = srx.Trajectories.from_arrays(data.ts, ys)
    steps = window_residuals(spoiled, weight, coupling=0.5)
    alike = window_residuals(data, weight, coupling=0.5)
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -RATE]])
    np.testing.assert_allclose(
        steps.misfit(model).norm, alike.misfit(model).norm, rtol=0, atol=1e-9
    )


def window_residuals(data, weight=None, coupling=0.0):
    from stiffrax.training._compressed_residuals import CompressedResiduals
    from stiffrax.training._weighted_samples import WeightedSamples, padded_windows
    from stiffrax.training._window_residuals import SegmentStep, WindowResiduals

    weight = np.ones(data.ys.shape) if weight is None else weight
    length = data.ts.shape[1] - 1
    windows = padded_windows(WeightedSamples.of(data, 1.0, weight), length, False)
    residuals = WindowResiduals(SegmentStep(srx.RadauIIA5()), False, coupling=coupling)
    return CompressedResiduals(residuals, windows)


@pytest.mark.slow
def test_coupled_fully_every_segment_starts_from_its_sample():
    data = decay(noise=0.1)
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -2.0]])
    values = window_residuals(data, coupling=1.0).values(model).reshape(-1, 32, 1)[:6]
    predicted = srx.segment_predictions(model, data.ts, data.ys, srx.RadauIIA5())
    np.testing.assert_allclose(values, data.ys[:, 1:] - predicted, rtol=1e-9, atol=1e-12)


def test_another_coupling_or_number_of_substeps_is_the_same_program():
    from stiffrax.training._compressed_residuals import CompressedResiduals
    from stiffrax.training._window_residuals import WindowResiduals, mean_slope_step

    traced = []

    def step(*arguments):
        traced.append(arguments)
        return mean_slope_step(*arguments)

    windows = window_residuals(decay()).windows
    steps = CompressedResiduals(WindowResiduals(step, False), windows)
    model = srx.Polynomial(1, 1)
    steps.triangle(model)
    once = len(traced)
    for other in (steps.with_coupling(0.5), steps.with_coupling(0.0), steps.with_substeps(3)):
        other.triangle(model)
    assert len(traced) == once > 0


@pytest.mark.slow
def test_a_segment_that_cannot_be_solved_spoils_none_after_it():
    # y' = 50 y^2 has no solution from 1 over this step, and hardly moves from 1e-3.
    ys = np.array([1.0, 1e-3, 1e-3, 1e-3, 1e-3])[None, :, None]
    data = srx.Trajectories.from_arrays(np.arange(5.0), ys)
    model = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 50.0]])
    _, failures = window_residuals(data).triangle(model)
    assert failures == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0}, "`window=0`"),
        ({"substeps": 0}, "`substeps=0`"),
        ({"initial_states": "fixed"}, "initial_states='fixed'"),
        ({"initial_states": "free"}, "`window=1`"),
        ({"start": "coupled"}, "`start='coupled'` was given with `window=1`"),
        ({"weight": -1.0}, "`weight` of shape"),
        ({"weight": np.ones(3)}, "`weight` of shape"),
        ({"weight": 0.0}, "not all zero"),
        ({"weight": lambda t, y: y[0] * np.nan}, "finite numbers"),
        ({"scale": "large"}, "`scale` is a str"),
    ],
)
def test_a_wrong_option_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        srx.fit_least_squares(linear(), decay(), **change)


def test_after_a_failure_nothing_starts_from_a_state_of_no_weight():
    residuals = WindowResiduals(mean_slope_step, False, coupling=0.5)
    sample, slopes = jnp.array([5.0, 6.0]), jnp.ones((2, 3))

    def start(end, *measured):
        y, slope = residuals._coupled((jnp.array(end), slopes), sample, jnp.array(measured))
        return y.tolist(), slope[:, 0].tolist()

    assert start([np.nan, 2.0], True, True) == ([5.0, 6.0], [0.0, 0.0])
    assert start([1.0, 2.0], True, False) == ([3.0, 2.0], [0.5, 1.0])
    y, slope = start([np.nan, 2.0], True, False)
    assert (y[0], slope[0]) == (5.0, 0.0)
    assert np.isnan([y[1], slope[1]]).all()
