"""Models in SBML: rates, initial states and observables against what the standard says."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx

pytest.importorskip("petab.v1")


@pytest.fixture(autouse=True, params=[0, 10**6], ids=["together", "one by one"])
def _evaluation(request, monkeypatch):
    """From how many on formulas are evaluated together: both ways give the same numbers."""
    monkeypatch.setattr("stiffrax.petab._formulas._MANY", request.param)


def parts(problem, run=0):
    """Field, initial state and observables of a run, as functions of time and state."""
    system = paramax.unwrap(problem.system)
    args = dataclasses.replace(problem.data.conditions(run), parameters=system.parameters)
    start = np.asarray(system.initial_state(args))
    return (
        lambda t, y: np.asarray(system.field(t, jnp.asarray(y, float), args)),
        start,
        lambda t, y: np.asarray(system.observe(t, jnp.asarray(y, float), args)),
    )


def observing(*formulas):
    """Tables that observe formulas, each once."""
    names = [f"obs{k}" for k in range(len(formulas))]
    head = "observableId|observableFormula|noiseFormula"
    rows = "\n".join(f"{name}|{text}|1" for name, text in zip(names, formulas, strict=True))
    cells = "\n".join(f"{name}|c0|1|0.5" for name in names)
    table = f"observableId|simulationConditionId|time|measurement\n{cells}"
    return {"observables": f"{head}\n{rows}", "measurements": table}


def test_a_rate_is_of_amounts_and_a_concentration_divides_it_by_its_compartment(sbml, write):
    # 2 A -> B at k A c, in a compartment of 4: A is a concentration and B an amount.
    model = sbml().compartment(size=4.0).species("A", 3.0).species("B", 2.0, amount=True)
    model.parameter("k", 0.5).reaction("r", {"A": 2}, {"B": 1}, "k*A*c")
    field, start, _ = parts(srx.petab.load(write(model)))
    assert start.tolist() == [3.0, 2.0]
    assert field(0.0, start).tolist() == [-2 * 0.5 * 3.0, 0.5 * 3.0 * 4.0]


def test_a_rate_constant_is_multiplied_with_the_first_amount(sbml, write):
    # The product of the amounts alone is zero, as that of 1e-21 moles is in single precision.
    model = sbml().compartment().species("A", 1e-170, amount=True).species("B", 1e-170, amount=True)
    model.parameter("k", 1e170).reaction("r", {"A": 1, "B": 1}, {}, "k*A*B")
    field, start, _ = parts(srx.petab.load(write(model)))
    np.testing.assert_allclose(field(0.0, start), -1e-170, rtol=1e-12)


def test_in_a_compartment_that_grows_amounts_stay_and_concentrations_fall(sbml, write):
    model = sbml().compartment(size=2.0, constant=False).species("A", 3.0).species("B", 1.0)
    model.parameter("k", 0.5).rate("c", "0.1*c").reaction("r", {"A": 1}, {}, "k*A*c")
    problem = srx.petab.load(write(model, **observing("A", "B")))
    field, start, observe = parts(problem)
    at = dict(zip(problem.system.states, start, strict=True))
    assert at == {"c": 2.0, "A": 6.0, "B": 2.0}
    rates = dict(zip(problem.system.states, field(0.0, start), strict=True))
    assert rates == {"c": 0.2, "A": -0.5 * 3.0 * 2.0, "B": 0.0}
    assert observe(0.0, 2 * start).tolist() == [3.0, 1.0]


def test_conversion_factors_boundary_species_and_names_of_reactions_count(sbml, write):
    model = sbml().compartment().species("A", 3.0, setConversionFactor="f")
    model.species("S", 7.0, boundary=True).parameter("f", 10.0).parameter("k", 0.5)
    model.reaction("r", {"S": 1}, {"A": 1}, "k*S")
    field, start, observe = parts(srx.petab.load(write(model, **observing("r", "S"))))
    assert field(0.0, start).tolist() == [10 * 0.5 * 7.0]
    assert observe(0.0, start).tolist() == [3.5, 7.0]


def test_local_parameters_of_one_name_and_functions_are_put_in(sbml, write):
    model = sbml().compartment().species("A", 2.0).function("twice", "lambda(x, 2*x)")
    model.reaction("r", {"A": 1}, {}, "twice(k)*A", local={"k": 3.0})
    model.reaction("s", {"A": 1}, {}, "k*A", local={"k": 5.0})
    field, start, _ = parts(srx.petab.load(write(model)))
    assert field(0.0, start).tolist() == [-(6.0 + 5.0) * 2.0]


def test_functions_whose_arguments_are_swapped_are_put_in_at_once(sbml, write):
    model = sbml().compartment().species("A", 2.0).species("B", 5.0)
    model.function("flux", "lambda(A, B, 3*A - B)").reaction("r", {"A": 1}, {"B": 1}, "flux(B, A)")
    field, start, _ = parts(srx.petab.load(write(model)))
    assert field(0.0, start)[0] == -(3 * 5.0 - 2.0)


def test_rules_come_in_any_order_and_initial_assignments_see_the_start(sbml, write):
    model = sbml().compartment().species("A").parameter("p", constant=False)
    model.parameter("q", constant=False).parameter("total").parameter("a", 2.0)
    model.rule("p", "q + 1").rule("q", "10*A").initial("A", "a^2").initial("total", "A + p")
    model.reaction("r", {"A": 1}, {}, "total*A")
    problem = srx.petab.load(write(model, **observing("p")))
    field, start, observe = parts(problem)
    assert start.tolist() == [4.0]
    # The total is that of the start, 4 + 41, whatever A has become.
    assert field(5.0, [1.0]).tolist() == [-45.0]
    assert observe(5.0, [1.0]).tolist() == [11.0]


def test_a_formula_that_jumps_in_time_says_when(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("u", constant=False)
    model.parameter("from_", 3.0).rule("u", "piecewise(5, time < from_, 7)")
    model.reaction("r", {}, {"A": 1}, "u")
    problem = srx.petab.load(write(model))
    field, start, _ = parts(problem)
    assert problem.system.jump_ts == (3.0,)
    assert [field(t, start)[0] for t in (2.9, 3.0)] == [5.0, 7.0]


def test_a_condition_in_which_nothing_stands_before_the_time_has_no_jump(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("on", 1.0)
    model.parameter("u", constant=False).rule("u", "piecewise(1, on*time > 5, 0)")
    model.reaction("r", {}, {"A": 1}, "u")
    measured = "observableId|simulationConditionId|time|measurement\nobs|c0|1|1\nobs|c1|1|1"
    path = write(model, conditions="conditionId|on\nc0|2\nc1|0", measurements=measured)
    assert srx.petab.load(path).system.jump_ts == (2.5,)


def test_events_at_known_times_are_doses_and_changes_of_parameters(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 2.0, constant=False)
    model.event("time >= 3", A="A + 5*2").event("time > 1", delay="1", k="4*k")
    model.event("time >= 4", k="0").event("time >= 0", k="100")
    model.reaction("r", {"A": 1}, {}, "k*A")
    problem = srx.petab.load(write(model))
    field, start, _ = parts(problem)
    assert problem.data.doses == (srx.Dose("c0", 3.0, "A", 10.0, seen=True),)
    assert problem.system.jump_ts == (2.0, 4.0)
    # The trigger that is true at the start triggers nothing.
    assert [field(t, start)[0] for t in (0.0, 1.9, 2.0, 4.0)] == [-2.0, -2.0, -8.0, 0.0]


def test_an_event_after_time_zero_happens_at_once_and_one_at_zero_does_not(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 2.0, constant=False)
    model.parameter("t1", 1.0).event("time > 0", A="A + 5").event("time >= 0", A="A + 7")
    model.event("time > -1", A="A + 9").event("t1 < time", k="4").reaction("r", {"A": 1}, {}, "k*A")
    measured = "".join(f"\nobs|c{k}|1|1" for k in range(3))
    path = write(
        model,
        conditions="conditionId|t1\nc0|0\nc1|2\nc2|-1",
        measurements=f"observableId|simulationConditionId|time|measurement{measured}",
    )
    problem = srx.petab.load(path)
    runs = problem.data.run_names
    assert problem.data.doses == tuple(srx.Dose(run, 0.0, "A", 5.0) for run in runs)
    rates = [parts(problem, run)[0](0.5, [1.0])[0] for run in range(3)]
    assert rates == [-4.0, -2.0, -2.0]


def test_conditions_set_parameters_species_and_compartments(sbml, write):
    model = sbml().compartment().species("A", 1.0).species("B", 1.0).parameter("k", 1.0)
    model.parameter("b", 6.0).initial("B", "b*k").reaction("r", {"A": 1}, {}, "k*A*c")
    path = write(
        model,
        "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate\n"
        "k_1|log10|0.01|100|3|1\na0|lin|0|10|2|0\nb|lin|0|10|7|1",
        "conditionId|k|A|c\nc0|k_1|a0|\nc1|0.5||2",
        "observableId|observableFormula|noiseFormula\nob|B|1\noc|c|1",
        "observableId|simulationConditionId|time|measurement\n"
        "ob|c0|1|1\noc|c0|1|1\nob|c1|1|1\noc|c1|1|1",
    )
    problem = srx.petab.load(path)
    expected = [(2.0, -3.0, 21.0, 1.0), (1.0, -0.5, 3.5, 2.0)]
    for run, numbers in enumerate(expected):
        field, start, observe = parts(problem, run)
        found = (*start, *field(0.0, [1.0]), *observe(0.0, start))
        assert np.allclose(found, numbers, rtol=1e-14)


def test_a_condition_may_hold_infinity_which_is_no_empty_cell(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("end", 3.0).parameter("K", 2.0)
    model.parameter("u", constant=False).rule("u", "piecewise(5, time < end, 7) + 1/K")
    model.reaction("r", {}, {"A": 1}, "u")
    problem = srx.petab.load(write(model, conditions="conditionId|end|K\nc0|inf|inf"))
    field, start, _ = parts(problem)
    assert problem.system.jump_ts == ()
    assert field(9.0, start)[0] == 5.0


def test_names_may_be_words_of_python(sbml, write):
    model = sbml().compartment().species("in", 1.0).species("in_", 2.0)
    model.event("time >= 1", **{"in": "in + 1"})
    model.reaction("lambda", {"in": 1}, {"in_": 2}, "in*c")
    observed = "observableId|observableFormula|noiseFormula\nis|2*in_|1"
    measured = "observableId|simulationConditionId|time|measurement\nis|c0|1|0.5"
    problem = srx.petab.load(write(model, observables=observed, measurements=measured))
    assert problem.system.states == ("in__", "in_")
    assert problem.data.names == ("is_",)
    assert problem.data.doses[0].state == "in__"
    field, start, observe = parts(problem)
    assert field(0.0, start).tolist() == [-1, 2]
    assert observe(0.0, start).tolist() == [4]


def test_a_parameter_may_have_the_name_of_what_the_package_calls_something(sbml, write):
    names = ("condition", "before", "starts_at_rest", "measured_at_rest")
    model = sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "*".join(names))
    head = "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate"
    rows = [f"{name}|lin|0|10|2|1" for name in names]
    for name in names:
        model.parameter(name, 1.0)
    field, start, _ = parts(srx.petab.load(write(model, "\n".join([head, *rows]))))
    assert field(0.0, start).tolist() == [-16.0]


def test_functions_of_sbml_have_their_values(sbml, write):
    model = sbml().compartment().species("A", 2.0).reaction("r", {"A": 1}, {}, "0")
    texts = {
        "root(3, A)": 2 ** (1 / 3),
        "log10(100*A)": np.log10(200.0),
        "log(2, A)": 1.0,
        "rem(7, A) + quotient(7, A)": 4.0,
        "max(A, 3) + min(A, 3)": 5.0,
        "piecewise(1, A > 1 && A < 3, 2)": 1.0,
        "piecewise(1, A > 2 || !(A == 2), 2, A == 2, 9)": 2.0,
        "arcsinh(A) + sec(A)": np.arcsinh(2.0) + 1 / np.cos(2.0),
        "avogadro/1e23 + pi + exponentiale": 6.02214179 + np.pi + np.e,
        "factor*A^2^0.5 - -A": 10 * 2**2**0.5 + 2,
        "lambda * 2": 6.0,
    }
    model.parameter("factor", 10.0).parameter("lambda", 3.0)
    for k, text in enumerate(texts):
        model.parameter(f"p{k}", constant=False).rule(f"p{k}", text)
    names = [f"p{k}" for k in range(len(texts))]
    _, start, observe = parts(srx.petab.load(write(model, **observing(*names))))
    assert np.allclose(observe(0.0, start), list(texts.values()), rtol=1e-14)
