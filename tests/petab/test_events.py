"""Events of SBML: when they happen, what they set, and what a measurement at that time sees."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx

pytest.importorskip("petab.v1")

OBSERVED = "observableId|observableFormula|noiseFormula"
MEASURED = "observableId|simulationConditionId|time|measurement"


def rates(problem, *ts, run=0):
    """The rate of the only state, at one, at these times."""
    system = paramax.unwrap(problem.system)
    args = dataclasses.replace(problem.data.conditions(run), parameters=system.parameters)
    return [float(system.field(t, jnp.ones(1), args)[0]) for t in ts]


@pytest.fixture(scope="module")
def seen(sbml, write):
    """Events of both kinds, and measurements at their times."""
    model = sbml().compartment().species("A").parameter("k", 2.0, constant=False)
    model.parameter("flag", 0.0, constant=False).initial("A", "k")
    model.event("time > 0", k="7").event("time >= 1", flag="1").event("time >= 2", A="A + 5")
    model.event("time > 3", A="A + 5").reaction("r", {"A": 1}, {}, "piecewise(A, flag > 0.5, 0)")
    names = ("A", "k", "flag")
    observed = "\n".join([OBSERVED, *(f"o{name}|{name}|1" for name in names)])
    cells = "\n".join([MEASURED, *(f"o{name}|c0|{t}|1" for name in names for t in range(5))])
    return srx.petab.load(write(model, observables=observed, measurements=cells), rtol=1e-9)


def test_initial_values_and_measurements_at_the_start_are_before_an_event_right_after_it(seen):
    system = paramax.unwrap(seen.system)
    args = dataclasses.replace(seen.data.conditions(0), parameters=system.parameters)
    start = system.initial_state(args)
    assert start.tolist() == [2.0]
    observed = [system.observe(t, start, args).tolist() for t in (0.0, 0.5, 1.0)]
    assert observed == [[2, 2, 0], [2, 7, 0], [2, 7, 1]]
    assert [dose.seen for dose in seen.data.doses] == [True, False]


@pytest.mark.slow
def test_a_measurement_at_the_time_of_an_event_sees_it_where_its_trigger_is_true(seen):
    A, k, flag = seen.simulation_table()["simulation"].to_numpy().reshape(3, 5)
    falls = np.exp(-1.0)
    at_2 = 2 * falls + 5
    assert np.allclose(A, [2, 2, at_2, at_2 * falls, (at_2 * falls + 5) * falls], rtol=1e-7)
    assert k.tolist() == [2, 7, 7, 7, 7]
    assert flag.tolist() == [0, 1, 1, 1, 1]


def test_a_step_that_begins_at_an_event_has_the_rates_after_it(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 2.0, constant=False)
    model.parameter("u", constant=False).rule("u", "piecewise(10, time <= 3, 0)")
    model.event("time > 0", k="7").event("3 < 2*time", k="8").reaction("r", {}, {"A": 1}, "k + u")
    problem = srx.petab.load(write(model))
    assert problem.system.jump_ts == (1.5, 3.0)
    assert rates(problem, 0.0, 1.5, 2.9, 3.0) == [17, 18, 18, 8]


def test_a_delayed_event_takes_its_values_when_it_is_executed_if_it_says_so(sbml, write):
    model = sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "k*A")
    model.parameter("k", 1.0, constant=False).event("time >= 1", delay="1", early=False, A="A + 5")
    model.event("time >= 1", delay="2", early=False, k="10*k").event("time >= 2", k="3")
    problem = srx.petab.load(write(model))
    assert problem.data.doses == (srx.Dose("c0", 2.0, "A", 5.0, seen=True),)
    assert rates(problem, 0.0, 2.0, 3.0) == [-1, -3, -30]


def test_doses_at_one_time_add_up_where_none_undoes_another(sbml, write):
    model = sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "A")
    for amount in (5, 7):
        model.event("time >= 1", early=False, A=f"A + {amount}")
    assert [dose.amount for dose in srx.petab.load(write(model)).data.doses] == [5, 7]


@pytest.mark.parametrize("how", ["event", "rule", "truth"])
def test_a_flag_that_is_tested_in_a_formula_jumps_where_it_is_set(sbml, write, how):
    model = sbml().compartment().species("A", 1.0).parameter("u", constant=False)
    if how == "event":
        model.event("time >= 1", u="1").initial("u", "0")
    else:
        model.rule("u", {"rule": "piecewise(0, time < 1, 1)", "truth": "time >= 1"}[how])
    model.reaction("r", {"A": 1}, {}, "piecewise(3*A, u > 0.5, 0)")
    problem = srx.petab.load(write(model))
    assert problem.system.jump_ts == (1.0,)
    assert rates(problem, 0.5, 1.0) == [0, -3]


def test_a_condition_gives_the_value_that_an_event_changes(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", constant=False)
    model.event("time >= 1", k="2*k").reaction("r", {"A": 1}, {}, "k*A")
    assert rates(srx.petab.load(write(model, conditions="conditionId|k\nc0|4")), 0.0, 1.0) == [
        -4,
        -8,
    ]
    with pytest.raises(ValueError, match="`.k before events.` has no value"):
        srx.petab.load(write(model))


def test_times_of_events_that_other_events_change_are_refused(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.parameter("t1", 5.0, constant=False).event("time >= 1", t1="0.5")
    model.event("time >= t1", k="2").reaction("r", {"A": 1}, {}, "k*A")
    with pytest.raises(ValueError, match="a time that depends on `t1`, which changes"):
        srx.petab.load(write(model))


@pytest.mark.parametrize("when", ["A", "r"])
def test_events_that_states_trigger_are_refused_whatever_they_set(sbml, write, when):
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.parameter("r", constant=False).rule("r", "2 * A").event(f"time >= {when}", k="2")
    with pytest.raises(ValueError, match=f"a time that depends on `{when}`, which changes"):
        srx.petab.load(write(model.reaction("x", {}, {"A": 1}, "k*A")))


def test_a_rule_of_constants_is_a_known_time(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.parameter("tau", 3.0).parameter("r", constant=False).rule("r", "2 * tau")
    model.event("time >= r", k="2", A="A + 1").reaction("x", {"A": 1}, {}, "k*A")
    problem = srx.petab.load(write(model))
    assert rates(problem, 5.9, 6.0) == [-1, -2]
    assert [dose.time for dose in problem.data.doses] == [6.0]


@pytest.mark.parametrize(("tau", "seen"), [(0.0, False), (1.0, True)])
def test_a_delay_that_is_a_parameter_counts_by_its_value(sbml, write, tau, seen):
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.parameter("tau", tau).reaction("r", {"A": 1}, {}, "A")
    model.event("time > 5", delay="tau", early=False, A="A + 5")
    model.event("time > 5", delay="tau", early=False, k="2")
    observed, measured = f"{OBSERVED}\nok|k|1", f"{MEASURED}\nok|c0|9|1"
    problem = srx.petab.load(write(model, observables=observed, measurements=measured))
    assert [(dose.time, dose.seen) for dose in problem.data.doses] == [(5.0 + tau, seen)]
    system = paramax.unwrap(problem.system)
    args = dataclasses.replace(problem.data.conditions(0), parameters=system.parameters)
    assert system.observe(5.0 + tau, jnp.ones(1), args).tolist() == [2.0 if seen else 1.0]


def test_a_long_chain_of_rules_that_a_state_enters_is_read(sbml, write):
    # Put into each other, its links would have 3 ** 24 terms.
    model = sbml().compartment().species("A", 1.0).parameter("d0", constant=False)
    model.rule("d0", "A * time")
    for k in range(1, 25):
        last = f"d{k - 1}"
        model.parameter(f"d{k}", constant=False)
        model.rule(f"d{k}", f"piecewise(1/({last} - 1) + 1, {last} > 1, ln({last}) + 2)")
    problem = srx.petab.load(write(model.reaction("r", {}, {"A": 1}, "d24")))
    assert problem.system.jump_ts == ()


def test_a_comparison_of_a_concentration_in_a_growing_compartment_is_no_jump(sbml, write):
    model = sbml().compartment(size=2.0, constant=False).species("A", 3.0)
    model.rule("c", "2 + time").reaction("r", {"A": 1}, {}, "piecewise(A, A > 1, 0)")
    assert srx.petab.load(write(model)).system.jump_ts == ()


@pytest.mark.parametrize("zero", ["0", "0.0"])
def test_a_delay_of_zero_is_none(sbml, write, zero):
    model = sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "A")
    model.event("time > 5", delay=zero, A="A + 5").event("time >= 6", delay=zero, A="A + 7")
    doses = srx.petab.load(write(model)).data.doses
    assert [(dose.time, dose.seen) for dose in doses] == [(5, False), (6, True)]


@pytest.mark.parametrize("again", ["5", "5.0"])
def test_a_time_is_the_same_however_it_is_written(sbml, write, again):
    model = sbml().compartment().species("A", 1.0).parameter("k", 2.0, constant=False)
    model.event("time >= 5", k="7").event(f"time >= {again}", k="8")
    with pytest.raises(ValueError, match="set `k` at time 5, and the order decides"):
        srx.petab.load(write(model.reaction("r", {"A": 1}, {}, "k*A")))


def test_a_window_of_time_triggers_where_it_begins(sbml, write):
    """A' = 0 but for events: A = 1 + 5 at 1, not at the window that is open at the start or empty."""
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.event("time >= 1 && time < 2", A="A + 5", k="3").event("time < 4 && 3 < time", A="A + 7")
    model.event("time >= 0 && time < 2", A="A + 11", k="4").event(
        "time > 5 && time < 5", A="A + 13"
    )
    model.event("time >= 6 && time <= 6", A="A + 17")
    problem = srx.petab.load(write(model.reaction("r", {"A": 1}, {}, "k*A")))
    assert [dose[1:5] for dose in problem.data.doses] == [
        (1, "A", 5, True),
        (3, "A", 7, False),
        (6, "A", 17, True),
    ]
    assert rates(problem, 0.5, 1.0, 2.0) == [-1, -3, -3]


