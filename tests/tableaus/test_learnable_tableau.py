"""Trainable tableaus: where they start, what they refuse, and those that are always stable."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx
from stiffrax.tableaus import (
    LearnableTableau,
    StableTableau,
    gauss,
    is_a_stable,
    learnable_tableau,
    order_residuals,
    radau_iia,
    random_tableau,
    stability_at_infinity,
)

KEY = jax.random.key(0)


@pytest.mark.slow_cases("arguments0", "arguments1", "arguments3")
@pytest.mark.parametrize(
    "arguments",
    [
        (4, "explicit", 4, None),
        (2, "diagonally_implicit", 3, None),
        (2, "implicit", 4, None),
        (2, "implicit", 3, "L"),
    ],
)
def test_random_starts_have_the_order_asked_for(arguments):
    tableau = random_tableau(*arguments, KEY)
    order = arguments[2]
    assert jnp.max(jnp.abs(order_residuals(tableau, order))) < 1e-13
    assert jnp.max(jnp.abs(tableau.A)) < 10


def test_other_keys_give_other_tableaus():
    make = jax.jit(lambda key: random_tableau(3, "explicit", 1, None, key))
    one, other = (make(jax.random.key(k)) for k in range(2))
    assert jnp.max(jnp.abs(one.A - other.A)) > 1e-2


def test_a_tableau_of_diffrax_is_taken_over():
    tableau = learnable_tableau(diffrax.Kvaerno3.tableau)
    assert tableau.kind == "diagonally_implicit"
    assert tableau.order == 3
    np.testing.assert_allclose(tableau.A[-1], tableau.b)


def test_the_order_is_known_in_single_precision():
    method = radau_iia(2)
    single = tuple(x.astype(np.float32) for x in (method.A, method.b, method.c))
    assert learnable_tableau(single).order == 3


def test_the_order_of_an_inconsistent_method_is_taken_to_be_one():
    assert learnable_tableau((np.zeros((1, 1)), np.array([0.5]), np.zeros(1))).order == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, "half", 2, None), "write one of 'explicit', 'diagonally_implicit', 'implicit'"),
        ((4, "explicit", 9, None), "`order=9` was given; it needs an integer from 1 to 8"),
        ((3, "explicit", 4, None), "Write `stages=4`, or a lower order"),
        ((1, "implicit", 1, "L"), "it needs at least 2"),
        ((4, "explicit", 2, "L"), "Write `kind='implicit'`, or train with"),
        ((4, "implicit", 2, "B"), "write None, 'A' or 'L'"),
    ],
)
def test_what_no_method_has_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_tableau(*arguments, KEY)


def test_a_kind_without_room_for_the_coefficients_is_refused():
    with pytest.raises(ValueError, match="for a method that is 'implicit'; write that"):
        learnable_tableau(srx.tableaus.radau_iia(2), "explicit")


def test_rounding_above_the_diagonal_makes_no_method_implicit():
    known = learnable_tableau(diffrax.Tsit5.tableau)
    rounded = known.A + 1e-17 * np.triu(np.ones_like(known.A))
    again = learnable_tableau((rounded, known.b, known.c))
    assert again.kind == "explicit"
    np.testing.assert_array_equal(again.A, known.A)


def test_an_order_that_no_start_leads_to_is_an_error_at_run_time(monkeypatch):
    monkeypatch.setattr("stiffrax.tableaus._initial_tableaus._ITERATIONS", 1)
    with pytest.raises(Exception, match="another key, one more stage, or"):
        random_tableau(3, "explicit", 3, None, KEY)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("kind", [list, jnp.array], ids=["lists", "arrays"])
def test_whole_numbers_are_trained_as_well(kind):
    A, b, c = kind([[0, 0], [1, 0]]), kind([0, 1]), kind([0, 1])
    tableau = LearnableTableau(A, b, c, kind="explicit", order=2)
    assert [x.dtype for x in jax.tree.leaves(eqx.filter(tableau, eqx.is_inexact_array))] == [
        float
    ] * 3


@pytest.mark.usefixtures("unchecked_types")
def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"it needs \(s, s\), \(s,\)"):
        LearnableTableau(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(2), kind="implicit", order=1)


@eqx.filter_jit
def coefficients_at(start, x):
    """`(A, b, c)` at many parameter values."""
    _, restore = ravel_pytree(start)
    return jax.vmap(lambda x: (lambda t: (t.A, t.b, t.c))(restore(x)))(x)


@pytest.mark.slow_cases("4-L", "3-A")
@pytest.mark.parametrize(("stages", "stability"), [(3, "L"), (4, "L"), (3, "A")])
def test_it_is_stable_at_random_parameter_values(stages, stability):
    start = learnable_tableau(radau_iia(stages), stability=stability)
    size = ravel_pytree(start)[0].size
    A, b, c = coefficients_at(start, jax.random.normal(jax.random.key(1), (40, size)))
    for method in zip(*map(np.asarray, (A, b, c)), strict=True):
        assert is_a_stable(method)
        if stability == "L":
            assert abs(stability_at_infinity(method)) < 1e-9
        B = np.diag(method[1])
        M = B @ method[0] + method[0].T @ B - np.outer(method[1], method[1])
        assert np.min(np.linalg.eigvalsh(M)) > -1e-13
        assert abs(method[1] @ method[2] - 0.5) < 1e-12


@pytest.mark.parametrize(
    ("method", "stability"), [(radau_iia(3), "L"), (gauss(3), "A"), (radau_iia(2), "A")]
)
def test_a_stable_method_is_reproduced(method, stability):
    tableau = learnable_tableau(method, stability=stability)
    np.testing.assert_allclose(tableau.A, method.A, atol=1e-15)
    np.testing.assert_allclose(tableau.b, method.b, atol=1e-15)
    np.testing.assert_allclose(tableau.c, method.c, atol=1e-15)


def test_projection_to_a_higher_order_keeps_the_stability():
    start = learnable_tableau(radau_iia(3), stability="L")
    start = jax.tree.map(lambda x: x + 0.05, start)
    found = srx.tableaus.order_projection(start, 3, 20)
    assert jnp.max(jnp.abs(order_residuals(found, 3))) < 1e-13
    assert is_a_stable(tuple(map(np.asarray, (found.A, found.b, found.c))))


@pytest.mark.parametrize(
    ("method", "stability", "message"),
    [
        (gauss(2), "L", "whose last stage is not the end of the step"),
        (srx.tableaus.lobatto_iiia(3), "L", "not algebraically stable"),
        (radau_iia(1), "A", "not algebraically stable"),
        (radau_iia(1), "L", "was asked for 1 stage; .* need two stages or more"),
    ],
)
def test_other_methods_are_refused(method, stability, message):
    with pytest.raises(ValueError, match=message):
        learnable_tableau(method, stability=stability, kind="implicit")


def test_parameters_of_other_shapes_are_refused():
    ones = jnp.ones(3)
    with pytest.raises(ValueError, match=r"it needs \(\(1,\), \(1,\), \(1, 1\)\)"):
        StableTableau(ones, ones, ones, jnp.ones((1, 1)), stability="L", order=2)


@pytest.mark.parametrize(
    ("A", "b", "c", "stability"),
    [
        ([[0.25, 0.0], [0.5, 0.5]], [0.5, 0.5], [0.25, 1.0], "L"),
        ([[1.0]], [2.0], [1.0], "A"),
        (gauss(2).A, gauss(2).b, [0.0, 1.0], "A"),
    ],
    ids=["of order one", "weights of sum two", "other nodes"],
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_method_that_would_come_back_as_another_is_refused(A, b, c, stability):
    with pytest.raises(
        ValueError, match="not algebraically stable with positive weights of sum one"
    ):
        learnable_tableau((A, b, c), stability=stability, kind="implicit")


def test_a_stable_method_in_single_precision_is_stable():
    method = radau_iia(2)
    single = tuple(np.asarray(x, np.float32) for x in (method.A, method.b, method.c))
    tableau = learnable_tableau(single, stability="L")
    np.testing.assert_allclose(tableau.A, method.A, atol=1e-6)


@pytest.mark.parametrize("order", [2, 9, 0, 1.5])
@pytest.mark.usefixtures("unchecked_types")
def test_an_order_that_a_method_of_one_stage_has_not_is_refused(order):
    euler = (np.zeros((1, 1)), np.ones(1), np.zeros(1))
    with pytest.raises(ValueError, match="or a lower order|needs an integer from 1 to 8"):
        learnable_tableau(euler, order=order)


def test_no_tableau_is_projected_to_an_order_above_eight():
    one = jnp.ones(1)
    tableau = LearnableTableau(one[:, None], one, one, kind="implicit", order=9)
    with pytest.raises(ValueError, match="`order=9` was given; it needs an integer from 1 to 8"):
        srx.tableaus.order_projection(tableau)
