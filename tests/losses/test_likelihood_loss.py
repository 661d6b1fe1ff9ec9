"""The likelihood of measurements, from states known in closed form."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import stiffrax as srx

TS = np.linspace(0.0, 2.0, 5)


class Decay(eqx.Module):
    """y' = feed - k y, where the runs have a feed."""

    k: Any

    def __call__(self, t, y, args):
        feed = args["feed"](t) if args.inputs else 0.0
        return feed - self.k * y


def decay(**options):
    return srx.System(Decay(srx.positive(1.0)), jnp.ones(1), states=["A"], **options)


def measured(values=None, **options):
    values = np.exp(-TS) if values is None else values
    return srx.Measurements.from_arrays(TS, np.asarray(values)[:, None], names=["A"], **options)


# By the cheapest program: what runs start from, receive and jump at is not the solver's.
simulate = eqx.filter_jit(
    lambda system, data: srx.LikelihoodLoss(diffrax.Tsit5()).simulate(system, data)
)


TIGHT = srx.LikelihoodLoss(diffrax.Tsit5(), rtol=1e-9)
value = eqx.filter_jit(lambda loss, system, data: loss(system, data))


class TestStandardDeviations:
    noisy = np.exp(-TS) + np.array([0.1, -0.1, 0.1, -0.1, 0.1])

    @pytest.mark.slow_cases("data", "system")
    @pytest.mark.parametrize("where", ["data", "system", "function"])
    def test_they_are_those_of_the_data_or_the_system(self, where):
        data = measured(self.noisy, sd=0.2 if where == "data" else None)
        sd = {"data": None, "system": {"A": 0.2}, "function": lambda t, y, args: {"A": 0.2 + 0 * t}}
        found = value(TIGHT, decay(sd=sd[where]), data)
        expected = 5 * (0.5**2 / 2 + np.log(0.2) + 0.5 * np.log(2 * np.pi))
        np.testing.assert_allclose(found, expected, rtol=1e-7)

    def test_without_any_the_best_one_is_taken(self):
        found = value(TIGHT, decay(), measured(self.noisy))
        expected = 5 * (0.5 + np.log(0.1) + 0.5 * np.log(2 * np.pi))
        np.testing.assert_allclose(found, expected, rtol=1e-7)

    def test_a_noise_without_formula_needs_none_where_all_are_given(self):
        loss = srx.LikelihoodLoss(diffrax.Bosh3(), srx.StudentNoise(4.0))
        data = jax.tree.map(jnp.asarray, measured(self.noisy, sd=0.2))
        found = value(loss, decay(), data)
        expected = -scipy.stats.t.logpdf(self.noisy, 4, np.exp(-TS), 0.2).sum()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert loss.for_data(data).estimates(decay(), data) == [False]
        with pytest.raises(Exception, match="StudentNoise cannot estimate"):
            value(loss, decay(), eqx.tree_at(lambda d: d.sd, data, 0 * data.sd))

    @pytest.mark.slow
    def test_runs_held_out_without_any_are_judged_by_the_best_one(self):
        data, other = measured(sd=0.1), measured(self.noisy)
        loss = srx.LikelihoodLoss(diffrax.Bosh3())
        found = srx.fit(decay(), data, loss, steps=1, held_out=other)
        expected = value(loss, found.last_model, other)
        np.testing.assert_allclose(found.history.held_out_loss, expected, rtol=1e-6)
        assert np.isfinite(expected)
        assert found.num_skipped == 0

    @pytest.mark.slow
    def test_of_a_perfect_fit_the_likelihood_is_finite(self):
        loss = srx.LikelihoodLoss()
        value, gradient = eqx.filter_value_and_grad(lambda s: loss(s, measured()))(decay())
        assert np.isfinite(value)
        assert np.isfinite(gradient.field.k.raw)


def test_a_cell_that_was_not_measured_counts_nothing():
    values = np.exp(-TS)
    values[2] = np.nan
    whole, part = (value(TIGHT, decay(sd=1.0), measured(x)) for x in (np.exp(-TS), values))
    np.testing.assert_allclose(part, whole * 4 / 5, rtol=1e-6)


