"""Problems in PEtab's format: simulations, likelihoods and tables against closed forms."""

import dataclasses
import os
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stiffrax as srx
from stiffrax.training._checkpoint import digest_of

pytest.importorskip("petab.v1")

# A' = s + u(t) - k A, with u = 1 until 0.5, and a dose of 1.5 at 2: at rest before, or from a0.
K, REST, DOSE = 0.8, 2.0, 1.5
PARAMETERS = """parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate
k|log10|0.01|100|0.8|1
scale|lin|0|10|3|1
sigma|log|0.001|10|0.25|1
a0|lin|0|10|0.7|0"""
CONDITIONS = "conditionId|s|u1|A|dose\nrest|2|0||0\non|0|1||1.5\nfrom_a0|0|1|a0|1.5"
OBSERVABLES = """observableId|observableFormula|noiseFormula|observableTransformation|noiseDistribution
level|observableParameter1_level*A|noiseParameter1_level|log10|normal
raw|A|noiseParameter1_raw*(1 + A)|lin|normal
heavy|A + 1|0.5|lin|laplace"""
MEASUREMENTS = """observableId|preequilibrationConditionId|simulationConditionId|time|measurement|\
observableParameters|noiseParameters
level|rest|on|3|2.5|scale|sigma
level|rest|on|0|6.5|scale|sigma
level|rest|on|3|2.7|scale|0.1
raw|rest|on|1|1.2||0.3
raw||from_a0|0.25|1.0||sigma
raw||from_a0|0.25|1.1||sigma
heavy||from_a0|2.5|2.0||
level||rest|inf|4.9|2|0.2"""


def linear(t, start):
    """A(t) with the jump and the dose."""
    early = np.minimum(t, 0.5)
    value = start * np.exp(-K * t) + (np.exp(-K * (t - early)) - np.exp(-K * t)) / K
    return value + DOSE * np.exp(-K * (t - 2)) * (t > 2)


@pytest.fixture(scope="module")
def problem(sbml, write):
    model = sbml().compartment().species("A", 1.0).parameter("k", 1.0).parameter("s", 0.0)
    model.parameter("u1", 1.0).parameter("u", constant=False).parameter("dose", 0.0)
    model.rule("u", "u1*piecewise(1, time < 0.5, 0)").event("time >= 2", A="A + dose")
    model.reaction("r", {}, {"A": 1}, "s + u - k*A")
    return srx.petab.load(
        write(model, PARAMETERS, CONDITIONS, OBSERVABLES, MEASUREMENTS), rtol=1e-9
    )


@pytest.fixture(scope="module")
def simulated(problem):
    return problem.simulation_table()


def expected():
    rest = REST / K
    at_3, at_0 = 3 * linear(3.0, rest), 3 * rest
    raw = [linear(1.0, rest), linear(0.25, 0.7), linear(0.25, 0.7)]
    return [at_3, at_0, at_3, *raw, linear(2.5, 0.7) + 1, 2 * rest]


def test_simulations_are_those_of_the_closed_form(simulated):
    assert np.allclose(simulated["simulation"], expected(), rtol=1e-7)
    assert "measurement" not in simulated


@pytest.mark.slow
def test_the_likelihood_is_that_of_the_distributions_of_the_tables(problem):
    s, (x1, x2, x3, r1, r2, r3, h, x4) = 0.25, expected()
    log10 = [(2.5, x1, s), (6.5, x2, s), (2.7, x3, 0.1), (4.9, x4, 0.2)]
    total = sum(
        stats.norm.logpdf(np.log10(m), np.log10(x), sd) - np.log(m * np.log(10))
        for m, x, sd in log10
    )
    normal = [(1.2, r1, 0.3), (1.0, r2, s), (1.1, r3, s)]
    total += sum(stats.norm.logpdf(m, x, sd * (1 + x)) for m, x, sd in normal)
    total += stats.laplace.logpdf(2.0, h, 0.5)
    found = eqx.filter_jit(problem.loss.evaluate)(problem.system, problem.data)
    assert found.num_failed == 0
    assert np.allclose(found.value, -total, rtol=1e-7)


