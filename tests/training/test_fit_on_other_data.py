"""Noise, bands and scores of a fit, of its own data and of others; predictions are by formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest
from lines_without_solves import LOSS, TS, by_formula, fit
from scipy import stats

import stiffrax as srx


@pytest.fixture(scope="module")
def found():
    with by_formula():
        yield fit()


def residuals(fit, data):
    predicted = np.asarray(fit.simulate(data).values)
    a, b = (data.values[..., j] for j in range(2))
    return a - predicted[..., 0], np.log(b) - np.log(predicted[..., 1])


class TestNoise:
    def test_noise_is_the_root_mean_square_of_each_column(self, found):
        fit, _ = found
        for name, left in zip("AB", residuals(fit, fit.data), strict=True):
            np.testing.assert_allclose(fit.noise[name], np.sqrt(np.mean(left**2)), rtol=1e-6)

    def test_estimated_noise_is_printed(self, found):
        fit, _ = found
        assert f"noise of A{fit.noise['A']:27.5g}  by formula" in repr(fit)

    def test_known_noise_is_neither_estimated_nor_printed(self, found):
        known = dataclasses.replace(found[0].data, sd=np.full((2, 5, 2), 0.1))
        known = srx.fit_parameters(found[0].system, known, LOSS, max_steps=1)
        assert known.noise == {}
        assert "noise of" not in repr(known)

    def test_error_bars_are_a_factor_where_it_is_log_normal(self, found):
        fit, held = found
        for data in (fit.data, held):
            lower, upper = fit.error_limits(data)
            a, b = (data.values[..., j] for j in range(2))
            np.testing.assert_allclose(upper[..., 0] - a, fit.noise["A"], rtol=1e-6)
            np.testing.assert_allclose(upper[..., 1] / b, np.exp(fit.noise["B"]), rtol=1e-6)
            np.testing.assert_allclose(b / lower[..., 1], np.exp(fit.noise["B"]), rtol=1e-6)
            np.testing.assert_allclose(fit.error_bars(data)[..., 1], fit.noise["B"] * b, rtol=1e-6)


class TestScore:
    def test_the_score_of_runs_held_out_is_their_likelihood_with_the_noise_of_the_fit(self, found):
        fit, held = found
        a, b = residuals(fit, held)
        expected = -np.sum(stats.norm.logpdf(a, scale=fit.noise["A"]))
        expected -= np.sum(stats.norm.logpdf(b, scale=fit.noise["B"]) - np.log(held.values[..., 1]))
        np.testing.assert_allclose(fit.score(held), expected, rtol=1e-6)

    def test_the_score_of_the_data_of_the_fit_is_the_cost(self, found):
        np.testing.assert_allclose(found[0].score(found[0].data), found[0].cost, rtol=1e-6)

    def test_a_score_keeps_a_known_spread(self, found):
        fit, held = found
        known = dataclasses.replace(held, sd=np.full((1, 5, 2), 0.5))
        a, b = residuals(fit, held)
        sd = 0.5 / held.values[..., 1]
        expected = -np.sum(stats.norm.logpdf(a, scale=0.5))
        expected -= np.sum(stats.norm.logpdf(b, scale=sd) - np.log(held.values[..., 1]))
        np.testing.assert_allclose(fit.score(known), expected, rtol=1e-6)

    def test_data_in_another_unit_have_no_score(self, found, monkeypatch):
        fit, held = found
        monkeypatch.setattr(fit, "data", dataclasses.replace(fit.data, units=("mM", "")))
        assert np.isfinite(fit.score(held))
        with pytest.raises(ValueError, match="'A' is in mM in the data of .* and in uM in"):
            fit.score(dataclasses.replace(held, units=("uM", "")))

    def test_a_column_of_unknown_noise_has_no_score(self, found):
        fit, held = found
        other = dataclasses.replace(held, names=("A", "C"))
        with pytest.raises(ValueError, match=r"'C' has no standard deviation.*\['A', 'B'\] alone"):
            fit.score(other)


def test_other_columns_are_refused_where_an_array_is_observed(found, monkeypatch):
    fit, held = found
    listed = dataclasses.replace(fit.system, observe=lambda t, y, args: y)
    monkeypatch.setattr(fit, "system", listed)
    with pytest.raises(ValueError, match=r"\('B', 'A'\).*`observe` returns an array"):
        fit.simulate(dataclasses.replace(held, names=("B", "A")))


class TestBands:
    def test_the_band_of_another_run_is_that_of_the_line(self, found):
        fit, held = found
        band = fit.band(data=held)
        np.testing.assert_allclose(band.values, fit.simulate(held).values, rtol=1e-9)
        np.testing.assert_array_equal(band.ts, held.ts)
        one = fit.estimates["parameters.a"]
        half = (one.upper - one.lower) / 2 * TS
        np.testing.assert_allclose((band.upper - band.values)[0, :, 0], half, rtol=1e-6)

    def test_the_band_of_a_column_on_logarithms_is_a_factor(self, found):
        fit, held = found
        band = fit.band(data=held)
        one = fit.estimates["parameters.b"]
        factor = np.exp((one.upper - one.lower) / 2 * TS)
        for low, high in ((band.values, band.upper), (band.lower, band.values)):
            np.testing.assert_allclose((high / low)[0, :, 1], factor, rtol=1e-6)

    def test_a_band_is_drawn_at_the_rows_and_at_steps_between(self, found):
        band = found[0].band(points=3, log_time=True)
        np.testing.assert_allclose(band.ts[0], [0, 1, 2, 3, 10])
        np.testing.assert_allclose(found[0].band(points=3).ts[0], [0, 1, 2, 3, 5, 10])

    def test_a_band_of_one_point_is_refused(self, found):
        with pytest.raises(ValueError, match="points=1"):
            found[0].band(points=1)
        with pytest.raises(ValueError, match="log_time=True` was given without `points`"):
            found[0].band(log_time=True)


def test_a_best_search_that_is_at_no_minimum_is_printed():
    with by_formula():
        stopped = fit(max_steps=1)[0]
    assert "The best search ended by 'steps' and not at a minimum" in repr(stopped)


def test_a_search_that_is_at_a_minimum_is_not_said_to_be_at_none(found):
    assert "at a minimum" not in repr(found[0])


def test_a_table_of_many_starts_says_what_was_found():
    with by_formula():
        found = fit(starts=4, key=jax.random.key(1))[0]
    assert "4 converged" in repr(found)
    assert "parameters.a" in repr(found)


def test_searches_that_have_ended_are_read_back_from_a_checkpoint(tmp_path):
    with by_formula():
        first = fit(checkpoint=tmp_path / "fit.json")[0]
        again = fit(checkpoint=tmp_path / "fit.json", max_steps=1)[0]
    assert again.starts[0].steps == first.starts[0].steps > 1
    assert again.x.tolist() == first.x.tolist()


def test_conditions_hold_constants_and_parameters(found):
    args = found[0].conditions("b")
    assert float(args["offset"]) == 2
    assert float(args["a"]) == pytest.approx(found[0].values["parameters.a"])
    (formula, _) = srx.to_sympy(found[0].system, args=args)
    assert float(formula) == pytest.approx(found[0].values["parameters.a"])


def test_a_prior_is_a_function_of_the_values():
    def prior(system, data):
        return 0.5 * ((paramax.unwrap(system).parameters["a"] - 3.0) / 1e-6) ** 2

    with by_formula():
        found = fit(LOSS + prior)[0]
    np.testing.assert_allclose(found.values["parameters.a"], 3.0, atol=1e-5)
    assert jnp.isfinite(found.cost)
