"""Recovered equations beside the true ones."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

import stiffrax as srx

x, v = sp.symbols("x v")


def only_row(recovered, true):
    (row,) = srx.compare((recovered,), (true,), names=["x"]).rows
    return row


@pytest.mark.slow
def test_hires_against_itself_has_24_terms():
    problem = srx.problems.hires()
    comparison = srx.compare(problem.true_equations(), problem.true_equations())
    expected = "recovered 24 of 24 terms, 0 extra, largest relative error 0.0e+00"
    assert comparison.summary() == expected


def test_summary_counts_and_gives_the_largest_error_of_the_terms_found():
    true = {"x": 2 * x - 5 * v, "v": -4 * x + x * v}
    recovered = {"x": sp.Float(2.002) * x, "v": -4 * x + sp.Float(0.9) * x * v + 3 * v**2}
    comparison = srx.compare(recovered, true)
    counts = [comparison.num_true, comparison.num_found, comparison.num_missing]
    assert [*counts, comparison.num_extra] == [4, 3, 1, 1]
    assert math.isclose(comparison.largest_relative_error, 0.1)
    expected = "recovered 3 of 4 terms, 1 extra, largest relative error 1.0e-01"
    assert comparison.summary() == expected


def test_rows_list_true_terms_by_degree_and_then_extra_ones():
    true = {"x": x * v + v + 1 + sp.exp(x), "v": x}
    rows = srx.compare({"x": x + v, "v": v}, true).rows
    expected = [("x", 1), ("x", v), ("x", v * x), ("x", sp.exp(x)), ("x", x), ("v", x), ("v", v)]
    assert [(row.state, row.term) for row in rows] == expected


def test_row_of_a_term_found_missing_extra():
    found = only_row(sp.Float(1.5) * x, 2 * x)
    assert (found.true, found.recovered, found.relative_error) == (2.0, 1.5, 0.25)
    missing, extra = srx.compare((x**2,), (3 * x,), names=["x"]).rows
    assert (missing.term, missing.true, missing.recovered) == (x, 3.0, None)
    assert (extra.term, extra.true, extra.recovered) == (x**2, None, 1.0)
    assert math.isnan(missing.relative_error)
    assert math.isnan(extra.relative_error)


def test_equal_terms_add_up_before_they_are_compared():
    row = only_row(sp.Float(0.1) * x + sp.Float(0.2) * x * (1 + x) - sp.Float(0.2) * x**2, 3 * x)
    assert (row.term, row.recovered) == (x, 0.3)


def test_terms_that_cancel_leave_nothing():
    recovered = sp.Float(0.1) * (x + 1) ** 2 - sp.Float(0.1) * x**2 - sp.Float(0.2) * x
    assert only_row(recovered, sp.Rational(1, 10)).relative_error == 0.0


def test_float_and_fraction_are_one_number():
    term = x / (x + sp.Rational(1, 2))
    row = only_row(sp.Float(2) * x / (x + sp.Float(0.5)), 2 * term)
    assert (row.term, row.relative_error) == (term, 0.0)
    assert only_row(x ** sp.Float(0.5), sp.sqrt(x)).relative_error == 0.0


def test_terms_that_are_no_monomials_are_matched_by_structure():
    arrhenius = sp.exp(-1000 / x) * x
    row = only_row(sp.Float(1.1e10) * arrhenius, sp.Float(1e10) * arrhenius)
    assert math.isclose(row.relative_error, 0.1)


def test_numbers_in_front_of_a_term_belong_to_its_coefficient():
    row = only_row(sp.pi * x, sp.sqrt(2) * sp.E * x)
    assert row.term == x
    np.testing.assert_allclose([row.recovered, row.true], [np.pi, np.sqrt(2) * np.e])  # type: ignore[arg-type]


def test_coefficients_from_hundredths_to_tens_of_millions_are_told_apart():
    true = {"x": sp.Float(3e7) * x**2 + sp.Float(0.04) * x}
    recovered = {"x": sp.Float(30000003.0) * x**2 + sp.Float(0.04) * x}
    errors = [row.relative_error for row in srx.compare(recovered, true).rows]
    np.testing.assert_allclose(errors, [0.0, 1e-7], rtol=1e-8)


def test_model_takes_the_names_of_the_true_equations():
    problem = srx.problems.lorenz()
    names = srx.Polynomial(3, 2).feature_names(problem.names)
    coefficients = np.zeros((3, 10))
    for i, equation in enumerate(problem.true_equations().values()):
        for term, value in equation.as_coefficients_dict().items():
            coefficients[i, names.index(str(term))] = value
    model = srx.Polynomial(3, 2, coefficients=coefficients)
    comparison = srx.compare(model, problem.true_equations())
    assert comparison.summary().startswith("recovered 7 of 7 terms, 0 extra")
    assert srx.compare(model, problem.vector_field, names=problem.names) == comparison


def test_nothing_found_has_no_error():
    comparison = srx.compare((sp.Integer(0),), (x,), names=["x"])
    assert math.isnan(comparison.largest_relative_error)
    assert comparison.summary() == "recovered 0 of 1 terms, 0 extra, largest relative error nan"


def test_table_is_aligned_and_ends_with_the_summary():
    true = {"x": 2 * x - 5 * v, "v": -4 * x}
    comparison = srx.compare({"x": sp.Float(2.002) * x, "v": -4 * x + v}, true)
    expected = """