def test_columns_are_observables_with_their_parameters(problem):
    assert problem.data.names == (
        "level_scale_sigma", "level_scale", "raw_0_3", "raw_sigma", "heavy", "level_2"
    )  # fmt: skip
    assert problem.data.run_names == ("on after rest", "from_a0", "rest at rest")
    assert problem.data.doses == tuple(
        srx.Dose(run, 2.0, "A", 1.5, seen=True) for run in ("on after rest", "from_a0")
    )


def test_standard_deviations_of_logarithms_are_data_in_the_unit_of_the_column(problem):
    run, row, column = problem._cells[2]
    sd = 0.1 * np.log(10) * 2.7
    assert np.isclose(problem.data.sd[run, row, column], sd, rtol=1e-14)


def test_parameters_keep_scale_bounds_and_values_in_the_table(problem):
    held = problem.system.parameters
    assert repr(held["k"]) == "Parameter(0.8, from 0.01 to 100, log scale)"
    assert repr(held["scale"]) == "Parameter(3, from 0 to 10)"
    assert not isinstance(held["a0"], srx.Parameter)
    moved = eqx.tree_at(lambda s: s.parameters["k"].raw, problem.system, jnp.log(5.0))
    table = problem.parameter_table(moved)["nominalValue"]
    assert np.allclose(table, [5.0, 3.0, 0.25, 0.7], rtol=1e-14)
    assert np.allclose(problem.parameter_table()["nominalValue"], [0.8, 3, 0.25, 0.7], rtol=1e-14)


def test_a_concentration_is_set_again_in_the_size_that_its_compartment_has_then(sbml, write):
    model = sbml().compartment(constant=False).species("A", 1.0).rate("c", "2 - c")
    measured = MEASUREMENTS.splitlines()[0].removesuffix("|observableParameters|noiseParameters")
    path = write(
        model,
        conditions="conditionId|A\npre|\nmain|3",
        measurements=f"{measured}\nobs|pre|main|1|1",
    )
    problem = srx.petab.load(path)
    args = problem.data.conditions(0)
    args = dataclasses.replace(args, parameters=problem.system.parameters)
    rest = dict(zip(problem.system.states, (2.0, 1.0), strict=True))
    assert rest == {"c": 2.0, "A": 1.0}
    found = problem.system.initial_state.then(jnp.array([2.0, 1.0]), args)
    assert found.tolist() == [2.0, 6.0]


@pytest.mark.slow
def test_gradients_of_the_likelihood_are_central_differences(problem):
    scale = 1e-4
    loss = lambda raw: problem.loss(
        eqx.tree_at(lambda s: s.parameters["k"].raw, problem.system, raw), problem.data
    )
    raw = jnp.log(0.8)
    value = jax.jit(loss)
    difference = (value(raw + scale) - value(raw - scale)) / (2 * scale)
    assert np.allclose(jax.jit(jax.grad(loss))(raw), difference, rtol=1e-5)


def test_what_the_formulas_of_a_problem_compute_is_compared_for_a_checkpoint(write, sbml):
    def digest(k=2.0, start="1", seen="A"):
        model = sbml().compartment().species("A").parameter("k", k).initial("A", start)
        model.reaction("r", {"A": 1}, {}, "k*A")
        observables = f"observableId|observableFormula|noiseFormula\nobs|{seen}|1"
        return digest_of(srx.petab.load(write(model, observables=observables)).system)

    assert digest() == digest()
    others = digest(k=3.0), digest(start="2"), digest(seen="2*A")
    assert len({digest(), *others}) == 4


FOLDER = os.environ.get("PETAB_PROBLEMS")
needs_problems = pytest.mark.skipif(
    FOLDER is None, reason="PETAB_PROBLEMS names no folder with published problems"
)


@needs_problems
def test_boehm_has_the_likelihood_that_others_find():
    folder = pathlib.Path(FOLDER or "") / "Boehm_JProteomeRes2014"
    problem = srx.petab.load(folder / "Boehm_JProteomeRes2014.yaml")
    found = eqx.filter_jit(problem.loss.evaluate)(problem.system, problem.data)
    assert abs(found.value - 138.222) < 1e-3
