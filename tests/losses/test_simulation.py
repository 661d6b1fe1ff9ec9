"""What is predicted where runs start from measurements, fail, or have no likelihood."""

import types

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx
from stiffrax.losses._model_and_data import _columns
from stiffrax.losses._simulation import Simulator, _initial_states

TS = np.array([1.0, 2.0, 3.0])

# Compiles fastest, and nothing here is stiff.
LOSS = srx.LikelihoodLoss(diffrax.Bosh3())
evaluate = eqx.filter_jit(LOSS.evaluate)
simulate = eqx.filter_jit(LOSS.simulate)


def still(t, y, args):
    """One object, so that nothing compiles twice."""
    return 0 * y


class TestStartsThatAreMeasured:
    @pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]])
    def test_replicates_are_averaged_whatever_their_order(self, order):
        values = np.array([[1.0, np.nan], [3.0, 5.0], [2.0, 5.5]])[order]
        data = srx.Measurements.from_arrays([0.0, 0.0, 1.0], values, names=["A", "B"])
        found = simulate(srx.System(still), data)
        np.testing.assert_allclose(found.states[0, 0], [2.0, 5.0])

    def test_predictions_at_other_times_start_there_too(self):
        data = srx.Measurements.from_arrays([0.0, 0.0, 1.0], [[1.0], [3.0], [2.0]], names=["A"])
        found = simulate(srx.System(still), data.resampled(4))
        np.testing.assert_allclose(found.values[0, :, 0], 2.0)

    partial = srx.Measurements.from_table(
        {"t": [0.0, 1.0, 2.0], "A": [5.0, 2.0, 1.0], "B": [None, 4.0, 3.0]}, sd={"A": 0.1, "B": 0.1}
    )
    decay = srx.System(
        lambda t, y, args: -args["k"] * y,
        parameters={"k": srx.positive(1.0, 0.01, 100.0)},
        states=["A", "B"],
    )

    @pytest.mark.parametrize("way", ["evaluate", "fit", "held out", "estimate", "drawn"])
    def test_a_start_that_is_not_measured_is_refused_wherever_data_are_known(self, way):
        whole = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [5.0, 2.0], "B": [4.0, 3.0]})
        calls = {
            "evaluate": lambda: LOSS(self.decay, self.partial),
            "fit": lambda: srx.fit(self.decay, self.partial, LOSS, steps=1),
            "held out": lambda: srx.fit(self.decay, whole, LOSS, steps=1, held_out=self.partial),
            "estimate": lambda: srx.fit_parameters(self.decay, self.partial, LOSS),
            "drawn": lambda: LOSS(self.decay, self.partial.resampled(3)),
        }
        with pytest.raises(ValueError, match="'.' of run '0' is not measured at the start"):
            calls[way]()

    def test_a_run_of_traced_data_without_one_has_failed(self):
        found = evaluate(self.decay, self.partial)
        assert [int(found.num_failed), int(found.num_solved)] == [1, 0]

    def test_measured_starts_are_no_residuals(self):
        data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0, 9.0], [2.0, 9.5]], names=["A", "B"])
        system = srx.System(
            still,
            observe=lambda t, y, args: {"A": y[0], "B": 9 + 0 * t},
            states=["A"],
        )
        found = evaluate(system, data)
        # B is no state: its cell at the start counts.
        assert int(found.num_solved) == 3
        sd = np.array([1.0, np.sqrt(0.125), np.sqrt(0.125)])
        expected = np.sum(np.log(sd) + 0.5 + 0.5 * np.log(2 * np.pi))
        np.testing.assert_allclose(found.value, expected, rtol=1e-7)


class TestRowsWithoutAMeasuredCell:
    system = srx.System(lambda t, y, args: -y, jnp.ones(1), states=["A"])

    def test_rows_behind_the_last_measured_one_are_predicted(self):
        data = srx.Measurements.from_arrays([0.0, 1.0, 2.0], [[1.0], [0.4], [np.nan]], names=["A"])
        values = simulate(self.system, data).values[0, :, 0]
        np.testing.assert_allclose(values, np.exp([0.0, -1.0, -2.0]), rtol=1e-3)

    def test_before_the_start_of_a_run_there_is_nothing_to_predict(self):
        rows = [[np.nan], [1.0], [0.4]]
        data = srx.Measurements.from_arrays([0.0, 1.0, 2.0], rows, names=["A"], start=1.0)
        found = simulate(self.system, data)
        np.testing.assert_allclose(found.values[0, :, 0], [np.nan, 1.0, np.exp(-1.0)], rtol=1e-3)
        assert not found.failed[0]


