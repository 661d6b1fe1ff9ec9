"""Estimates of parameters against closed forms of linear regression, and their failures."""

import functools
import json
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import stiffrax as srx
from stiffrax.training._fit_parameters import random_numbers
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._parameter_vector import ParameterVector

TS = np.linspace(0.0, 4.0, 9)
NOISE = np.random.default_rng(0).normal(size=9)
# Compiles fastest, and nothing here is stiff.
LOSS = srx.LikelihoodLoss(diffrax.Bosh3())


class Slope(eqx.Module):
    """y' = k1 + k2, of which the data know the sum alone where both are free."""

    k1: Any
    k2: Any

    def __call__(self, t, y, args):
        return self.k1 + self.k2 + 0 * y


def line(k2, start=0.0):
    field = Slope(srx.bounded(0.1, -5.0, 5.0), k2)
    start = srx.bounded([start], -5.0, 5.0)
    return srx.System(field, start, states=["A"])


def measured(sd=None, size=0.1):
    values = (1.0 + 0.5 * TS + size * NOISE)[:, None]
    return srx.Measurements.from_arrays(TS, values, names=["A"], sd=sd)


@functools.cache
def regression(sd):
    return srx.fit_parameters(line(srx.fixed(0.0)), measured(sd), LOSS)


def closed_form(level=0.95):
    """Slope, its standard error by the residuals, and the half-width of its interval."""
    found: Any = scipy.stats.linregress(TS, measured().values[0, :, 0])
    return found.slope, found.stderr, scipy.stats.t.ppf((1 + level) / 2, 7) * found.stderr


class TestLinearRegression:
    def test_the_estimate_is_that_of_least_squares(self):
        found = regression(None)
        assert found.converged
        np.testing.assert_allclose(found.values["field.k1"], closed_form()[0], rtol=1e-6)

    def test_errors_and_intervals_with_an_estimated_spread_are_those_of_student(self):
        slope, error, half = closed_form()
        one = regression(None).estimates["field.k1"]
        np.testing.assert_allclose(one.standard_error, error, rtol=1e-6)
        np.testing.assert_allclose([one.lower, one.upper], [slope - half, slope + half], rtol=1e-6)

    @pytest.mark.slow
    def test_errors_with_a_known_spread_are_those_of_the_normal_equations(self):
        error = 0.1 / np.sqrt(np.sum((TS - TS.mean()) ** 2))
        one = regression(0.1).estimates["field.k1"]
        np.testing.assert_allclose(one.standard_error, error, rtol=1e-6)

    @pytest.mark.slow_cases("0.1")
    @pytest.mark.parametrize("sd", [0.1, None])
    def test_the_profile_is_the_closed_form(self, sd):
        found = regression(sd)
        slope, _, half = closed_form()
        error = 0.1 / np.sqrt(np.sum((TS - TS.mean()) ** 2))
        half = half if sd is None else scipy.stats.norm.ppf(0.975) * error
        profile = found.profile("k1")["field.k1"]
        assert profile.verdict == "identifiable"
        # Between two points the root of the rise is drawn as a line: exact for a parabola only.
        rtol = 1e-6 if sd else 1e-3
        np.testing.assert_allclose(
            [profile.lower, profile.upper], slope + half * np.r_[-1, 1], rtol
        )
        if sd:
            rise = (profile.values - slope) ** 2 / 2 / error**2
            np.testing.assert_allclose(profile.costs - found.cost, rise, atol=1e-6)

    @pytest.mark.slow
    def test_the_band_is_that_of_the_line(self):
        _, _, lower, upper = regression(0.1).band()
        spread = 0.01 * (1 / 9 + (TS - TS.mean()) ** 2 / np.sum((TS - TS.mean()) ** 2))
        half = scipy.stats.norm.ppf(0.975) * np.sqrt(spread)
        np.testing.assert_allclose((upper - lower)[0, :, 0] / 2, half, rtol=1e-6)

    @pytest.mark.slow
    def test_beyond_the_bounds_there_is_no_density(self):
        # The bounds are -5 and 5.
        beyond = jnp.array([5.1, 0.0])[: len(regression(None).x)]
        assert regression(None).log_density(beyond) == -jnp.inf

    @pytest.mark.slow
    def test_the_log_density_is_minus_the_cost_and_differentiable(self):
        found = regression(0.1)
        value, gradient = jax.value_and_grad(found.log_density)(jnp.asarray(found.x))
        np.testing.assert_allclose(value, -found.cost, rtol=1e-9)
        np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_laplace_noise_finds_the_line_of_least_absolute_residuals():
    loss = srx.LikelihoodLoss(diffrax.Bosh3(), noise=srx.LaplaceNoise())
    found = srx.fit_parameters(line(srx.fixed(0.0)), measured(0.1), loss)
    assert [found.converged, found.starts[0].steps < 10] == [True, True]
    # It goes through two of the points.
    y = measured().values[0, :, 0]
    lines = [np.polyfit(TS[[i, j]], y[[i, j]], 1) for i in range(9) for j in range(i)]
    best = min(lines, key=lambda one: np.sum(np.abs(np.polyval(one, TS) - y)))
    np.testing.assert_allclose(list(found.values.values()), best, rtol=1e-5)