@pytest.mark.slow
def test_a_run_that_fails_is_counted_and_no_part_of_the_sum():
    class Grows(eqx.Module):
        def __call__(self, t, y, args):
            return args["rate"] * y**2

    data = srx.Measurements.from_arrays(
        TS, np.ones((2, 5, 1)), names=["A"], sd=1.0, constants={"rate": [0.0, 1.0]}
    )
    system = srx.System(Grows(), jnp.ones(1), states=["A"])
    loss = srx.LikelihoodLoss(max_steps=64)
    found = loss.evaluate(system, data)
    assert (int(found.num_failed), int(found.num_solved)) == (1, 5)
    np.testing.assert_allclose(found.value, 2.5 * np.log(2 * np.pi))
    failure = loss.first_failure(system, data)
    assert failure.startswith("the solve of run 1: The maximum number of solver steps")


def test_a_dose_is_added_after_the_measurement_at_its_time_which_sees_it_if_that_is_said():
    data = measured()
    dosed = srx.Measurements(
        **{f: getattr(data, f) for f in ("ts", "values", "mask", "sd", "starts", "constants")},
        inputs={},
        doses=(srx.Dose("0", 1.0, "A", 2.0), srx.Dose("0", 2.0, "A", 1.0, seen=True)),
        names=("A",),
        units=("",),
        run_names=("0",),
        numbers=(0,),
    )
    expected = np.exp(-TS) + np.where(TS > 1, 2 * np.exp(-(TS - 1)), 0)
    expected += np.where(TS >= 2, np.exp(-(TS - 2)), 0)
    np.testing.assert_allclose(simulate(decay(), dosed).values[0, :, 0], expected, rtol=1e-5)


def test_an_input_that_jumps_is_solved_to_its_jumps():
    table = {"t": TS, "A": np.exp(-TS), "feed": [0.0, 0.0, 3.0, 3.0, 3.0]}
    data = srx.Measurements.from_table(table, inputs={"feed": "step"})
    expected = np.exp(-TS) + np.where(TS > 1, 3 * (1 - np.exp(-(TS - 1))), 0)
    np.testing.assert_allclose(simulate(decay(), data).values[0, :, 0], expected, rtol=1e-5)


# Only a method for stiff problems comes to rest in few steps.
rested = eqx.filter_jit(lambda system, data: srx.LikelihoodLoss().simulate(system, data))


class TestSteadyStates:
    class Turnover(eqx.Module):
        """Two pools that keep their sum, so that the Jacobian is singular."""

        k: Any

        def __call__(self, t, y, args):
            flow = (1 + args["drug"]) * self.k * y[0] - y[1]
            return jnp.stack([-flow, flow])

    data = srx.Measurements.from_arrays(
        TS, np.ones((5, 1)), names=["A"], sd=1.0, constants={"drug": [1.0]}
    )

    def system(self, k=3.0, field=None):
        resting = srx.SteadyState({"A": 1.0, "B": 1.0}, {"drug": 0.0})
        field = self.Turnover(srx.positive(k)) if field is None else field
        observe = lambda t, y, args: {"A": y[0]}
        return srx.System(field, resting, observe, states=["A", "B"])

    @pytest.mark.slow
    def test_a_run_starts_where_the_system_rests_and_conserved_amounts_stay(self):
        found = rested(self.system(), self.data)
        np.testing.assert_allclose(found.states[0, 0], [0.5, 1.5], rtol=1e-5)
        np.testing.assert_allclose(found.states[0, -1].sum(), 2.0, rtol=1e-6)

    @pytest.mark.slow
    def test_its_derivative_is_that_of_the_resting_state(self):
        loss = srx.LikelihoodLoss()

        def first(raw):
            system = eqx.tree_at(lambda s: s.field.k.raw, self.system(), raw)
            return loss.simulate(system, self.data).values[0, 0, 0]

        found = jax.grad(first)(jnp.log(3.0))
        np.testing.assert_allclose(found, -2 * 3 / (1 + 3) ** 2, rtol=1e-4)

    @pytest.mark.slow
    def test_where_there_is_none_the_run_has_failed(self):
        field = lambda t, y, args: jnp.stack([y[1], -y[0]])
        found = rested(self.system(field=field), self.data)
        assert bool(found.failed[0])
        failure = srx.LikelihoodLoss().first_failure(self.system(field=field), self.data)
        assert failure.startswith("the steady state of run 0")