def test_steady_states_are_looked_for_in_the_time_of_the_runs_that_begin_so(monkeypatch):
    rest = lambda self, system, args, y0, span: (span[None], span < 0)
    monkeypatch.setattr(Simulator, "_rest", rest)
    ts = [[0.0, 5.0], [0.0, 0.0], [0.0, 7.0]]
    data = srx.Measurements.from_arrays(
        ts, np.ones((3, 2, 1)), names=["A"], constants={"rests": [1.0, 1.0, 0.0]}
    )
    resting = srx.SteadyState(jnp.ones(1), applies=lambda args: args["rests"] > 0)
    system = paramax.unwrap(srx.System(still, resting, states=["A"]))
    simulator = Simulator(diffrax.Bosh3(), 1e-3, None, 9, srx.DiscreteAdjoint())
    starts, _ = _initial_states(system, ("A",), data, simulator)
    assert starts.ravel().tolist() == [5.0, 7.0, 0.0]
    starts, _ = _initial_states(system, ("A",), data.select([1]), simulator)
    assert starts.ravel().tolist() == [1.0]


def test_runs_that_do_not_begin_at_rest_begin_as_without_a_steady_state(monkeypatch):
    def rest(self, system, args, y0, span):
        return jnp.where(span > 0, 2 * y0, y0), span < 0

    monkeypatch.setattr(Simulator, "_rest", rest)
    constants = {"rests": [1.0, 0.0], "dose": [5.0, 7.0]}
    data = srx.Measurements.from_arrays(TS, np.ones((2, 3, 1)), names=["A"], constants=constants)
    resting = srx.SteadyState(
        lambda args: (1 + args["dose"])[None],
        {"dose": 0.0},
        lambda y, args: 0.1 * y,
        lambda args: args["rests"] > 0,
    )
    system = paramax.unwrap(srx.System(still, resting, states=["A"]))
    simulator = Simulator(diffrax.Bosh3(), 1e-3, None, 9, srx.DiscreteAdjoint())
    starts, _ = _initial_states(system, ("A",), data, simulator)
    assert starts.ravel().tolist() == [0.2, 8.0]


class TestStartsAtZero:
    """Where nothing has a size to begin with, whatever the unit of the states."""

    data = srx.Measurements.from_arrays([0.0, 5.0, 100.0], np.ones((3, 2)), names=["A", "B"])

    def atol_of(self, monkeypatch, solved, field, y0):
        seen = []

        def solve(self, field, args, begin, end, y0, ts, atol):
            seen.append(atol)
            ys = jnp.zeros((len(ts), len(y0)))
            return types.SimpleNamespace(ys=ys, result=diffrax.RESULTS.successful)

        monkeypatch.setattr(Simulator, "_solve", solve)
        simulator = Simulator(diffrax.Bosh3(), 1e-6, None, 99, srx.DiscreteAdjoint())
        system = paramax.unwrap(srx.System(field, states=["A", "B"]))
        args, y0 = self.data.conditions(0), jnp.asarray(y0)
        if solved == "rest":
            simulator._rest(system, args, y0, jnp.asarray(100.0))
        else:
            ends, none = jnp.array([0.0, 100.0]), jnp.zeros((1, 2))
            simulator._solve_run(system, args, jnp.asarray(TS), ends, none, None, y0)
        return seen[0]

    @pytest.mark.parametrize("solved", ["run", "rest"])
    def test_the_least_gain_of_a_state_is_its_size(self, monkeypatch, solved):
        field = lambda t, y, args: jnp.array([3e-13, 1e-13]) - y
        atol = self.atol_of(monkeypatch, solved, field, [0.0, 0.0])
        np.testing.assert_allclose(atol, 1e-12 * 1e-13 * 100, rtol=1e-6)

    def test_rates_are_not_asked_where_a_start_is_known(self, monkeypatch):
        asked = []

        def field(t, y, args):
            jax.debug.callback(lambda: asked.append(t))
            return jnp.array([1e-13, jnp.nan])

        atol = self.atol_of(monkeypatch, "run", field, [2.0, 0.0])
        np.testing.assert_allclose(atol, [2e-12, 2e-12], rtol=1e-6)
        jax.effects_barrier()
        assert not asked

    def test_it_has_no_derivative_by_what_the_field_closes_over(self, monkeypatch):
        def atol(k):
            field = lambda t, y, args: k * jnp.array([3e-13, 1e-13]) - y
            return self.atol_of(monkeypatch, "rest", field, [0.0, 0.0])

        assert not np.any(jax.jvp(atol, (1.0,), (1.0,))[1])

    def test_a_state_that_hardly_changes_at_first_is_not_what_others_are_measured_by(
        self, monkeypatch
    ):
        field = lambda t, y, args: jnp.array([1.0, 1e-200])
        atol = self.atol_of(monkeypatch, "run", field, [0.0, 0.0])
        np.testing.assert_allclose(atol, 1e-12 * 100 * 1e-9, rtol=1e-6)

    def test_a_field_that_rests_has_no_size(self, monkeypatch):
        atol = self.atol_of(monkeypatch, "run", lambda t, y, args: -y, [0.0, 0.0])
        np.testing.assert_allclose(atol, 1e-12, rtol=1e-6)

    def test_a_pulse_of_a_small_input_is_not_stepped_over(self):
        pulse = {"t": [0.0, 100.0, 100.1, 100.2, 1e3], "feed": [0.0, 0.0, 1e-12, 0.0, 0.0]}
        data = srx.Measurements.from_arrays(
            [0.0, 1e3], np.ones((2, 1)), names=["A"], inputs={"feed": ("linear", pulse)}
        )
        fed = srx.System(lambda t, y, args: args["feed"](t) + 0 * y, jnp.zeros(1), states=["A"])
        np.testing.assert_allclose(simulate(fed, data).values[0, 1], 1e-13, rtol=1e-3)


