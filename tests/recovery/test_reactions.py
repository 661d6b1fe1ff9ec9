"""Reactions out of rate equations, and out of the package."""

import itertools
import re
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

HIRES = srx.ReactionNetwork(
    [
        "0 -> y1",
        "y1 -> y2",
        "y2 -> y1",
        "y2 -> y4",
        "y3 -> y1",
        "y3 -> y4",
        "y4 -> y3",
        "y4 -> y6",
        "y5 -> y3",
        "y5 -> y6",
        "y6 -> y5",
        "y7 -> y8",
        "y7 -> y5 + y8",
        "y7 -> y6 + y8",
        "y6 + y8 -> y7",
    ],
    [f"y{k}" for k in range(1, 9)],
    rates=[
        7e-4,
        1.71,
        0.43,
        8.32,
        8.32,
        1.71,
        0.43,
        0.69,
        0.035,
        1.71,
        0.43,
        0.69,
        0.43,
        0.69,
        280,
    ],
)


def rates(network):
    return dict(zip(network.reactions(), np.asarray(network.rates), strict=True))


def test_hires_is_the_reaction_network_of_its_authors():
    field, y = srx.problems.hires().vector_field, jnp.linspace(0.1, 0.8, 8)
    np.testing.assert_allclose(HIRES(0.0, y), field(0.0, y), rtol=1e-12)
    found = rates(srx.to_reactions(HIRES))
    assert set(found) == set(HIRES.reactions())
    for reaction, rate in rates(HIRES).items():
        np.testing.assert_allclose(found[reaction], rate, rtol=1e-9)


def test_coefficients_that_differ_by_less_than_the_tolerance_become_one_rate():
    equations = srx.Polynomial(2, degree=1, coefficients=[[0, -2.0, 0], [0, 2.01, 0]])
    network = srx.to_reactions(equations)
    assert network.reactions() == ("y1 -> y2",)
    # The least sum of squared relative errors.
    rate = (1 / 2.0 + 1 / 2.01) / (1 / 2.0**2 + 1 / 2.01**2)
    np.testing.assert_allclose(network.rates, [rate], rtol=1e-12)
    with pytest.raises(ValueError, match="No reactions of y1"):
        srx.to_reactions(equations, products=1, tolerance=1e-4)


def test_of_networks_that_say_the_same_the_smaller_one_is_taken():
    two = srx.ReactionNetwork(["B + C -> 2 A", "B + C -> 2 C"], ["A", "B", "C"], rates=[5.0, 5.0])
    assert rates(srx.to_reactions(two)) == {"B + C -> A + C": pytest.approx(10.0)}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "reactions",
    [
        {"A -> B": 1000.0, "A -> C": 2.0, "C -> A": 1.0},
        {"A -> B": 1000.0, "A -> C": 2.0, "C -> D": 1e4},
        {"A -> B": 1e12, "A -> C": 1.0},
        {"A -> 0": 0.9, "A -> B": 100.0, "B -> A": 50.0},
    ],
)
def test_slow_branches_of_a_network_stay(reactions, dtype):
    network = srx.ReactionNetwork(list(reactions), rates=np.array([*reactions.values()], dtype))
    found = rates(srx.to_reactions(network))
    assert found == pytest.approx(reactions, rel=50 * float(np.finfo(dtype).eps))


def test_what_cancels_in_a_network_leaves_no_reaction():
    loops = srx.ReactionNetwork(["A -> 2 A", "A -> 0", "A -> B"], rates=[0.3, 0.1 + 0.2, 1.0])
    assert rates(srx.to_reactions(loops)) == {"A -> B": pytest.approx(1.0)}


def test_an_equation_of_small_numbers_alone_is_no_error_of_another():
    branches = [[0, -100.9, 0, 0], [0, 100.0, 0, 0], [0, 0.9, 0, 0]]
    found = srx.to_reactions(srx.Polynomial(3, 1, coefficients=branches), ["A", "B", "C"])
    assert rates(found) == pytest.approx({"A -> B": 100.0, "A -> C": 0.9})


