"""Reaction networks: their rate equations against closed forms, and what is refused."""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.models import within_bounds

ROBERTSON = srx.ReactionNetwork(
    ["A -> B", "2 B -> B + C", "B + C -> A + C"], rates=[0.04, 3e7, 1e4]
)


def test_rate_equations_are_those_of_the_literature():
    field = srx.problems.robertson().vector_field
    for y in np.random.default_rng(0).uniform(0, 1, (5, 3)):
        np.testing.assert_allclose(ROBERTSON(0.0, jnp.asarray(y)), field(0.0, y), rtol=1e-14)


def test_values_and_derivatives_are_exact_at_zero_and_below():
    square = srx.ReactionNetwork(["2 A -> B"], rates=[3.0])
    jacobian = jax.jacfwd(lambda y: square(0.0, y))
    np.testing.assert_array_equal(jacobian(jnp.zeros(2)), np.zeros((2, 2)))
    np.testing.assert_allclose(square(0.0, jnp.array([-2.0, 0.0])), [-24.0, 12.0])
    np.testing.assert_allclose(jacobian(jnp.array([-2.0, 0.0])), [[24.0, 0], [-12.0, 0]])


@pytest.mark.parametrize(("unit", "rate"), [(1e22, 1e-16), (1e-25, 1e22)])
def test_speeds_are_found_where_single_precision_has_no_product_of_the_species(unit, rate):
    network = srx.ReactionNetwork(["A + B -> C"], rates=jnp.array([rate], jnp.float32))
    y = jnp.array([unit, unit, 0.0], jnp.float32)
    np.testing.assert_allclose(network(0.0, y)[2], rate * unit * unit, rtol=1e-6)


def test_what_comes_from_outside_has_a_constant_speed():
    source = srx.ReactionNetwork(["0 -> A", "A -> "], rates=[2.0, 0.5])
    assert source.reactions() == ("0 -> A", "A -> 0")
    np.testing.assert_allclose(source(0.0, jnp.array([1.0])), [1.5])


def test_molecules_are_counted_however_they_are_written():
    texts = ["A + A + B -> C", "2A + B -> 2 C", "2*A+B->3C"]
    network = srx.ReactionNetwork(texts)
    np.testing.assert_array_equal(network.reactants, 3 * [[2, 1, 0]])
    np.testing.assert_array_equal(network.stoichiometry[:, 2], [1, 2, 3])


def test_a_reaction_that_is_off_adds_nothing_and_has_no_gradient():
    off = ROBERTSON.with_active([True, False, True])
    y = jnp.array([1.0, 2.0, 3.0])
    slope = jax.grad(lambda k: jnp.sum(off.with_coefficients(k)(0.0, y) ** 2))(jnp.ones(3))
    assert slope[1] == 0
    assert off.kept().reactions() == ("A -> B", "B + C -> A + C")
    np.testing.assert_array_equal(off.kept()(0.0, y), off(0.0, y))


def test_a_network_without_a_reaction_that_is_on_is_refused_where_one_is_written():
    off = srx.ReactionNetwork(["A -> B"], active=[False])
    for write in (lambda: srx.to_mhchem(off), lambda: srx.to_sbml(off, np.ones(2))):
        with pytest.raises(ValueError, match="All 1 reactions of the network are switched off"):
            write()


def test_its_polynomial_is_the_same_field():
    y = jnp.array([0.3, 0.2, 0.5])
    np.testing.assert_allclose(ROBERTSON.to_polynomial()(0.0, y), ROBERTSON(0.0, y), rtol=1e-15)
    assert "dB/dt = 0.04*A - 30000000*B**2 - 10000*B*C" in srx.to_text(ROBERTSON)


def test_candidates_conserve_what_was_asked():
    network = srx.ReactionNetwork.candidates(["A", "B", "C"], conserved=[[1, 1, 2]])
    assert "A + B -> C" in network.reactions()
    assert "A -> C" not in network.reactions()
    np.testing.assert_array_equal(network.stoichiometry @ [1, 1, 2], 0)