def test_no_pulse_of_an_input_is_stepped_over():
    """The state is the integral of an input of straight lines: the rule of trapezoids is exact."""
    fine = np.arange(2001) / 10
    bells = [np.exp(-0.5 * ((fine - t) / w) ** 2) for t, w in ((80, 0.1), (80, 0.5), (3, 0.5))]
    trains = [np.resize([0.0] * rest + [5.0], 100) for rest in (2, 3, 4, 7)]
    runs = [(fine, u) for u in (*bells, bells[1] + bells[2], 2 - bells[1])]
    runs += [(2 * np.arange(100.0), u) for u in trains]
    for width in (1.0, 1e-2, 1e-4):
        ts, pulse = np.array([0, width / 2, width]), [0, 1 / width, 0]
        runs += [(ts, pulse), (np.append(0, 80 + ts), [0, *pulse])]
    table = {"run": [str(i) for i, (ts, _) in enumerate(runs) for _ in ts]}
    table |= {"t": np.concatenate([ts for ts, _ in runs])}
    table |= {"feed": np.concatenate([u for _, u in runs])}
    data = srx.Measurements.from_arrays(
        [0.0, 200.0], np.ones((len(runs), 2, 1)), names=["A"], inputs={"feed": ("linear", table)}
    )
    fed = srx.System(lambda t, y, args: args["feed"](t) - 0 * y, jnp.ones(1), states=["A"])
    expected = [1 + np.trapezoid(u, ts) + u[-1] * (200 - ts[-1]) for ts, u in runs]
    np.testing.assert_allclose(simulate(fed, data).values[:, 1, 0], expected, rtol=1e-3)


def test_doses_that_set_or_scale_a_state_have_a_closed_form():
    """Both states decay; one is halved at 1, which a row sees, and set to 3 at 2, which none does."""
    ts = np.array([0.0, 1.0, 2.0, 3.0])
    doses = [srx.Dose("0", 1.0, "A", 0.25, True, 0.5), srx.Dose("0", 2.0, "A", 3.0, keeps=0.0)]
    doses += [srx.Dose("1", 0.0, "B", 4.0, True, 0.0), srx.Dose("1", 2.0, "B", 0.0, True, 0.5)]
    doses += [srx.Dose("1", 2.0, "B", 1.0, True, 0.5)]
    data = srx.Measurements.from_arrays(ts, np.ones((2, 4, 2)), names=["A", "B"], doses=doses)
    decay = srx.System(lambda t, y, args: -y, jnp.array([1.0, 2.0]), states=["A", "B"])
    falls, halved = np.exp(-1.0), np.exp(-1.0) / 2 + 0.25
    quarter = falls**2 + 1
    expected = np.exp(-ts)[None, :, None] * np.array([1.0, 2.0]) * np.ones((2, 1, 1))
    expected[0, 1:, 0] = halved, halved * falls, 3 * falls
    expected[1, :, 1] = 4, 4 * falls, quarter, quarter * falls
    np.testing.assert_allclose(simulate(decay, data).values, expected, rtol=1e-3)


