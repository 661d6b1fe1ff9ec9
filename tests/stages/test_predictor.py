import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages import (
    StagePolynomial,
    StageSystem,
    evaluate_polynomial,
    flat_field,
    no_polynomial,
    predict,
    stage_polynomial,
)
from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia

TABLEAUS = [*map(radau_iia, (1, 2, 3, 5)), *map(gauss, (1, 2, 3)), lobatto_iiia(2)]
every_tableau = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)
HEIGHTS = jnp.array([1.0, -2.0])


def solution(tableau, t):
    """A polynomial of the degree that the stages determine, zero at zero."""
    return jnp.multiply.outer(t ** len(tableau.c) + t, HEIGHTS)


def solved_step(tableau, h):
    slope = jax.jacfwd(lambda t: solution(tableau, t))
    t, h = jnp.array(0.0), jnp.asarray(h)
    field, flat, _ = flat_field(lambda t, y: slope(t), t, jnp.zeros(2))
    system = StageSystem(tableau, field, t, h, h, flat, None).with_start_slope()
    return system, solution(tableau, h * tableau.nodes)


@functools.cache
def memory(tableau, h=0.5):
    coefficients = stage_polynomial(*solved_step(tableau, h))
    return StagePolynomial(coefficients, jnp.asarray(h), jnp.asarray(True))


@every_tableau
def test_the_polynomial_of_a_step_reproduces_a_solution_of_its_degree(tableau):
    theta = jnp.linspace(-1, 2, 7)
    values = evaluate_polynomial(memory(tableau).coefficients, theta)
    np.testing.assert_allclose(values, solution(tableau, 0.5 * theta), atol=1e-13)


@every_tableau
@pytest.mark.parametrize("h", [0.1, 0.5, 2.0])
def test_the_next_step_starts_where_the_polynomial_leads(tableau, h):
    guess = predict(tableau, memory(tableau), jnp.asarray(h), False)
    ahead = solution(tableau, 0.5 + h * tableau.nodes) - solution(tableau, jnp.array([0.5]))
    np.testing.assert_allclose(guess, ahead, rtol=1e-11)


def test_backward_steps_are_predicted_as_well():
    tableau = radau_iia(3)
    guess = predict(tableau, memory(tableau, -0.5), jnp.asarray(-0.5), False)
    start = solution(tableau, jnp.array([-0.5]))
    ahead = solution(tableau, -0.5 - 0.5 * tableau.nodes) - start
    np.testing.assert_allclose(guess, ahead, rtol=1e-11)


@pytest.mark.parametrize("case", ["first step", "jump", "wild growth", "failed step", "NaN"])
def test_nothing_is_predicted_where_the_last_step_says_nothing(case):
    tableau = radau_iia(3)
    last, h, made_jump = memory(tableau), 0.5, case == "jump"
    if case == "first step":
        last = no_polynomial(tableau, jnp.ones(2))
    if case == "wild growth":
        h = 5.0
    if case in ("failed step", "NaN"):
        coefficients = jnp.full_like(last.coefficients, jnp.nan)
        last = StagePolynomial(coefficients, last.h, jnp.asarray(False))
    guess = predict(tableau, last, jnp.asarray(h), made_jump)
    np.testing.assert_array_equal(guess, np.zeros((3, 2)))


def test_a_last_step_of_length_zero_leaves_a_finite_guess():
    tableau = radau_iia(2)
    last = StagePolynomial(jnp.zeros((2, 2)), jnp.array(0.0), jnp.asarray(True))
    for h in (0.0, 0.1):
        assert jnp.all(predict(tableau, last, jnp.asarray(h), False) == 0)


def test_guesses_keep_the_dtype_of_the_state():
    tableau = radau_iia(3)
    last = no_polynomial(tableau, jnp.ones(2, "float32"))
    assert predict(tableau, last, jnp.asarray(0.1, "float32"), False).dtype == jnp.float32


def test_a_state_without_numbers_has_values_within_steps():
    assert evaluate_polynomial(jnp.zeros((3, 0, 2)), jnp.array([0.5])).shape == (1, 0, 2)