@pytest.mark.slow
def test_runs_start_where_everything_is_measured_if_nothing_is_said():
    values = np.stack([np.exp(-TS), 2 * np.exp(-TS)])[..., None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"])
    system = srx.System(Decay(srx.positive(1.0)))
    np.testing.assert_allclose(simulate(system, data).values, values, rtol=1e-5)


class TestMessages:
    def test_a_start_that_is_not_measured(self):
        data = srx.Measurements.from_arrays(TS, np.exp(-TS)[:, None], names=["A"], start=-1.0)
        with pytest.raises(ValueError, match="'A' of run '0' is not measured at the start"):
            srx.LikelihoodLoss()(srx.System(Decay(srx.positive(1.0))), data)

    @pytest.mark.slow
    def test_a_column_that_is_no_state(self):
        with pytest.raises(ValueError, match="a column 'A', which is no state"):
            srx.LikelihoodLoss()(
                srx.System(lambda t, y, a: -y, jnp.ones(1), states=["B"]), measured()
            )

    def test_a_condition_that_is_a_parameter_too(self):
        args = srx.Conditions(
            jnp.asarray(0), jnp.zeros(()), {"k": jnp.ones(())}, {}, {"k": 2.0, "m": 3.0}
        )
        assert args["m"] == 3
        with pytest.raises(ValueError, match=r"`args\['k'\]` was asked for, which is a constant"):
            args["k"]
        with pytest.raises(ValueError, match=r"parameters \['k', 'm'\].*`System\(..., parameters="):
            args["n"]

    def test_a_condition_that_the_runs_do_not_have(self):
        system = srx.System(lambda t, y, args: -args["T"] * y, jnp.ones(1), states=["A"])
        with pytest.raises(ValueError, match=r"`args\['T'\]` was asked for"):
            srx.LikelihoodLoss()(system, measured())

    @pytest.mark.slow
    def test_an_observable_that_is_no_column(self):
        system = decay(observe=lambda t, y, args: {"B": y[0]})
        with pytest.raises(ValueError, match=r"`observe` names \['B'\]"):
            srx.LikelihoodLoss()(system, measured())

    @pytest.mark.slow
    def test_observables_of_another_number(self):
        system = decay(observe=lambda t, y, args: jnp.ones(2))
        with pytest.raises(ValueError, match=r"`observe` returns an array of shape \(2,\)"):
            srx.LikelihoodLoss()(system, measured())

    def test_a_start_of_another_size(self):
        system = srx.System(lambda t, y, args: -y, jnp.ones(2), states=["A"])
        with pytest.raises(ValueError, match="starts with 2 states"):
            srx.LikelihoodLoss()(system, measured())

    def test_a_start_that_names_other_states(self):
        system = srx.System(lambda t, y, args: -y, {"B": 1.0}, states=["A"])
        with pytest.raises(ValueError, match=r"`initial_state` names \['B'\]"):
            srx.LikelihoodLoss()(system, measured())

    def test_a_start_for_each_run_by_names(self):
        system = srx.System(lambda t, y, args: -y, {"A": jnp.ones(3)}, states=["A"])
        with pytest.raises(
            ValueError, match=r"`initial_state` names \['A'\].*each needs one number"
        ):
            srx.LikelihoodLoss()(system, measured())

    def test_a_model_that_is_no_system(self):
        with pytest.raises(ValueError, match=r"Write `System\(field, initial_state\)`"):
            srx.LikelihoodLoss()(lambda t, y, args: -y, measured())

    def test_data_that_are_no_measurements(self):
        with pytest.raises(ValueError, match="`data` is"):
            srx.LikelihoodLoss()(decay(), np.ones(3))

    def test_a_noise_that_is_none(self):
        with pytest.raises(ValueError, match="it needs a noise model"):
            srx.LikelihoodLoss(noise=0.1)

    def test_values_of_log_normal_noise_in_arrays_of_jax(self):
        data = jax.tree.map(jnp.asarray, measured([1.0, 0.5, -0.1, 0.2, 0.1]))
        with pytest.raises(ValueError, match="has the value -0.1"):
            srx.LikelihoodLoss(noise=srx.LogNormalNoise())(decay(), data)

    def test_a_column_without_noise(self):
        with pytest.raises(ValueError, match="not the column 'A'"):
            srx.LikelihoodLoss(noise={"B": srx.NormalNoise()})(decay(), measured())

    def test_a_dose_to_a_state_that_is_none(self):
        table = {"t": TS, "A": np.exp(-TS)}
        data = srx.Measurements.from_table(table, doses=[srx.Dose("0", 1.0, "B", 1.0)])
        with pytest.raises(ValueError, match="adds to the state 'B'"):
            srx.LikelihoodLoss()(decay(), data)


class TestStartsOfRuns:
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((3, 2, 1)), names=["A"], sd=1.0)
    starts = jnp.array([[1.0], [2.0], [3.0]])

    def system(self, starts):
        return srx.System(lambda t, y, args: 0 * y + args.run.astype(float), starts, states=["A"])

    @pytest.mark.slow
    def test_a_selected_run_keeps_its_own(self):
        kept, out = self.data.split([0])
        found = simulate(self.system(self.starts), kept).values[:, :, 0]
        np.testing.assert_allclose(found, [[2, 3], [3, 5]])
        np.testing.assert_allclose(simulate(self.system(self.starts), out).values.ravel(), [1, 1])

    def test_one_for_too_few_runs_is_refused(self):
        with pytest.raises(
            ValueError, match="has 2 rows, and the data have the run '2' of number 2"
        ):
            srx.LikelihoodLoss()(self.system(self.starts[:2]), self.data)

    @pytest.mark.slow
    def test_runs_held_out_of_trajectories_keep_their_own(self):
        data = srx.Trajectories.from_arrays(
            [0.0, 1.0], [[[0.0], [1.0]], [[9.0], [9.0]]], names=["A"]
        )
        system = srx.System(
            Decay(srx.positive(1.0)), jnp.array([[2.0], [9.0]]), sd=1.0, states=["A"]
        )
        found = srx.fit(system, data, srx.LikelihoodLoss(), steps=1, held_out=[1], judge_every=1)
        expected = np.log(2 * np.pi) + (9 - 9 * np.exp(-1)) ** 2 / 2
        np.testing.assert_allclose(found.history.held_out_loss[0], expected, rtol=1e-2)