def test_of_equally_few_reactions_the_exact_ones_are_taken():
    # C has a larger term elsewhere, so that `A -> 0`, of fewer molecules, misses less than 1 %.
    branches = [[0, -100.9, 0, 1000.0], [0, 100.0, 0, 0], [0, 0.9, 0, -1000.0]]
    found = srx.to_reactions(srx.Polynomial(3, 1, coefficients=branches), ["A", "B", "C"])
    assert found.reactions() == ("A -> B", "A -> C", "C -> A")


def test_a_species_that_is_lost_without_taking_part_is_named():
    equations = srx.Polynomial(2, degree=1, coefficients=[[0, 0, -1.0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"No reactions of B .* A: -1: a species can only be lost"):
        srx.to_reactions(equations, ["A", "B"])


def test_what_no_set_of_reactions_says_is_refused_at_once():
    coefficients = np.ones((8, 45))
    coefficients[3, 0] = -1.0  # lost without taking part
    start = time.process_time()
    with pytest.raises(ValueError, match="No reactions of 0 with up to 2 products"):
        srx.to_reactions(srx.Polynomial(8, 2, coefficients=coefficients))
    assert time.process_time() - start < 10


def test_rounding_of_single_precision_is_no_error_of_coefficients():
    rate = np.float32(0.1)
    coefficients = np.array([[0, -rate, 0], [0, np.nextafter(rate, np.float32(1)), 0]], np.float32)
    network = srx.to_reactions(srx.Polynomial(2, 1, coefficients=coefficients), tolerance=1e-9)
    assert network.reactions() == ("y1 -> y2",)
    single = srx.ReactionNetwork(["A -> B"], rates=np.array([0.1], np.float32))
    assert srx.to_mhchem(single, digits=None) == r"\ce{A &->[0.1] B}"


def test_names_that_mhchem_reads_otherwise_are_in_math_mode():
    network = srx.ReactionNetwork(["A_max + 2 v -> y1"], rates=[1.0])
    assert srx.to_mhchem(network) == r"\ce{$\mathrm{A\_max}$ + 2 $v$ &->[1] y1}"


def test_what_is_no_polynomial_is_refused():
    with pytest.raises(ValueError, match="has 1 outputs for 3 states; reactions need the rate"):
        srx.to_reactions(srx.Polynomial(3, 2, num_outputs=1))
    with pytest.raises(ValueError, match="it needs a polynomial"):
        srx.to_reactions(lambda t, y, args: y)
    for tolerance in (0.0, 2.0):
        with pytest.raises(ValueError, match=f"`tolerance={tolerance}`.*above 0 and below 1"):
            srx.to_reactions(HIRES, tolerance=tolerance)
    with pytest.raises(ValueError, match="All coefficients of the polynomial are zero"):
        srx.to_reactions(srx.Polynomial(2, degree=1))


def test_latex_has_one_reaction_a_line():
    lines = srx.to_mhchem(HIRES).split("\\\\\n")
    assert len(lines) == 15
    assert lines[0] == r"\ce{$\varnothing$ &->[0.0007] y1}"
    assert lines[-1] == r"\ce{y6 + y8 &->[280] y7}"
    with pytest.raises(ValueError, match="it needs a reaction network"):
        srx.to_mhchem(HIRES.to_polynomial())
    large = srx.ReactionNetwork(["A -> 0", "0 -> A"], rates=[1.25e-10, 3e7])
    first, second = srx.to_mhchem(large, digits=None).split("\\\\\n")
    assert (r"$1.25 \times 10^{-10}$" in first, "30000000.0" in second) == (True, True)
    assert r"->[$3 \times 10^{7}$] A" in srx.to_mhchem(large)


@pytest.mark.slow
def test_pruning_finds_the_reactions_among_candidates():
    ts = np.linspace(0.0, 2.0, 12)
    ys = [[a * np.exp(-ts), a * (1 - np.exp(-ts)) + b] for a, b in ((1, 0), (2, 1), (0.5, 3))]
    data = srx.Trajectories.from_arrays(ts, np.transpose(ys, (0, 2, 1)), names=["A", "B"])
    candidates = srx.ReactionNetwork.candidates(["A", "B"], conserved=[1, 1])
    pruned = srx.prune_and_refit(candidates, data, srx.RadauIIA9(), refine=1, progress=False)
    found = rates(srx.to_reactions(pruned.model))
    assert set(found) == {"A -> B"}
    np.testing.assert_allclose(found["A -> B"], 1.0, rtol=1e-9)


def sbml_rates(network, y):
    """The rates of a network at its start, by the reader of PEtab's models, from valid SBML."""
    libsbml, sympy = pytest.importorskip("libsbml"), pytest.importorskip("sympy")
    pytest.importorskip("petab.v1")
    from stiffrax.petab._sbml import read_sbml

    document = libsbml.readSBMLFromString(srx.to_sbml(network, y))
    document.setConsistencyChecks(libsbml.LIBSBML_CAT_UNITS_CONSISTENCY, False)
    document.checkConsistency()
    assert document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) == 0
    model = read_sbml(document)
    at = {name: float(value) for name, value in model.values.items()}
    assert [at[name] for name in network.species] == y.tolist()

    def value(formula):
        while names := [s for s in formula.free_symbols if s.name in model.rules]:
            formula = formula.subs({s: model.rules[s.name] for s in names})
        return float(formula.subs({s: at[s.name] for s in formula.free_symbols}))

    return [value(sympy.sympify(model.rates[name])) for name in network.species]


class TestSbml:
    def test_it_is_valid_and_has_the_rate_equations(self):
        y = np.arange(1.0, 9.0) / 8
        found = sbml_rates(HIRES, y)
        np.testing.assert_allclose(found, HIRES(0.0, jnp.asarray(y)), rtol=1e-12)

    def test_species_have_the_names_of_constants_and_of_its_own_parts(self):
        names = "Pi time inf nan avogadro exponentiale k1 k1_ r1 volume reactions".split()
        texts = [f"2 {a} -> {b}" for a, b in itertools.pairwise([*names, names[0]])]
        network = srx.ReactionNetwork(texts, rates=np.arange(1.0, 12.0))
        y = np.arange(1.0, 12.0) / 8
        expected = network(0.0, jnp.asarray(y))
        np.testing.assert_allclose(sbml_rates(network, y), expected, rtol=1e-12)

    def test_single_precision_has_the_digits_that_were_given(self):
        pytest.importorskip("libsbml")
        rates, y = jnp.array([0.1], jnp.float32), np.array([0.3, 0.7], np.float32)
        text = srx.to_sbml(srx.ReactionNetwork(["A -> B"], rates=rates), y)
        assert re.findall(r'(?:value|initialAmount)="(.+?)"', text) == ["0.3", "0.7", "0.1"]

    def test_what_it_cannot_write_is_refused(self):
        with pytest.raises(ValueError, match="it needs a reaction network"):
            srx.to_sbml(HIRES.to_polynomial(), np.ones(8))
        with pytest.raises(ValueError, match=r"has shape \(3,\); it needs \(8,\)"):
            srx.to_sbml(HIRES, np.ones(3))
        greek = srx.ReactionNetwork(["\N{GREEK SMALL LETTER ALPHA} -> B"])
        with pytest.raises(ValueError, match="cannot be named so in SBML, which has ASCII letters"):
            srx.to_sbml(greek, np.ones(2))
        with pytest.raises(
            ValueError, match="`initial_state` is .*nan.*; a model in SBML needs fin"
        ):
            srx.to_sbml(HIRES, [*7 * [1.0], None])

    def test_what_the_library_refuses_is_no_silence(self):
        libsbml = pytest.importorskip("libsbml")
        from stiffrax.recovery._sbml import _set

        document = libsbml.SBMLDocument(3, 2)
        species = document.createModel().createSpecies()
        with pytest.raises(ValueError, match="libsbml refuses '1A' as the Id of a species: "):
            _set(species, Id="1A")

    def test_without_the_library_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "libsbml", None)
        with pytest.raises(ImportError, match="stiffrax\\[petab\\]"):
            srx.to_sbml(HIRES, np.ones(8))


def test_coefficients_that_are_not_finite_are_named():
    model = srx.Polynomial(1, 1, coefficients=[[0.0, np.nan]])
    with pytest.raises(ValueError, match="got nan for the term `y1` in output 1"):
        srx.to_reactions(model)
    network = srx.ReactionNetwork(["A -> B"], rates=[1.0])
    with pytest.raises(ValueError, match="got inf for `A -> B`"):
        srx.to_mhchem(jax.tree.map(lambda x: x * np.inf if eqx.is_inexact_array(x) else x, network))
