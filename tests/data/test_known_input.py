"""Inputs as functions of time, and where a solve stops for them: at pulses, and seldom in what changes
all the time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

import stiffrax as srx

LOGGED = np.arange(2001) / 10
RNG = np.random.default_rng(0)


def stops(ts, values, kind="linear"):
    ends, table = [ts[0], ts[-1] + 1], {"t": ts, "u": values}
    data = srx.Measurements.from_arrays(ends, np.ones((2, 1)), inputs={"u": (kind, table)})
    found = data.inputs["u"].jump_ts[0]
    return found[np.isfinite(found)].tolist()


def bell(middle, width):
    return np.exp(-0.5 * ((LOGGED - middle) / width) ** 2)


def swing(period):
    return np.sin(2 * np.pi * LOGGED / period)


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_a_solve_stops_where_an_input_leaves_a_line_that_it_kept_to_and_where_it_comes_to_one(kind):
    assert stops([0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 20, 4, 13, 24, 24], kind) == [2]
    assert stops([0, 9, 10, 20, 21, 40], [0, 9, 20, 30, 31, 50], kind) == [9, 10, 40]
    assert stops([0, 9, 10, 11], [3, 3, 0, 3], kind) == [9, 11]
    assert stops([0, 0.1], [1, 0], kind) == [0.1]


def test_the_last_digit_of_a_logged_input_is_no_pulse():
    assert stops(range(6), [25.0, 25.0, 25.1, 25.1, 25.1, 35.0]) == [4, 5]
    assert stops(range(4), [25.0] * 4) == []


@pytest.mark.parametrize("width", [0.03, 0.1, 0.3, 1, 3, 10])
def test_smooth_pulses_of_any_width_begin_and_end_at_a_stop(width):
    since = (LOGGED - 80) / width
    skew = np.maximum(since, 0) * np.exp(1 - np.maximum(since, 0))
    for pulse in (bell(80, width), 9 - bell(80, width), skew, np.tanh(since) - np.tanh(since - 5)):
        ramp, noise = (np.ptp(pulse) * x for x in (LOGGED / 400, RNG.uniform(0, 0.02, 2001)))
        for values in (pulse, pulse + ramp, pulse + noise, np.round(pulse + ramp, 2)):
            found = stops(LOGGED, values)
            assert 80 - 4 * width - 0.1 <= found[0] <= 80.1
            # A solve that begins at a pulse as wide as this does not step over it.
            assert width > 1 or any(1.5 * width <= t - 80 <= 0.4 + 12 * width for t in found)
            assert len(found) <= 8


def test_every_pulse_after_a_rest_is_seen():
    middles = np.arange(10, 200, 10)
    found = np.array(stops(LOGGED, sum(bell(t, 0.5) for t in middles)))
    for middle in middles:
        near = found[np.abs(found - middle) < 2]
        assert near[0] < middle - 1 < middle + 1 < near[-1]
    assert len(found) == 2 * len(middles)


def test_a_pulse_with_which_the_rows_end_is_seen():
    assert stops([0, 50, 50.1, 50.2], [0, 0, 1, 0]) == [50, 50.2]
    assert stops([0, 1, 2], [0, 1, 0]) == [2]
    assert stops([0, 2], [0, 1]) == [2]


@pytest.mark.parametrize("period", [0.25, 0.33, 0.5, 1, 2, 3.7, 5, 10, 20, 50, 100, 300])
def test_a_sine_has_no_stops(period):
    assert [t for t in stops(LOGGED, swing(period)) if t < 200] == []


def test_an_input_that_changes_all_the_time_has_few_stops():
    """Of 2000 rows: where ten times the speed before was a stop, noise had a hundred."""
    assert len(stops(LOGGED, swing(3) + 0.3 * swing(0.7) + 0.1 * swing(0.2))) < 40
    for noise in (RNG.uniform(size=2001), RNG.normal(size=2001), np.cumsum(RNG.normal(size=2001))):
        assert len(stops(LOGGED, noise)) < 40
    for size in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        assert len(stops(LOGGED, bell(80, 0.5) + RNG.normal(0, size, 2001))) < 20


def test_tiny_values_of_a_cubic_input_are_read_without_a_warning():
    tail = {"t": [0.0, 1.0, 2.0, 3.0], "u": [1.0, 1e-300, 1e-310, 0.0]}
    data = srx.Measurements.from_arrays([0.0, 3.0], np.ones((2, 1)), inputs={"u": ("cubic", tail)})
    assert 0 <= data.inputs["u"](0, 1.5) <= 1e-300


ROWS, HEIGHTS = np.arange(5.0), np.array([0, 0.2, 1, 0.8, 0])
BETWEEN = np.array([-1, 0, 0.5, 1, 1.999, 2, 2.5, 3.5, 4, 6])
SHAPES = {
    "step": lambda t: HEIGHTS[np.floor(t).astype(int)],
    "linear": lambda t: np.interp(t, ROWS, HEIGHTS),
    "cubic": PchipInterpolator(ROWS, HEIGHTS),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_an_input_is_the_same_in_all_units_also_in_single_precision(kind):
    right = SHAPES[kind](np.clip(BETWEEN, 0, 4))
    for double, accuracy in ((True, 1e-15), (False, 3e-7)):
        with jax.enable_x64(double):
            # By one program: the units differ in numbers alone.
            call = jax.jit(lambda u, ts: jax.vmap(lambda t: u(0, t))(ts))
            for unit, size in ((1e-12, 1e-12), (1e-12, 1e12), (1, 1), (1e12, 1e-12), (1e12, 1e12)):
                table = {"t": ROWS * unit, "u": HEIGHTS * size}
                data = srx.Measurements.from_arrays(
                    [0.0, 4.0], np.ones((2, 1)), inputs={"u": (kind, table)}
                )
                arrays = jax.tree.map(jnp.asarray, (data.inputs["u"], BETWEEN * unit))
                found = call(*arrays) / size
                np.testing.assert_allclose(found, right, rtol=0, atol=accuracy)


@pytest.mark.parametrize("kind", SHAPES)
def test_an_array_of_times_has_a_value_at_each(kind):
    table = {"t": ROWS, "u": HEIGHTS}
    data = srx.Measurements.from_arrays([0.0, 4.0], np.ones((2, 1)), inputs={"u": (kind, table)})
    args = data.conditions(0)
    # As many as a cubic has coefficients, fewer, and more.
    for times in (BETWEEN[:1], BETWEEN[2:6], BETWEEN.reshape(5, 2)):
        right = SHAPES[kind](np.clip(times, 0, 4))
        np.testing.assert_allclose(args["u"](times), right, atol=1e-15)
        np.testing.assert_array_equal(args.replace(u=3.0)["u"](times), np.full(times.shape, 3.0))


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_the_derivative_of_an_input_at_a_row_is_that_after_it(kind):
    """Of two runs, the first of which has fewer rows."""
    table = {"run": list("00111"), "t": [0.0, 2, 0, 1, 3], "u": [0.0, 6, 0, 1, 3]}
    data = srx.Measurements.from_arrays([0.0, 3.0], np.ones((2, 2, 1)), inputs={"u": (kind, table)})
    for run, slopes in enumerate([[0, 3, 3, 0, 0], [0, 1, 1, 1, 0]]):
        rate = jax.vmap(jax.grad(lambda t, run=run: data.inputs["u"](run, t)))
        np.testing.assert_allclose(rate(np.array([-1, 0, 1, 2, 3.0])), slopes, atol=1e-14)