def test_no_two_candidates_have_rate_equations_that_differ_by_a_factor():
    network = srx.ReactionNetwork.candidates(["A", "B"])
    rows = np.concatenate([network.reactants, network.stoichiometry], axis=1)
    units = rows[:, 2:] / np.linalg.norm(rows[:, 2:], axis=1, keepdims=True)
    assert len(np.unique(np.round(np.c_[rows[:, :2], units], 9), axis=0)) == len(rows)
    assert "2 A -> A + B" in network.reactions()
    assert "2 A -> 2 B" not in network.reactions()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("A -> B",), "is the text 'A -> B'; it needs a sequence"),
        ((["A = B"],), "is no reaction: write reactants, an arrow"),
        ((["A -> B -> C"],), "is no reaction"),
        ((["A -> 2.5 B"],), "is no species: write a name, or a whole number"),
        ((["0 A + B -> C"],), "'0 A' in the reaction .* is no species"),
        ((["A -> A"],), "changes nothing"),
        ((["A -> B", "A -> B"],), "is given twice"),
        ((["A -> B"], ["A"]), r"have \['B'\] besides"),
        (([],), "Give one reaction or more"),
    ],
)
def test_what_is_no_network_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        srx.ReactionNetwork(*arguments)


def test_rates_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(2,\)"):
        ROBERTSON.with_coefficients([1.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reactants": 0}, "`reactants=0` was given"),
        ({"conserved": [1, 1]}, "rows of 2 numbers; each needs a finite one for every species, 3"),
        ({"conserved": [1, 1, np.nan]}, "rows of 3 numbers; each needs a finite one"),
        ({"conserved": ["a", "b", "c"]}, "`conserved` is a list .*; it needs real numbers"),
        ({"conserved": np.eye(3)}, "There are no candidates"),
        (
            {"reactants": 8, "products": 8},
            "more than 20000 candidates; a search needs one to 20000",
        ),
    ],
)
def test_candidates_that_no_fit_can_hold_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        srx.ReactionNetwork.candidates(["A", "B", "C"], **options)


def test_too_many_candidates_are_refused_before_all_are_made():
    start = time.process_time()
    with pytest.raises(ValueError, match="more than 20000 candidates"):
        srx.ReactionNetwork.candidates([f"y{i}" for i in range(50)])
    assert time.process_time() - start < 15  # all 1.8 million pairs take half a minute


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_what_is_conserved_may_have_any_unit(unit):
    pair = srx.ReactionNetwork.candidates(
        ["A", "B"], reactants=1, products=1, conserved=[unit, unit]
    )
    assert set(pair.reactions()) == {"A -> B", "B -> A"}


def test_masses_are_conserved_within_their_rounding():
    masses = [12.011, 31.998, 12.011 + 31.998 + 1e-5]
    network = srx.ReactionNetwork.candidates(["C", "O2", "CO2"], conserved=masses)
    assert "C + O2 -> CO2" in network.reactions()


@pytest.mark.slow
def test_a_fit_keeps_rates_from_becoming_negative():
    ts = np.linspace(0, 2, 21)
    runs = np.stack([[a * np.exp(-ts), b + a * (1 - np.exp(-ts))] for a, b in ((1, 0), (2, 1))])
    noisy = runs + 0.02 * np.random.default_rng(3).normal(size=runs.shape)
    data = srx.Trajectories.from_arrays(ts, noisy.transpose(0, 2, 1), names=["A", "B"])
    network = srx.ReactionNetwork(["A -> B", "B -> A", "2 A -> A + B"])
    fit = srx.fit_least_squares(network, data, srx.Trapezoid(), progress=False)
    assert fit.stopped == "converged"
    assert np.all(fit.model.rates >= 0)
    assert np.any(fit.model.rates == 0)


@pytest.mark.parametrize("rate", [np.nan, np.inf])
def test_rates_that_are_not_finite_are_refused(rate):
    with pytest.raises(
        ValueError, match=f"holds {rate} for 'A -> B'; a rate is finite, zero or more"
    ):
        srx.ReactionNetwork(["A -> B"], rates=[rate])