@pytest.mark.slow
def test_what_runs_start_from_are_no_residuals():
    # Of two rows a run the first is the start: rises 1 and their noise are what is left.
    values = np.stack([NOISE[:8], 1 + NOISE[::-1][:8]], axis=1)[..., None]
    data = srx.Measurements.from_arrays([0.0, 1.0], values, names=["A"])
    field = Slope(srx.bounded(0.1, -5.0, 5.0), srx.fixed(0.0))
    found = srx.fit_parameters(srx.System(field), data, LOSS)
    rises = values[:, 1, 0] - values[:, 0, 0]
    one = found.estimates["field.k1"]
    np.testing.assert_allclose(one.value, rises.mean(), rtol=1e-6)
    np.testing.assert_allclose(one.standard_error, rises.std(ddof=1) / np.sqrt(8), rtol=1e-6)
    assert found.residuals().shape == (8,)


def test_a_prediction_needs_no_spread_that_the_noise_cannot_estimate():
    vector = ParameterVector(line(srx.fixed(0.4)))
    loss = srx.LikelihoodLoss(diffrax.Bosh3(), noise=srx.StudentNoise())
    found = LikelihoodModel(vector, loss, measured()).predict(vector.start)
    np.testing.assert_allclose(found.values[0, :, 0], 0.5 * TS, atol=1e-6)


@functools.cache
def starts():
    system = line(srx.bounded(0.1, -50.0, 50.0))
    return srx.fit_parameters(system, measured(0.1), LOSS, starts=4, key=jax.random.key(1))


class TestManyStarts:
    @pytest.mark.slow
    def test_all_end_at_the_least_cost(self):
        assert starts().num_at_best == 4
        assert [one.stopped for one in starts().starts] == ["converged"] * 4

    @pytest.mark.slow
    def test_what_the_data_cannot_tell_apart_has_no_standard_error(self):
        found = starts()
        assert np.isinf(found.estimates["field.k1"].standard_error)
        assert np.isfinite(found.estimates["initial_state[0]"].standard_error)

    @pytest.mark.slow
    def test_its_profile_is_flat_and_named_so(self):
        profile = starts().profile("k1")["field.k1"]
        assert profile.verdict == "structurally not identifiable"
        assert (profile.lower, profile.upper) == (-5.0, 5.0)

    @pytest.mark.slow
    def test_a_table_says_what_was_found(self):
        assert "field.k1" in repr(starts())
        assert "4 converged" in repr(starts())


@pytest.mark.slow
def test_an_estimate_at_its_bound_says_so():
    field = Slope(srx.bounded(0.1, -5.0, 0.3), srx.fixed(0.0))
    system = srx.System(field, jnp.ones(1), states=["A"])
    found = srx.fit_parameters(system, measured(0.1), LOSS)
    assert found.estimates["field.k1"].bound == "upper"
    assert found.values["field.k1"] == 0.3
    assert found.converged


@pytest.mark.slow
def test_a_standard_deviation_that_is_a_parameter_is_the_one_put_in_by_formula():
    field = Slope(srx.bounded(0.1, -5.0, 5.0), srx.fixed(0.0))
    start = srx.bounded([0.0], -5.0, 5.0)
    system = srx.System(field, start, sd={"A": srx.positive(1.0, 1e-3, 1e2)}, states=["A"])
    found = srx.fit_parameters(system, measured(), srx.LikelihoodLoss())
    residual: Any = scipy.stats.linregress(TS, measured().values[0, :, 0])
    left = measured().values[0, :, 0] - residual.intercept - residual.slope * TS
    np.testing.assert_allclose(found.values["sd.A"], np.sqrt(np.mean(left**2)), rtol=1e-5)
    np.testing.assert_allclose(found.cost, regression(None).cost, rtol=1e-9)