@pytest.mark.slow
def test_functions_share_parameters_and_a_spread_that_none_gives_is_that_of_the_data():
    # A' = -k A from k, seen as A and as k A: the one k is in all of these.
    system = srx.System(
        lambda t, y, args: -args["k"] * y,
        lambda args: args.parameters["k"][None],
        lambda t, y, args: {"A": y[0], "B": args["k"] * y[0]},
        lambda t, y, args: {"B": 0.3},
        states=["A"],
        parameters={"k": srx.positive(2.0)},
    )
    values = 2 * np.exp(-2 * TS)[:, None] * [1.0, 2.0]
    off = values + [0.1, 0.3]
    data = srx.Measurements.from_arrays(TS, off, names=["A", "B"], sd=[0.1, np.nan])
    value, gradient = eqx.filter_value_and_grad(srx.LikelihoodLoss(rtol=1e-9))(system, data)
    expected = 5 * (1 + np.log(0.1) + np.log(0.3) + np.log(2 * np.pi))
    np.testing.assert_allclose(value, expected, rtol=1e-7)
    # By log k: of A is (1 - k t) A and of B twice that, with residuals of one sd each.
    slopes = (1 - 2 * TS) * values[:, 0] / 0.1 + (2 - 2 * TS) * values[:, 1] / 0.3
    np.testing.assert_allclose(gradient.parameters["k"].raw, -np.sum(slopes), rtol=1e-6)


@pytest.mark.slow
def test_the_default_tolerance_follows_the_size_of_each_state():
    rates, start = np.array([1.0, 10.0]), np.array([1e9, 1e-9])
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 2)), names=["A", "B"])

    def field(t, y, args):
        return -jnp.asarray(rates) * y

    system = srx.System(field, jnp.asarray(start))
    found = srx.LikelihoodLoss().simulate(system, data).values[0, 1]
    exact = start * np.exp(-rates)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    one = srx.System(field, jnp.asarray(start / start))
    ones = srx.LikelihoodLoss().simulate(one, data).values[0, 1]
    np.testing.assert_allclose(found / start, ones, rtol=1e-9)


def test_each_state_may_have_a_tolerance_of_its_own():
    """The second has none with that of the first, and is followed by its own."""

    field = lambda t, y, args: jnp.stack([0 * y[0], -5 * y[1]])
    system = srx.System(field, jnp.array([1.0, 1e-6]), states=["A", "B"])
    data = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 1.1], "B": [1e-6, 2e-8]})
    simulate = eqx.filter_jit(lambda loss: loss.simulate(system, data).values[0, 1, 1])

    def predicted(atol):
        return simulate(srx.LikelihoodLoss(diffrax.Bosh3(), rtol=1e-4, atol=atol))

    right = 1e-6 * np.exp(-5)
    assert abs(predicted([1e-3, 1e-3]) - right) > 0.1 * right
    np.testing.assert_allclose(predicted([1e-3, 1e-12]), right, rtol=2e-3)
    with pytest.raises(ValueError, match=r"`atol` of shape \(3,\) was given"):
        predicted([1e-3] * 3)
