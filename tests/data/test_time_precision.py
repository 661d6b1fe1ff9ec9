"""Times that single precision cannot tell apart are refused where data meet a loss."""

import jax
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses import check_data, check_measurements

UNIX = 1.7e9 + np.arange(4.0)
YS = np.ones((4, 1))


def check(ts):
    with jax.enable_x64(False):
        check_data(srx.Trajectories.from_arrays(ts, np.ones((len(ts), 1))))


def test_samples_at_one_time_in_single_precision_are_named():
    message = r"1700000000\.0 and 1700000001\.0 of run '0' are 1 apart, and 0 in float32.*ts\[0\]"
    with pytest.raises(ValueError, match=message):
        check(UNIX)


def test_gaps_that_rounding_changes_are_refused_too_and_others_are_not():
    with pytest.raises(ValueError, match="apart, and 0.125 in float32"):
        check(1e6 + 0.1 * np.arange(4))
    check(UNIX - UNIX[0])
    check(1e3 * np.arange(4) + 0.1)
    check(np.linspace(0.0, 1025.0, 100_001))


def test_double_precision_tells_them_apart():
    check_data(srx.Trajectories.from_arrays(UNIX, YS))


def test_a_fit_refuses_them():
    data = srx.Trajectories.from_arrays(UNIX, YS)
    with jax.enable_x64(False), pytest.raises(ValueError, match="apart, and 0 in float32"):
        srx.fit_least_squares(srx.Polynomial(1, degree=1), data)


def test_what_is_measured_just_after_a_dose_is_not_at_it():
    near = srx.Dose(run="0", time=1e5 - 1e-3, state="c", amount=1.0)
    data = srx.Measurements.from_trajectories(
        srx.Trajectories.from_arrays(np.array([0.0, 1.0, 1e5]), YS[:3], names=["c"])
    )
    data = srx.Measurements(
        **{name: getattr(data, name) for name in data.__dataclass_fields__} | {"doses": (near,)}
    )
    check_measurements(data)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"0\.001 apart, and 0 in float32"):
        check_measurements(data)


@pytest.mark.parametrize("kind", ["step", "linear"])
def test_a_pulse_of_an_input_keeps_its_width(kind):
    def measured(width):
        ts = [0.0, 1e5 - 1, 1e5, 1e5 + width / 2, 1e5 + width]
        pulse = {"t": ts, "feed": [0.0, 0.0, 0.0, 1 / width, 0.0]}
        return srx.Measurements.from_arrays(
            [0.0, 2e5], np.ones((2, 1)), names=["A"], inputs={"feed": (kind, pulse)}
        )

    check_measurements(measured(1e-3))
    with jax.enable_x64(False):
        check_measurements(measured(2.0))
        for width in (1e-3, 2e-2):
            with pytest.raises(
                ValueError, match=r"The times 100000\.0.* apart, and 0\.?\d* in float32"
            ):
                check_measurements(measured(width))


def test_a_fast_logger_keeps_its_rows():
    ts = 1e5 + np.arange(0.0, 40.0, 0.1)
    logged = {"t": ts, "feed": np.exp(-0.5 * (ts - 1e5 - 20) ** 2)}
    data = srx.Measurements.from_arrays(
        ts[[0, -1]], np.ones((2, 1)), names=["A"], inputs={"feed": ("linear", logged)}
    )
    with jax.enable_x64(False):
        check_measurements(data)