@pytest.mark.slow
def test_a_penalty_is_a_prior():
    def penalty(system, data):
        return (system.field.k1.raw - 1.0) ** 2 / 2 / 0.01**2

    system = line(srx.fixed(0.0))
    found = srx.fit_parameters(system, measured(0.1), LOSS + penalty)
    design = np.stack([TS, np.ones(9)], axis=1) / 0.1
    rows = np.concatenate([design, [[1 / 0.01, 0]]])
    right = np.append(measured().values[0, :, 0] / 0.1, 1.0 / 0.01)
    expected = np.linalg.lstsq(rows, right, rcond=None)[0]
    np.testing.assert_allclose(found.x, expected, rtol=1e-6)


class Escapes(eqx.Module):
    """y' = r y^2 from 1, which has no solution to t = 4 for r above 1/4."""

    r: Any

    def __call__(self, t, y, args):
        return self.r * y**2


def escaping(value, lower=-2.0):
    system = srx.System(Escapes(srx.bounded(value, lower, 2.0)), jnp.ones(1), states=["A"])
    values = (1 / (1 - 0.2 * TS))[:, None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"], sd=0.01)
    return system, data, srx.LikelihoodLoss(diffrax.Bosh3(), max_steps=128)


def test_a_point_at_which_a_solve_fails_is_never_accepted():
    found = srx.fit_parameters(*escaping(-1.0), starts=4, key=jax.random.key(0))
    assert all(one.stopped == "converged" for one in found.starts)
    np.testing.assert_allclose(found.values["field.r"], 0.2, rtol=1e-5)


@pytest.mark.slow
def test_where_nothing_can_be_solved_the_fit_says_so():
    with pytest.raises(ValueError, match="In none of 1 starts could the system be solved"):
        srx.fit_parameters(*escaping(1.0, 0.5))


def test_a_derivative_that_is_not_finite_is_named():
    observe = lambda t, y, args: {"A": jnp.sqrt(y[0])}
    system = srx.System(Slope(srx.positive(0.1), 1.0), jnp.zeros(1), observe=observe)
    with pytest.raises(
        ValueError, match=r"derivative of column 'A' at time 0 of run '0' by 'field\.\w+' is not"
    ):
        srx.fit_parameters(system, measured(0.1), LOSS)


class TestHops:
    def test_they_need_a_key(self):
        with pytest.raises(ValueError, match="`hops=2` was given without a key"):
            srx.fit_parameters(line(srx.fixed(0.0)), measured(0.1), LOSS, hops=2)

    @pytest.mark.usefixtures("unchecked_types")
    def test_a_key_is_one_of_jax(self):
        vector = ParameterVector(srx.bounded(1.0, 0.0, 2.0))
        for key in (0, np.random.default_rng(0), jax.random.split(jax.random.key(0))):
            with pytest.raises(ValueError, match=r"one key is needed. Write `key=jax.random.key\("):
                random_numbers(vector, 1, 2, key)

    def test_they_need_a_parameter_with_two_bounds(self):
        system = srx.System(Slope(srx.positive(0.1), srx.fixed(0.0)), jnp.ones(1), states=["A"])
        options: dict[str, Any] = {"hops": 2, "key": jax.random.key(0)}
        with pytest.raises(ValueError, match="no parameter has two bounds.*leave `hops` out"):
            srx.fit_parameters(system, measured(0.1), LOSS, **options)

    def test_their_number_is_a_count(self):
        with pytest.raises(ValueError, match=r"hops=-1"):
            srx.fit_parameters(line(srx.fixed(0.0)), measured(0.1), LOSS, hops=-1)


class TestOptax:
    @pytest.mark.slow
    def test_fit_trains_a_system_and_stops_at_bounds(self):
        field = Slope(srx.bounded(0.1, -5.0, 0.3), srx.fixed(0.0))
        system = srx.System(field, jnp.ones(1), states=["A"])
        found = srx.fit(system, measured(0.1), LOSS, optimizer=optax.adam(0.05), steps=30)
        assert float(found.model.field.k1.raw) == 0.3
        assert float(found.model.field.k2.tree) == 0.0

    def test_minibatches_of_measurements_are_refused(self):
        with pytest.raises(ValueError, match="was given with `Measurements`"):
            srx.fit(line(srx.fixed(0.0)), measured(0.1), LOSS, batch_size=1)


class TestCheckpoints:
    def fit(self, path, **options):
        return srx.fit_parameters(
            line(srx.fixed(0.0)), measured(0.1), LOSS, checkpoint=path, **options
        )

    @pytest.mark.slow
    def test_hops_drawn_by_another_key_are_not_read_back(self, tmp_path):
        path = tmp_path / "fit.json"
        first = self.fit(path, hops=1, key=jax.random.key(0))
        again = self.fit(path, hops=1, key=jax.random.key(0), max_steps=1)
        assert again.starts[0].hops == first.starts[0].hops == 1
        assert f"Of 1 hops {first.starts[0].hops_gained} led to a lower minimum." in repr(again)
        with pytest.raises(ValueError, match="starts, hops or precision"):
            self.fit(path, hops=1, key=jax.random.key(1))

    def test_an_interrupt_before_anything_is_solved_is_one(self, tmp_path, monkeypatch):
        def interrupt(self, points):
            raise KeyboardInterrupt

        monkeypatch.setattr(LikelihoodModel, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.fit(tmp_path / "fit.json")
        assert json.loads((tmp_path / "fit.json").read_text())["searches"] == {}

    def test_those_of_other_data_are_refused(self, tmp_path):
        path = tmp_path / "fit.json"
        path.write_text("{}")
        with pytest.raises(ValueError, match="holds no searches of this version"):
            self.fit(path)


class TestMessages:
    def test_starts_without_a_key(self):
        with pytest.raises(ValueError, match=r"Write `key=jax.random.key\(0\)`"):
            srx.fit_parameters(line(srx.fixed(0.0)), measured(), LOSS, starts=2)

    def test_starts_without_bounds(self):
        system = srx.System(Slope(jnp.array(1.0), srx.fixed(0.0)), jnp.ones(1), states=["A"])
        with pytest.raises(ValueError, match="no parameter has two bounds"):
            srx.fit_parameters(system, measured(), LOSS, starts=2, key=jax.random.key(0))

    def test_a_system_without_parameters(self):
        system = srx.System(lambda t, y, args: -y, jnp.ones(1), states=["A"])
        with pytest.raises(ValueError, match="no parameter to fit"):
            srx.fit_parameters(system, measured(), LOSS)

    def test_a_loss_that_is_no_likelihood(self):
        with pytest.raises(ValueError, match="needs one `LikelihoodLoss`"):
            srx.fit_parameters(line(srx.fixed(0.0)), measured(), srx.TrajectoryLoss())

    def test_a_name_that_is_no_parameter(self):
        with pytest.raises(ValueError, match="no parameter 'k3'"):
            regression(None).profile("k3")


class TestTermsThatAreAdded:
    """To the likelihood of one cell that is `a` itself, and of `b` and `c` nothing."""

    data = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [None, 0.1]}, sd={"A": 0.01})
    system = srx.System(
        lambda t, y, args: 0 * y,
        jnp.zeros(1),
        lambda t, y, args: {"A": args["a"] + 0 * y[0]},
        states=["A"],
        parameters={
            k: srx.bounded(x, -5e2, 5e2) for k, x in {"a": 0.3, "b": 1e-9, "c": 1.0}.items()
        },
    )

    @pytest.mark.slow
    def test_a_sharp_prior_says_nothing_of_others_and_one_without_curvature_nothing_at_all(self):
        def penalty(system, data):
            a, b, c = (system.parameters[k].raw for k in "abc")
            return 0.5 * (a / 0.01) ** 2 + 0.5 * (b / 10.0) ** 2 + jnp.abs(c)

        loss = srx.LikelihoodLoss(diffrax.Tsit5()) + penalty
        found = srx.fit_parameters(self.system, self.data, loss)
        errors = [one.standard_error for one in found.estimates.values()]
        np.testing.assert_allclose(errors, [0.01 / np.sqrt(2), 10.0, np.inf], rtol=1e-6)

    def test_where_a_loss_that_is_added_fails_nothing_is_accepted(self):
        class Falling(srx.AbstractLoss):
            def evaluate(self, model, data):
                b = model.parameters["b"].raw
                return srx.LossValue(-b, (b > 1).astype(int), 1)

        loss = LOSS + Falling()
        model = LikelihoodModel(ParameterVector(self.system), loss, self.data)
        [found] = model(np.array([[0.1, 2.0, 1.0]]))
        assert [found.usable, found.num_failed] == [False, 1]
        assert jax.jit(model.cost)(jnp.array([0.1, 2.0, 1.0])) == np.inf