def test_starts_of_all_runs_are_traced_once():
    calls = []
    start = lambda args: (calls.append(1), jnp.stack([args["offset"]]))[1]
    system = paramax.unwrap(srx.System(still, start, states=["A"]))
    data = srx.Measurements.from_arrays(
        TS, np.ones((3, 3, 1)), names=["A"], constants={"offset": [1.0, 2.0, 3.0]}
    )
    starts, _ = _initial_states(
        system, ("A",), data, Simulator(LOSS.solver, 1e-3, None, 9, LOSS.adjoint)
    )
    assert (starts.ravel().tolist(), len(calls)) == ([1.0, 2.0, 3.0], 1)


class TestSpreadsOfTheSystem:
    data = srx.Measurements.from_arrays(TS, [[1.0, 1.2], [1.2, 1.0], [0.8, 1.2]], names=["A", "B"])

    def system(self, sd):
        return srx.System(still, jnp.ones(2), sd=sd, states=["A", "B"])

    def test_a_column_that_a_function_does_not_name_has_its_own_estimated(self):
        system = self.system(lambda t, y, args: {"A": 0.5 + 0 * t})
        sd = np.array([0.5, np.sqrt(0.08 / 3)])
        residuals = (np.asarray(self.data.values[0]) - 1) / sd
        expected = np.sum(residuals**2 / 2 + np.log(sd)) + 3 * np.log(2 * np.pi)
        np.testing.assert_allclose(evaluate(system, self.data).value, expected, rtol=1e-6)

    @pytest.mark.slow
    def test_a_spread_that_is_not_positive_is_no_likelihood(self):
        system = self.system(lambda t, y, args: {"A": 2.0 - t, "B": 1.0})
        found = evaluate(system, self.data)
        assert int(found.num_failed) == 1
        assert "run 0: A at time 2" in LOSS.first_failure(system, self.data)

    @pytest.mark.parametrize("sd", [0.0, {"A": -1.0}, np.nan])
    def test_a_number_that_is_not_positive_is_refused(self, sd):
        with pytest.raises(ValueError, match="standard deviations are positive"):
            self.system(sd)


class TestLogarithms:
    loss = srx.LikelihoodLoss(diffrax.Bosh3(), noise=srx.LogNormalNoise())
    system = srx.System(lambda t, y, args: 0 * y - 1, jnp.array([2.5]), states=["A"])

    def test_a_measurement_that_is_not_positive_is_named(self):
        data = srx.Measurements.from_arrays(TS, [[1.0], [0.0], [1.0]], names=["A"], sd=0.1)
        with pytest.raises(ValueError, match=r"Run '0' has the value 0 of 'A' at time 2, .* logar"):
            self.loss(self.system, data)

    def test_standard_deviations_of_data_are_divided_by_the_measurements(self):
        values = np.array([[[2.0], [0.5], [4.0]]])
        data = srx.Measurements.from_arrays(TS, values, names=["A"], sd=0.1)
        found = srx.Simulation(values + 1, np.zeros_like(values), values + 1, np.array([False]))
        spread = self.loss.spread(self.system, found, data)
        np.testing.assert_allclose(spread, 0.1 / values, rtol=1e-14)
        known = srx.System(self.system.field, jnp.array([2.5]), sd=0.2, states=["A"])
        relative = found._replace(sd=np.full_like(values, 0.2))
        np.testing.assert_allclose(self.loss.spread(known, relative, data), 0.2, rtol=1e-14)

    def test_a_prediction_that_is_not_positive_is_no_likelihood(self):
        data = srx.Measurements.from_arrays(TS, np.ones((3, 1)), names=["A"], sd=0.1, start=0.0)
        assert eqx.filter_jit(self.loss)(self.system, data) == jnp.inf
        assert "run 0: A at time 3 is predicted as -0.5" in self.loss.first_failure(
            self.system, data
        )


