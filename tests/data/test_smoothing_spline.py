"""Smoothing splines as diffrax paths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.sort(np.random.default_rng(0).uniform(0, 3, 25))
YS = np.stack([np.sin(TS), TS**2], axis=1)
TIMES = jnp.linspace(TS[0], TS[-1], 60)


def values(spline, ts):
    return np.asarray(_values(spline, jnp.asarray(ts)))


@eqx.filter_jit
def _values(spline, ts):
    return jax.vmap(spline.evaluate)(ts)


def test_without_smoothing_it_goes_through_the_samples():
    spline = srx.SmoothingSpline(TS, YS)
    np.testing.assert_allclose(values(spline, TS), YS, atol=1e-12)
    np.testing.assert_allclose([spline.t0, spline.t1], TS[[0, -1]])


def test_smoothing_spline_meets_its_normal_equations():
    # R g'' + alpha Q^T Q g'' = Q^T y and g = y - alpha Q g'', with a second difference Q.
    alpha, h, y = 0.02, np.diff(TS), YS[:, 0]
    m = len(TS) - 2
    q, r = np.zeros((m + 2, m)), np.zeros((m, m))
    for j in range(m):
        q[j : j + 3, j] = 1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]
        r[j, j] = (h[j] + h[j + 1]) / 3
        if j + 1 < m:
            r[j, j + 1] = r[j + 1, j] = h[j + 1] / 6
    curvature = np.linalg.solve(r + alpha * q.T @ q, q.T @ y)
    spline = srx.SmoothingSpline(TS, YS, alpha)
    np.testing.assert_allclose(values(spline, TS)[:, 0], y - alpha * q @ curvature, atol=1e-9)


@pytest.mark.slow
def test_derivative_is_that_of_the_path():
    spline = srx.SmoothingSpline(TS, YS, 1e-3)
    slope = jax.vmap(jax.jacfwd(spline.evaluate))(TIMES)
    np.testing.assert_allclose(jax.vmap(spline.derivative)(TIMES), slope, atol=1e-12)
    np.testing.assert_allclose(
        spline.evaluate(0.5, 0.7), spline.evaluate(0.7) - spline.evaluate(0.5), atol=1e-14
    )


def test_many_times_give_what_each_gives_alone():
    spline, pair = srx.SmoothingSpline(TS, YS, 1e-3), TIMES[jnp.array([7, 30])]
    for at in (spline.evaluate, spline.derivative):
        np.testing.assert_allclose(at(pair), [at(pair[0]), at(pair[1])], rtol=1e-14)


def test_strong_smoothing_leaves_the_straight_line():
    line = np.polyval(np.polyfit(TS, YS[:, 1], 1), TS)
    np.testing.assert_allclose(values(srx.SmoothingSpline(TS, YS, 1e4), TS)[:, 1], line, atol=0.01)


GEOMETRIC = np.append(0.0, np.geomspace(1e-6, 1e5, 29))


@pytest.mark.parametrize("unit", [1e-12, 1.0])
def test_at_times_of_stiff_data_strong_smoothing_leaves_the_straight_line(unit):
    ts = unit * GEOMETRIC
    ys = np.exp(-ts / ts[-1]) + 0.05 * np.random.default_rng(0).standard_normal(30)
    line = np.polynomial.Polynomial.fit(ts, ys, 1)(ts)
    path = values(srx.SmoothingSpline(ts, ys[:, None], 1e8 * ts[-1] ** 3), ts)
    np.testing.assert_allclose(path[:, 0], line, atol=1e-6)


def test_at_times_of_stiff_data_the_path_solves_the_normal_equations():
    # Whatever the alpha, `sum u = sum y` and `sum t u = sum t y`: a line has no penalty.
    ys = np.exp(-GEOMETRIC / 1e5) + 0.05 * np.random.default_rng(0).standard_normal(30)
    path = values(srx.SmoothingSpline(GEOMETRIC, ys[:, None], 1.0), GEOMETRIC)[:, 0]
    np.testing.assert_allclose([np.sum(path), GEOMETRIC @ path], [np.sum(ys), GEOMETRIC @ ys])
    assert np.sum((path - ys) ** 2) < 0.063  # that of the straight line


@pytest.mark.parametrize("unit", [1e-20, 1e14])
def test_single_precision_has_the_same_path_in_every_unit_of_time(unit):
    ts = np.linspace(0.0, 6.0, 11)
    with jax.enable_x64(False):
        spline = srx.SmoothingSpline(unit * ts, np.sin(ts)[:, None])
        middle = jnp.asarray(unit * (ts[:-1] + 0.3))
        path, slope = spline.evaluate(middle), unit * spline.derivative(middle)
    exact = srx.SmoothingSpline(ts, np.sin(ts)[:, None])
    middle = jnp.asarray(ts[:-1] + 0.3)
    np.testing.assert_allclose(path, exact.evaluate(middle), atol=1e-6)
    np.testing.assert_allclose(slope, exact.derivative(middle), atol=1e-5)


@pytest.mark.parametrize("alpha", [5e3, 1e12])
def test_smoothing_that_rounding_would_decide_is_refused(alpha):
    ts = np.linspace(0.0, 10.0, 100_001)
    with pytest.raises(ValueError, match="rounding would decide the path. Leave samples out"):
        srx.SmoothingSpline(ts, np.sin(ts)[:, None], alpha)


def test_constant_samples_give_a_constant_path():
    spline = srx.SmoothingSpline(TS, np.ones((25, 1)), 0.1)
    np.testing.assert_allclose(values(spline, TIMES), 1, atol=1e-12)


def test_the_last_time_of_a_run_is_its_own():
    data = srx.Trajectories.from_arrays([TS, TS[:9]], [YS, YS[:9]])
    splines = srx.SmoothingSpline.for_runs(data)
    for ends in (splines.t1, jax.vmap(lambda spline: spline.t1)(splines)):
        assert ends.tolist() == [TS[-1], TS[8]]
    assert splines.t0.tolist() == [TS[0], TS[0]]


@pytest.mark.slow
def test_runs_of_different_lengths_keep_their_own_splines():
    data = srx.Trajectories.from_arrays([TS, TS[:9]], [YS, 2 * YS[:9]])
    stacked = srx.SmoothingSpline.for_runs(data, 1e-3)
    alone = srx.SmoothingSpline(TS[:9], 2 * YS[:9], 1e-3)
    times = jnp.linspace(TS[0], TS[8] + 0.1, 20)
    both = jax.vmap(lambda spline: jax.vmap(spline.evaluate)(times))(stacked)
    np.testing.assert_allclose(both[1], values(alone, times), atol=1e-12)
    slope = jax.vmap(lambda spline: jax.jacrev(spline.evaluate)(times[3]))(stacked)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TS, YS[:, 0]), r"write `ys\[:, None\]`"),
        ((TS[:4], YS[:4]), "4 samples were given"),
        ((TS[::-1], YS), "`ts` must increase"),
        ((TS, np.where(YS > 1, np.nan, YS)), "`ys` be finite"),
        ((TS, YS, -1.0), "`alpha=-1.0`"),
        ((TS, YS, np.inf), "`alpha=inf`"),
    ],
)
def test_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        srx.SmoothingSpline(*arguments)


@pytest.mark.usefixtures("unchecked_types")
def test_measurements_are_refused():
    measured = srx.Measurements.from_arrays(TS, YS, names=["A", "B"])
    with pytest.raises(ValueError, match="`data.to_trajectories"):
        srx.SmoothingSpline.for_runs(measured)
