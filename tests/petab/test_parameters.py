"""The parameter table: scales, bounds and priors."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stiffrax as srx
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._parameter_vector import ParameterVector

pytest.importorskip("petab.v1")

HEAD = (
    "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate|objectivePriorType|"
    "objectivePriorParameters\n"
)


@pytest.fixture
def model(sbml):
    return sbml().compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "A")


def load(write, model, *rows):
    for row in rows:
        model.parameter(row.split("|")[0], 1.0)
    return srx.petab.load(write(model, HEAD + "\n".join(rows)))


def test_priors_have_their_densities(write, model):
    densities = {
        "normal": stats.norm.logpdf(3.0, 1.0, 2.0),
        "laplace": stats.laplace.logpdf(3.0, 1.0, 2.0),
        "logNormal": stats.lognorm.logpdf(3.0, 2.0, scale=np.exp(1.0)),
        "logLaplace": stats.loglaplace.logpdf(3.0, 0.5, scale=np.exp(1.0)),
        "parameterScaleNormal": stats.norm.logpdf(np.log10(3.0), 1.0, 2.0),
        "parameterScaleLaplace": stats.laplace.logpdf(np.log10(3.0), 1.0, 2.0),
    }
    rows = [f"p_{kind}|log10|0.1|10|3|1|{kind}|1;2" for kind in densities]
    problem = load(write, model, *rows, "p_known|lin|0|10|3|0|normal|1;2")
    assert problem.prior is not None
    value = problem.prior(problem.system, problem.data)
    assert np.allclose(value, -sum(densities.values()), rtol=1e-13)


def test_a_prior_scales_and_adds_like_a_loss():
    prior = srx.petab.Prior(("k",), (("normal", 1.0, 2.0, 0.5),))
    system = srx.System(lambda t, y, args: -y, parameters={"k": srx.positive(3.0)})
    alone = prior(system, None)
    assert np.allclose((0.1 * prior)(system, None), 0.1 * alone, rtol=1e-14)
    assert np.allclose((prior + 2 * prior)(system, None), 3 * alone, rtol=1e-14)


def test_samplers_see_densities_of_a_parameter_as_those_of_its_logarithm(write, model):
    of_values = ["normal", "laplace", "logNormal", "logLaplace", "uniform"]
    kinds = [*of_values, "parameterScaleNormal", "parameterScaleLaplace", "parameterScaleUniform"]
    rows = [f"{k}|log10|0.1|10|{1.2 if k == 'uniform' else 2}|1|{k}|0.1;1.5" for k in kinds] + [
        "q|lin|0|10|3|1|normal|1;2"
    ]
    problem = load(write, model, *rows)
    assert problem.prior is not None
    volume = problem.prior.log_volume(problem.system)
    assert np.allclose(volume, 4 * np.log(2.0) + np.log(1.2), rtol=1e-13)


def test_a_parameter_that_was_fixed_since_has_no_logarithm_that_is_fitted(write, model):
    problem = load(write, model, *(f"{k}|log|0.1|10|2|1|normal|0;1" for k in "ab"))
    parameters = {**problem.system.parameters, "a": srx.fixed(2.0)}
    system = eqx.tree_at(lambda s: s.parameters, problem.system, parameters)
    assert problem.prior is not None
    assert np.allclose(problem.prior.log_volume(system), np.log(2.0), rtol=1e-13)


def test_a_uniform_prior_is_in_the_bounds(write, model):
    problem = load(
        write,
        model,
        "a|log10|0.1|10|3|1|parameterScaleUniform|0;0.5",
        "b|lin|0|10|3|1|uniform|2;20",
        "c|lin|0|10||1||",
        "d|log|0.1|10||1||",
        "e|log10|1e-5|1e5|1|1||-2;2",
    )
    assert problem.prior is None
    assert [repr(x) for x in problem.system.parameters.values()] == [
        "Parameter(3, from 1 to 3.162, log scale)",
        "Parameter(3, from 2 to 10)",
        "Parameter(5, from 0 to 10)",
        "Parameter(1, from 0.1 to 10, log scale)",
        "Parameter(1, from 0.01 to 100, log scale)",
    ]


def test_a_uniform_prior_is_in_place_of_bounds_that_are_infinite_or_not_there(write, model):
    rows = ["a|lin|-inf|inf|3|1|uniform|2;20", "b|log|||3|1|parameterScaleUniform|0;2"]
    problem = load(write, model, *rows)
    assert [repr(x) for x in problem.system.parameters.values()] == [
        "Parameter(3, from 2 to 20)",
        "Parameter(3, from 1 to 7.389, log scale)",
    ]


def test_the_table_of_parameters_at_their_bounds_is_loaded_again(write, model):
    rows = [f"p{k}|log10|{0.1 * k:g}|{0.7 * k:g}|{0.7 * k:g}|1||" for k in range(1, 30)]
    problem = load(write, model, *rows, "q|lin|0|1|2|0||")
    table = problem.parameter_table()
    assert (table["nominalValue"][:-1] <= table["upperBound"][:-1]).all()
    assert table["nominalValue"]["q"] == 2
    again = [
        f"{name}|log10|0.1|{x}|{x * (1 + 1e-12)!r}|1||" for name, x in [("a", 0.7), ("b", 2.1)]
    ]
    assert load(write, model, *again).parameter_table()["nominalValue"].tolist() == [0.7, 2.1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a|log2|0.1|10|3|1||", "the scale 'log2'; PEtab has"),
        ("a|lin|0|10||0||", "is not estimated and has no nominalValue"),
        ("a|lin|0|10|30|1||", "the nominalValue 30, outside of its bounds 0 and 10"),
        ("a|lin|0|10|3|1|gamma|1;2", "the objectivePriorType 'gamma'; those of PEtab are read"),
        *(
            (f"a|lin|0|10|3|1|normal|{x}", "'normal', which needs two")
            for x in ("1", "0;0", "0;1;")
        ),
        *((f"a|lin|0|10|3|1|uniform|{x}", "'uniform', which needs two") for x in ("2", "5;2")),
        ("a|lin|0|10|3|||", "has the `estimate` 'nan'; it needs 0 or 1"),
        ("a|lin||||1||", "has neither a nominalValue nor bounds"),
        ("a|log|0|10||1||", "has neither a nominalValue nor bounds"),
        ("a|log|-1|10|3|1||", r"Parameter `a`: `positive\(3.*lower=-1"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused(write, model, row, message):
    with pytest.raises(ValueError, match=message):
        load(write, model, row)


def test_the_log_density_of_a_fit_adds_what_its_terms_say_of_their_volume(write, model):
    problem = load(write, model, "k|log|0.1|10|2|1|logNormal|0;0.5", "q|lin|0|10|3|1|normal|1;2")
    vector = ParameterVector(problem.system)
    likelihood = LikelihoodModel(vector, problem.loss, problem.data)
    x = jnp.array([0.3, 5.0])
    assert np.allclose(likelihood.log_volume(x), 0.3, rtol=1e-14)
    # In ln(k), which is normal, nothing is left of the one over k of the log-normal density.
    assert problem.prior is not None
    prior = problem.prior(vector.system(x), problem.data) - likelihood.log_volume(x)
    expected = stats.norm.logpdf(0.3, 0.0, 0.5) + stats.norm.logpdf(5.0, 1.0, 2.0)
    assert np.allclose(prior, -expected, rtol=1e-13)