class TestFailedRuns:
    """y' = r k y^2 has no solution to t = 3 for r k = 1, and the other state starts at zero."""

    data = srx.Measurements.from_arrays(
        TS, np.ones((2, 3, 1)), names=["A"], sd=1.0, constants={"r": [0.1, 1.0]}, start=0.0
    )
    system = srx.System(
        lambda t, y, args: jnp.stack([args["r"] * args["k"] * y[0] ** 2, 1 + 0 * y[1]]),
        jnp.array([1.0, 0.0]),
        lambda t, y, args: {"A": args["k"] * (y[0] + jnp.log(y[1]))},
        states=["y", "z"],
        parameters={"k": srx.positive(1.0)},
    )

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["default", "checkpoints", "explicit"])
    def test_failed_runs_leave_the_gradient_of_the_others_finite(self, how):
        adjoint = diffrax.RecursiveCheckpointAdjoint() if how == "checkpoints" else None
        solver = diffrax.Tsit5() if how == "explicit" else None
        loss = srx.LikelihoodLoss(solver, rtol=1e-8, adjoint=adjoint, max_steps=64)
        value = lambda system, data: loss.evaluate(system, data).value
        found = eqx.filter_jit(eqx.filter_grad(value))(self.system, self.data)
        y = 1 / (1 - 0.1 * TS)
        residuals, slopes = y + np.log(TS) - 1, y + np.log(TS) + 0.1 * TS * y**2
        np.testing.assert_allclose(found.parameters["k"].raw, np.sum(residuals * slopes), rtol=1e-5)

    def test_nothing_is_predicted_of_failed_runs(self):
        loss = srx.LikelihoodLoss(diffrax.Bosh3(), max_steps=64)
        found = eqx.filter_jit(loss.simulate)(self.system, self.data)
        assert found.failed.tolist() == [False, True]
        assert np.isnan(found.values[1]).all()
        assert np.isfinite(found.values[0]).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("adjoint", [None, diffrax.RecursiveCheckpointAdjoint()])
    def test_runs_without_a_steady_state_leave_the_gradient_of_the_others_finite(self, adjoint):
        # y' = r k y^2 - y + 0.1 rests for r = 0.1 and grows without bound for r = 10.
        system = srx.System(
            lambda t, y, args: args["r"] * args["k"] * y**2 - y + 0.1,
            srx.SteadyState(jnp.ones(1), {}, lambda y, args: jnp.sqrt(y - 0.05)),
            states=["A"],
            parameters={"k": srx.positive(1.0)},
        )
        data = srx.Measurements.from_arrays(
            [0.0], np.ones((2, 1, 1)), names=["A"], sd=1.0, constants={"r": [0.1, 10.0]}
        )
        loss = srx.LikelihoodLoss(adjoint=adjoint, max_steps=64)
        value = lambda system, data: loss.evaluate(system, data).value
        found = eqx.filter_jit(eqx.filter_grad(value))(system, data)
        y = (1 - np.sqrt(0.96)) / 0.2
        start, slope = np.sqrt(y - 0.05), 0.1 * y**2 / (1 - 0.2 * y)
        expected = (start - 1) / (2 * start) * slope
        np.testing.assert_allclose(found.parameters["k"].raw, expected, rtol=1e-4)


class TestColumns:
    """What functions of a system say of the columns of data that have A alone."""

    def test_what_is_observed_besides_is_left_out(self):
        found = _columns("observe", {"B": 2.0, "A": 1.0}, ("A",))
        assert found.tolist() == [1.0]

    def test_a_column_that_is_not_observed_is_named(self):
        with pytest.raises(ValueError, match=r"`observe` names \['B'\], and not the column 'A'"):
            _columns("observe", {"B": 2.0}, ("A",))

    def test_a_spread_may_be_of_what_is_observed_besides(self):
        assert _columns("sd", {"B": 2.0}, ("A",), {"B"}).tolist() == [0.0]

    def test_a_spread_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="`sd` names 'B', which is no column of the data"):
            _columns("sd", {"B": 2.0}, ("A",))


def test_a_run_without_a_steady_state_is_said_to_have_none(monkeypatch):
    resting = srx.System(lambda t, y, args: -y, srx.SteadyState(jnp.ones(1)), states=["A"])
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 2, 1)), names=["A"], sd=1.0)
    nothing = srx.Simulation(*[jnp.full((2, 2, 1), jnp.nan)] * 3, jnp.ones(2, bool))
    monkeypatch.setattr(srx.LikelihoodLoss, "simulate", lambda *_: nothing)
    monkeypatch.setattr(Simulator, "cause", lambda *_: "")
    for unrested, said in (([True, False], "steady state"), ([False, True], "solve")):
        monkeypatch.setattr(Simulator, "unrested", lambda *_, x=unrested: np.array(x))
        assert LOSS.first_failure(resting, data).startswith(f"the {said} of run 0")


@pytest.mark.parametrize("field", [lambda t, y, args: -y[0], lambda t, y, args: -y[:1]])
def test_a_derivative_that_would_be_that_of_all_states_is_refused(field):
    data = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 0.5], "B": [1.0, 0.4]})
    system = srx.System(field, jnp.array([1.0, 2.0]), states=["A", "B"])
    with (
        jax.numpy_rank_promotion("allow"),
        pytest.raises(ValueError, match=r"`field` returns an array of shape .* of the 2 states"),
    ):
        LOSS.simulate(system, data)
