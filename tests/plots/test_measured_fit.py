"""Figures of a fit over its own runs and others, without any solve."""

import numpy as np
import pytest
from lines_without_solves import TS, by_formula, fit
from matplotlib.collections import PolyCollection

import stiffrax as srx


@pytest.fixture(scope="module")
def found():
    with by_formula():
        yield fit()


def test_another_run_is_drawn_with_its_band_and_the_noise_of_the_fit(found):
    fit, held = found
    a, _ = srx.plots.measured_fit(fit, data=held, run="c", points=5)
    np.testing.assert_allclose(a.get_lines()[0].get_ydata(), held.values[0, :, 0])
    (bars,) = a.containers[0].lines[2]
    heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, 2 * fit.noise["A"], rtol=1e-6)


def test_cells_that_were_not_measured_are_not_drawn(found):
    fit, held = found
    for panel in srx.plots.measured_fit(fit, data=held, run="c", points=5, measured=False):
        assert (panel.containers, [line.get_label() for line in panel.get_lines()]) == ([], ["fit"])


def test_bars_of_log_normal_noise_stay_positive(found):
    fit, _ = found
    _, b = srx.plots.measured_fit(fit, points=5)
    (bars,) = b.containers[0].lines[2]
    lows = [segment[:, 1].min() for segment in bars.get_segments()]
    expected = fit.data.values[0, :, 1] * np.exp(-fit.noise["B"])
    np.testing.assert_allclose(lows, expected, rtol=1e-6)


def test_a_logarithmic_axis_of_time_has_no_time_of_zero(found):
    a, _ = srx.plots.measured_fit(found[0], points=20, log_time=True)
    assert a.get_xscale() == "log"
    for line in a.get_lines()[:2]:
        assert np.min(line.get_xdata()) > 0
    assert set(TS[1:]) <= set(a.get_lines()[1].get_xdata())


def test_of_a_run_whose_solve_failed_nothing_is_drawn_but_its_data(found, monkeypatch):
    fit, _ = found
    nothing = np.full((len(fit.data), 2, 2), np.nan)
    band = srx.Band(np.tile([0.0, 1.0], (len(fit.data), 1)), nothing, nothing, nothing)
    monkeypatch.setattr(srx.ParameterFit, "band", lambda self, **options: band)
    a, _ = srx.plots.measured_fit(fit)
    (area,) = (x for x in a.collections if isinstance(x, PolyCollection))
    assert area.get_paths() == []


def test_no_other_run_than_the_one_drawn_is_solved(found, monkeypatch):
    fit, _ = found
    solve, solved = srx.ParameterFit.band, []
    monkeypatch.setattr(
        srx.ParameterFit,
        "band",
        lambda self, data, **options: (
            solved.append(data.run_names) or solve(self, data=data, **options)
        ),
    )
    name = fit.data.run_names[-1]
    srx.plots.measured_fit(fit, run=name, points=5)
    assert solved == [(name,)]


def test_no_profile_is_nothing_to_draw():
    with pytest.raises(
        ValueError, match=r"has no profile; it needs one or more. Write `fit.profile\(\)`"
    ):
        srx.plots.profiles({})