def test_an_event_that_does_not_happen_in_a_condition_leaves_those_after_it(sbml, write):
    """A' = -k A with k = 1, and 3 from 5 on if that is before `ends`; at 10 k doubles."""
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0, constant=False)
    model.parameter("ends", 100.0).event("time >= 5 && time < ends", k="3")
    model.event("time >= 10", k="2*k").reaction("r", {"A": 1}, {}, "k*A")
    measured = f"{MEASURED}\nobs|c0|1|1\nobs|c1|1|1"
    problem = srx.petab.load(
        write(model, conditions="conditionId|ends\nc0|3\nc1|9", measurements=measured)
    )
    assert rates(problem, 1.0, 7.0, 12.0) == [-1, -1, -2]
    assert rates(problem, 1.0, 7.0, 12.0, run=1) == [-1, -3, -6]


def test_events_that_set_or_scale_a_state_are_read(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 3.0)
    model.event("time >= 1", A="k").event("time > 2", A="A/2").event("time >= 4", delay="1", A="0")
    problem = srx.petab.load(write(model.reaction("r", {"A": 1}, {}, "A")))
    assert [(dose.time, dose.amount, dose.keeps, dose.seen) for dose in problem.data.doses] == [
        (1, 3, 0, True),
        (2, 0, 0.5, False),
        (5, 0, 0, True),
    ]


def test_a_state_that_two_events_set_at_one_time_is_refused(sbml, write):
    model = sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "A")
    model.event("time >= 1", early=False, A="3").event("time >= 1", early=False, A="A + 1")
    with pytest.raises(
        ValueError, match="Several events set `A` at time 1 .* one undoes the other"
    ):
        srx.petab.load(write(model))