def test_negative_rates_are_refused_with_the_reaction_that_was_meant():
    with pytest.raises(ValueError, match="`rates` holds -0.5 for 'A -> 2 B'.*Write '2 B -> A'"):
        srx.ReactionNetwork(["B -> A", "A -> 2 B"], rates=[1.0, -0.5])
    # What a step of an optimizer left is no argument of the user.
    moved = srx.ReactionNetwork(["A -> B"]).with_coefficients([-1e-9])
    np.testing.assert_array_equal(moved.kept().coefficients, [-1e-9])


class TestWrappedRates:
    """Rates on a scale of their own, as a fit of parameters returns them."""

    network = srx.ReactionNetwork(
        ["A -> B", "B -> A"], rates=srx.positive([2.0, 3.0]), active=[True, False]
    )

    def test_they_are_what_is_written(self):
        assert str(self.network) == "A -> B  2"
        assert srx.to_mhchem(self.network) == r"\ce{A &->[2] B}"
        assert srx.to_text(self.network) == "dA/dt = -2*A\ndB/dt = 2*A"
        assert str(srx.to_reactions(self.network)) == "A -> B  2"
        pytest.importorskip("libsbml")
        assert 'value="2"' in srx.to_sbml(self.network, [1.0, 0.0])

    def test_so_they_are_of_a_network_that_is_fixed(self):
        assert srx.to_mhchem(srx.fixed(self.network)) == r"\ce{A &->[2] B}"

    def test_reactions_are_switched_off_and_on(self):
        other = self.network.with_active([False, True])
        np.testing.assert_allclose(other.rates, [0, 3])
        assert isinstance(other.coefficients, srx.Parameter)
        np.testing.assert_allclose(other.with_coefficients([5.0, 7.0]).rates, [0, 7])

    def test_after_an_update_they_keep_their_own_bounds(self):
        rates = srx.positive([1e-3, 2.0], 1e-4, 1.5e3)
        network = srx.ReactionNetwork(["A -> B", "B -> A"], rates=rates)
        np.testing.assert_allclose(within_bounds(network).rates, [1e-3, 2.0], rtol=1e-12)
        far = eqx.tree_at(lambda n: n.coefficients.raw, network, jnp.array([-20.0, 20.0]))
        np.testing.assert_allclose(within_bounds(far).rates, [1e-4, 1.5e3], rtol=1e-12)

    def test_those_of_single_reactions_are_refused(self):
        with pytest.raises(ValueError, match="holds a parameter for single reactions"):
            srx.ReactionNetwork(["A -> B", "B -> A"], rates=[srx.positive(1.0), srx.fixed(0.1)])

    def test_bounds_below_zero_are_refused(self):
        with pytest.raises(ValueError, match="a rate is zero or more. Write `srx.bounded"):
            srx.ReactionNetwork(["A -> B"], rates=srx.bounded([0.5]))

    def test_of_another_number_they_are_refused(self):
        with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
            srx.ReactionNetwork(["A -> B", "B -> A"], rates=srx.positive([1.0, 2.0, 3.0]))

    def test_least_squares_which_are_linear_in_rates_refuse_them(self):
        data = srx.Trajectories.from_arrays([0.0, 1.0], [[1.0, 0.0], [0.5, 0.5]], names=["A", "B"])
        with pytest.raises(
            ValueError, match="of the ReactionNetwork are a Parameter; least squares"
        ):
            srx.fit_least_squares(self.network, data)


def test_kept_rates_have_their_scale_and_bounds():
    rates = srx.positive([1.0, 2.0], 1e-3, 10.0)
    network = srx.ReactionNetwork(["A -> B", "B -> A"], rates=rates, active=[False, True]).kept()
    assert (network.coefficients.log, network.coefficients.upper) == (True, np.log(10.0))
    np.testing.assert_allclose(network.rates, [2.0])


def test_what_an_active_reaction_has_is_active_in_its_polynomial_at_rate_zero():
    network = srx.ReactionNetwork(["A -> B", "2 B -> A"], active=[True, False])
    found = network.to_polynomial()
    names = found.feature_names()
    assert found.active[:, names.index("y1")].tolist() == [True, True]
    assert found.active.sum() == 2
