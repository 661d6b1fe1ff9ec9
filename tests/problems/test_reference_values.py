"""SciPy, given only a problem's vector field, arrives at the problem's reference values."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import stiffrax as srx

problems = srx.problems

# Each with the relative tolerance asked of SciPy for a quick check, and the largest relative error
# that leaves; components that end at zero to rounding are compared against 1e-12.
QUICK = {
    problems.hires: (1e-8, 2e-7),
    problems.pollution: (1e-8, 2e-6),
    problems.robertson: (1e-7, 1e-6),
    problems.van_der_pol: (1e-6, 1e-6),
    problems.van_der_pol_scaled: (1e-6, 1e-6),
    problems.oregonator: (1e-6, 1e-4),
    problems.lotka_volterra: (1e-9, 1e-7),
    problems.lorenz: (1e-9, 1e-5),
    problems.kaps: (1e-9, 1e-7),
    problems.quadratic_triple: (1e-9, 1e-7),
    problems.linear_pair: (1e-9, 1e-7),
    problems.linear_decay: (1e-9, 1e-7),
    problems.linear_relaxation: (1e-9, 1e-7),
    problems.prothero_robinson: (1e-9, 1e-7),
}
WITHOUT_REFERENCE = [
    problems.double_pendulum,
    problems.roessler,
    problems.hyperchaotic_roessler,
    problems.hyperchaotic_chen,
]


# Not stiff: an explicit method is as good an oracle and takes a tenth of the time.
EXPLICIT = {"Lotka-Volterra", "Lorenz-63", "Roessler", "hyperchaotic Roessler", "hyperchaotic Chen"}


@functools.cache
def compiled(vector_field):
    return jax.jit(vector_field), jax.jit(jax.jacfwd(vector_field, argnums=1))


def integrate(problem, ts, rtol):
    """The solution at `ts`; restarted there, because between steps SciPy's Radau is less exact."""
    field, jacobian = compiled(problem.vector_field)
    # POLLU's smallest species ends at 4e-18, ROBER's at 8e-14.
    atol = rtol * (1e-22 if problem.name == "POLLU" else 1e-12)
    options: dict[str, Any] = {"method": "Radau", "jac": lambda t, y: np.asarray(jacobian(t, y))}
    if problem.name in EXPLICIT:
        options = {"method": "DOP853"}
    states, start, y = [], problem.t0, problem.y0
    for t in ts:
        solution = solve_ivp(
            lambda t, y: np.asarray(field(t, y)),
            (start, t),
            y,
            rtol=rtol,
            atol=atol,
            **options,
        )
        assert solution.success
        start, y = t, solution.y[:, -1]
        states.append(y)
    return np.stack(states)


def relative_error(problem, rtol, ts):
    states = integrate(problem, ts, rtol)
    expected = problem.reference_values[-len(ts) :]
    return np.max(np.abs(states - expected) / np.maximum(np.abs(expected), 1e-20))


@pytest.mark.slow_cases("pollution")
@pytest.mark.parametrize("make", QUICK, ids=lambda make: make.__name__)
def test_end_point_is_the_reference(make):
    problem = make()
    rtol, tolerance = QUICK[make]
    if make is problems.linear_decay:
        problem = make(rate=20.0)  # at the default rate nothing is left at the end
    np.testing.assert_array_equal(problem.reference, problem.reference_values[-1])
    assert relative_error(problem, rtol, [problem.t1]) < tolerance


def test_kaps_off_its_slow_curve_ends_at_the_reference():
    assert relative_error(problems.kaps(transient=True), 1e-9, [1.0]) < 1e-7


@pytest.mark.parametrize("make", [problems.hires, problems.lorenz])
def test_first_reference_value_is_on_the_solution(make):
    problem = make()
    states = integrate(problem, problem.reference_times[:1], 1e-8)
    np.testing.assert_allclose(states, problem.reference_values[:1], rtol=2e-6)


def test_all_reference_values_of_robertson_are_on_the_solution():
    problem = problems.robertson()
    assert len(problem.reference_times) == 15
    assert relative_error(problem, 1e-7, problem.reference_times) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [make for make in QUICK if make is not problems.linear_decay],
    ids=lambda make: make.__name__,
)
def test_all_reference_values_hold_to_nine_digits(make):
    problem = make()
    assert relative_error(problem, 1e-11, problem.reference_times) < 1e-9


@pytest.mark.parametrize("make", WITHOUT_REFERENCE)
def test_unknown_reference_is_none(make):
    assert make().reference is None
    assert make().reference_values.shape == (0, len(make().y0))


def test_reference_belongs_to_the_standard_parameters_only():
    assert problems.van_der_pol(mu=5.0).reference is None
    assert problems.van_der_pol_scaled(epsilon=0.1).reference is None


@pytest.mark.parametrize("make", [problems.roessler, problems.hyperchaotic_chen])
def test_chaotic_solution_stays_bounded(make):
    problem = make()
    end = integrate(problem, [problem.t1], 1e-6)
    assert 1 < np.abs(end).max() < 100


def test_hyperchaotic_roessler_stays_bounded_from_its_start():
    problem = problems.hyperchaotic_roessler()
    assert 1 < np.abs(integrate(problem, [problem.t1], 1e-6)).max() < 300