equation  term  true  recovered  relative error
   dx/dt     v    -5          -         missing
   dx/dt     x     2      2.002         1.0e-03
   dv/dt     x    -4         -4         0.0e+00
   dv/dt     v     -          1           extra
recovered 2 of 3 terms, 1 extra, largest relative error 1.0e-03"""
    assert f"\n{comparison}" == expected


def test_symbols_are_matched_by_name_whatever_is_assumed_of_them():
    positive = sp.Symbol("x", positive=True)
    assert only_row(positive, x).relative_error == 0.0


def test_systems_of_different_states_are_refused():
    with pytest.raises(ValueError, match="`recovered` has 1 equations and `true` has 2"):
        srx.compare((sp.Integer(1),), (sp.Integer(1), sp.Integer(1)))
    with pytest.raises(ValueError, match=r"are \('v',\) in `true` and \('x',\) in `recovered`"):
        srx.compare({"x": x}, {"v": v})
    with pytest.raises(ValueError, match=r"are \('x',\) in `recovered` and \('v',\) in `names`"):
        srx.compare({"x": x}, (x,), names=["v"])
    with pytest.raises(ValueError, match=r"The equations hold \['v', 'x'\].*give the names"):
        srx.compare((x, v), (x, v))


def test_names_are_those_of_the_side_without_names_in_their_order():
    model = srx.Polynomial(2, 1, coefficients=[[0, 0, 1], [0, -4, 0]])
    named = srx.from_text("dv/dt = -4*x\ndx/dt = v")
    expected = "recovered 2 of 2 terms, 0 extra, largest relative error 0.0e+00"
    assert srx.compare(model, named, names=["x", "v"]).summary() == expected
    assert srx.compare(named, (v, -4 * x), names=["x", "v"]).summary() == expected


@pytest.mark.parametrize("kind", ["network", "symbolic model", "part", "mapping"])
def test_states_that_both_sides_name_are_matched_by_name(kind):
    network = srx.ReactionNetwork(["v -> x"], rates=[2.0])
    recovered: Any = {
        "network": network,
        "symbolic model": srx.from_sympy({"v": -2 * v, "x": 2 * v}),
        "part": srx.PartiallyKnown(network, srx.Polynomial(2, 1)),
        "mapping": {"v": -2 * v, "x": 2 * v},
    }[kind]
    right, wrong = {"x": 2 * v, "v": -2 * v}, {"x": -2 * x, "v": 2 * x}
    comparison = srx.compare(recovered, right)
    assert [(row.state, row.relative_error) for row in comparison.rows] == [("x", 0.0), ("v", 0.0)]
    assert srx.compare(right, recovered).num_extra == 0
    assert srx.compare(recovered, wrong).num_found == 0


def test_a_constraint_is_no_rate_of_change_to_compare():
    model = srx.ConstrainedField(
        lambda t, y, args: -y[:1], lambda t, y, args: y[0] + y[1] - 1, num_states=2
    )
    with pytest.raises(
        ValueError, match=r"row of 'y2' is a constraint, `0 = y1 \+ y2 - 1`, and no rate"
    ):
        srx.compare(model, model)
    with pytest.raises(ValueError, match="row of 'y2' is a constraint"):
        srx.from_sympy(srx.to_sympy(model))


@pytest.mark.parametrize("formula", [sp.exp(x - 800), sp.exp(800 - x), 2 * sp.exp(x - 800)])
def test_coefficients_that_no_double_is_are_compared(formula):
    row = only_row(formula, sp.exp(1) * formula)
    assert math.isclose(row.relative_error, 1 - math.exp(-1), rel_tol=1e-12)
    same = srx.compare((formula, x), (formula, x), names=["x", "v"])
    assert (same.num_found, same.largest_relative_error) == (2, 0.0)
    assert "e-348  " in str(same) or "e+347  " in str(same)


def test_a_model_that_names_some_states_is_not_compared_in_another_order():
    network = srx.ReactionNetwork(["B -> C"], rates=[3.0])
    model = srx.PartiallyKnown(still, network, inputs=(1, 2), outputs=(1, 2), num_states=3)
    truth = "dA/dt = -A\ndB/dt = -3*B\ndC/dt = 3*B"
    assert srx.compare(model, srx.from_text(truth)).num_missing == 0
    with pytest.raises(ValueError, match="has its states in the order"):
        srx.compare(model, srx.from_text("dA/dt = -A\ndC/dt = -3*C\ndB/dt = 3*C"))


def still(t, y, args):
    return jnp.stack([-y[0], 0 * y[1], 0 * y[2]])
