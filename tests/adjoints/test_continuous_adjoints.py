"""The parts of the continuous adjoints, each against what is known in closed form."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints._adjoint_equation import (
    AbstractLinearEquation,
    AdjointEquation,
    LinearKenCarp,
    LinearRadau,
)
from stiffrax.adjoints._adjoint_loop import (
    AdjointStep,
    AdjointTolerances,
    add_integral,
    clenshaw_curtis,
)
from stiffrax.adjoints._saved_values import cotangent_jumps, saved_places
from stiffrax.adjoints._step_equations import StepEquations
from stiffrax.diffrax_loop import SavedValues, Step, StepRecord

KINDS = (srx.InterpolatingAdjoint, srx.QuadratureAdjoint, srx.GaussAdjoint, srx.ImexAdjoint)


class Constant(AbstractLinearEquation):
    """A constant matrix, and a weight in time as the integrand."""

    matrix: jax.Array
    weight: Any = eqx.field(static=True, default=jnp.ones_like)

    def matrices(self, ts):
        return jnp.broadcast_to(self.matrix, (ts.size, *self.matrix.shape))

    def pull(self, ts, v):
        return jnp.sum(self.weight(ts)[:, None] * v)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "order"), [(LinearRadau(), 5), (LinearKenCarp(), 4)])
def test_a_step_has_the_order_of_its_method(method, order):
    equation, start = Constant(jnp.array([[-1.0, 2.0], [0.5, -3.0]])), jnp.array([1.0, -2.0])

    def error(h):
        end = method.step(equation, jnp.array(1.0), jnp.array(h), start).end
        return jnp.max(jnp.abs(end - jax.scipy.linalg.expm(h * equation.matrix) @ start))

    assert abs(jnp.log2(error(0.1) / error(0.05)) - (order + 1)) < 0.3


@pytest.mark.slow_cases("method0")
@pytest.mark.parametrize("method", [LinearRadau(), LinearKenCarp()])
def test_a_transient_too_fast_for_the_step_is_damped_and_costs_the_integral_nothing(method):
    equation = Constant(jnp.array([[-1e8]]))
    at = jnp.array(1.0), jnp.array(0.1), jnp.array([1.0])
    step = eqx.filter_jit(method.step)(equation, *at)
    assert abs(step.end[0]) < 1e-6
    assert abs(step.error[0]) < 2
    if isinstance(method, LinearRadau):
        assert abs(step.error_weights @ step.error_values[:, 0]) < 1e-6


def test_clenshaw_curtis_rules_are_exact_for_polynomials_and_nested():
    nodes, weights = clenshaw_curtis(8)
    for degree in range(9):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-12)
    np.testing.assert_allclose(nodes[::2], clenshaw_curtis(4)[0], atol=1e-15)


@pytest.mark.parametrize("wanted", [True, False])
def test_quadrature_halves_a_step_until_a_kink_is_integrated(wanted):
    equation = Constant(jnp.zeros((1, 1)), lambda t: jnp.abs(t - 0.3))

    @jax.jit
    def add(t, h, total):
        one = jnp.ones(1)
        step = AdjointStep(t, h, one, 0 * one[:, None])
        return add_integral(equation, step, total, jnp.array(wanted), 1e-9, 1e-12)

    # Two steps of an adjoint that is one everywhere, back from 1 to 0.25 and to 0.
    total = add(jnp.array(0.25), jnp.array(0.25), add(jnp.array(1.0), jnp.array(0.75), 0.0))
    assert total == pytest.approx(wanted * (0.3**2 + 0.7**2) / 2, rel=1e-8)


def test_what_rounding_makes_of_an_integral_is_not_halved_for_ever_in_single_precision():
    calls = []

    class Reversible(Constant):
        """The two parts of the integrand cancel but for their rounding."""

        def pull(self, ts, weighted):
            jax.debug.callback(lambda: calls.append(0))
            noise = 1e-7 * jnp.cos(1e6 * ts)
            return jnp.sum(weighted[:, 0] * (1 + noise) - weighted[:, 1])

    t = one = jnp.ones((), jnp.float32)
    ends = jnp.ones(2, jnp.float32)
    step = AdjointStep(t, one, ends, 0 * ends[None])
    equation = Reversible(jnp.zeros((2, 2), jnp.float32))
    total = add_integral(equation, step, 0 * one, jnp.array(True), 1e-6, 1e-11)
    jax.effects_barrier()
    assert abs(total) < 1e-6
    assert 0 < len(calls) < 100


def record(ends):
    """Steps from zero to `ends`, and room for another."""
    starts = jnp.array([0.0, *ends[:-1], 0.0])
    y0 = jnp.zeros((starts.size, 1))
    return StepRecord(starts, jnp.array([*ends, 0.0]), y0, y0[0], None, jnp.array(len(ends)))


def places_of(steps, ts):
    saved = SavedValues(ts, jnp.zeros((ts.size, 1)))
    return saved_places(steps, saved, diffrax.SubSaveAt(ts=ts), ts.dtype)


@pytest.mark.slow
def test_cotangents_of_equal_times_are_one_jump_and_slots_not_filled_are_none():
    ts = jnp.array([0.5, 2.0, jnp.inf])
    steps = record([1.0, 2.5])
    places = [places_of(steps, ts), places_of(steps, ts[1:2])]
    values = [jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[5.0]])]
    jumps = cotangent_jumps(steps, places, values)
    assert jumps.count == 2
    np.testing.assert_array_equal(jumps.step[:2], [1, 0])
    np.testing.assert_allclose(jumps.fraction[:2], [2 / 3, 0.5], rtol=1e-14)
    np.testing.assert_array_equal(jumps.values[:2, 0], [7.0, 1.0])
    np.testing.assert_array_equal(jumps.nodes, 0)


@pytest.mark.slow
def test_cotangents_at_ends_of_steps_are_jumps_of_these_ends():
    ts = jnp.array([0.0, 1.0, 1.5, 2.5, jnp.inf])
    steps, values = record([1.0, 2.5]), jnp.array([[1.0], [2], [3], [4], [9]])
    places = places_of(steps, ts)
    jumps = cotangent_jumps(steps, [places, places], [values, values])
    assert jumps.count == 1
    np.testing.assert_array_equal(jumps.nodes[:, 0], [2.0, 4.0, 8.0, 0.0])


def end(rate, y0, adjoint):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -rate * y),
        srx.RadauIIA5(),
        0.0,
        1.0,
        None,
        y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        adjoint=adjoint,
        max_steps=64,
    ).ys[-1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_needs_more_steps_is_not_a_number(kind):
    adjoint = kind(rtol=1e-12, atol=1e-14, max_steps=2)
    for gradient in jax.grad(end, (0, 1))(200.0, jnp.ones(1), adjoint):
        assert np.all(np.isnan(gradient))


@pytest.mark.parametrize("kind", KINDS)
def test_tolerances_are_positive(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(rtol=0.*must be positive"):
        kind(rtol=0.0)
    with pytest.raises(ValueError, match="failed='none'.*write one of"):
        kind(failed="none")


def test_a_gauss_rule_has_nodes():
    with pytest.raises(
        ValueError, match="`nodes=0` was given; it needs a positive integer.*nodes=4"
    ):
        srx.GaussAdjoint(nodes=0)


def test_a_gauss_rule_has_at_least_the_order_of_the_forward_method():
    assert srx.GaussAdjoint().method(2) == LinearRadau(4)
    assert srx.GaussAdjoint().method(7) == LinearRadau(7)
    assert srx.GaussAdjoint(nodes=5).method(7) == LinearRadau(5)


@pytest.mark.slow_cases("InterpolatingAdjoint", "QuadratureAdjoint", "ImexAdjoint")
@pytest.mark.parametrize("kind", KINDS)
def test_a_solve_that_starts_at_a_jump_has_the_gradient_of_one_that_starts_after_it(kind):
    jump = jnp.array([1.0])

    def end(rate):
        control = diffrax.ClipStepSizeController(diffrax.PIDController(1e-6, 1e-8), jump_ts=jump)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y),
            srx.RadauIIA5(),
            np.nextafter(1.0, 0.0),
            2.0,
            None,
            jnp.array(1.0),
            stepsize_controller=control,
            adjoint=kind(),
            max_steps=32,
        ).ys[-1]

    np.testing.assert_allclose(jax.jit(jax.grad(end))(1.0), -np.exp(-1), rtol=1e-5)


def test_the_jacobian_far_from_time_zero_is_that_of_the_recorded_solution():
    # Spacings of times are a thousandth of the step, but its fractions are known.
    t0, length = 2.0**33, 2.0**-10
    term = diffrax.ODETerm(lambda t, y, args: -(y**2))
    equations = StepEquations(srx.BackwardEuler(), (None, None), (term, None), jnp.ones(1))
    ends = jnp.asarray(t0), jnp.asarray(t0 + length)
    recorded = Step(*ends, jnp.ones(1), jnp.full(1, 0.5), jnp.full((1, 1), -0.5))
    fractions = jnp.array([0.0, 0.3, 1.0])
    found = AdjointEquation(equations, recorded).matrices(fractions)
    expected = -2 * (1 - 0.5 * fractions) * length
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_far_from_time_zero_has_the_digits_of_one_at_it(kind):
    length = 2.0**-7

    def end(rate, t0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y**2),
            srx.BackwardEuler(),
            t0,
            t0 + length,
            length / 4,
            jnp.ones(1),
            adjoint=kind(),
            max_steps=4,
        ).ys[-1, 0]

    at_zero, far = (jax.jit(jax.grad(end))(100.0, t0) for t0 in (0.0, 2.0**33))
    np.testing.assert_allclose(far, at_zero, rtol=1e-9)


def test_parameters_that_do_not_matter_loosen_no_tolerance():
    tolerances = AdjointTolerances(1e-6, 1e-9, LinearRadau())
    error, value = jnp.array([1e-7, 2e-7]), jnp.ones(2)

    def norm(*integral):
        return tolerances.norm([error, integral[0]], [value, integral[1]], [value, integral[1]])

    alone = norm(error[:1], value[:1])
    assert norm(*(jnp.append(x[:1], jnp.zeros(1000)) for x in (error, value))) == alone
    # Nor do many that do: the adjoint has a mean of its own.
    assert norm(jnp.full(1000, 1e-12), jnp.ones(1000)) == alone


def test_a_parameter_of_lower_precision_loosens_no_tolerance_but_its_own():
    tolerances = AdjointTolerances(1e-10, 0.0, LinearRadau())
    error, one = jnp.array([1e-8]), jnp.ones(1)
    narrow = one.astype(jnp.float32)

    def norm(error, narrow_error):
        integral = {"wide": one, "narrow": narrow}
        errors = {"wide": 0 * one, "narrow": narrow_error * narrow}
        return tolerances.norm([error, errors], [one, integral], [one, integral])

    assert norm(error, 0.0) == tolerances.norm([error], [one], [one])
    assert norm(0 * error, 1e-7) < 1
    assert norm(0 * error, 1e-3) > 1


def test_quadrature_does_not_halve_for_the_rounding_of_a_parameter_of_lower_precision():
    calls = []

    class Rounded(Constant):
        def pull(self, ts, weighted):
            jax.debug.callback(lambda: calls.append(0))
            return jnp.sum((jnp.exp(ts)[:, None] * weighted).astype(jnp.float32))

    t, one = jnp.ones(()), jnp.ones(1)
    step, zero = AdjointStep(t, t, one, 0 * one[None]), jnp.zeros((), jnp.float32)
    total = add_integral(Rounded(jnp.zeros((1, 1))), step, zero, jnp.array(True), 1e-10, 1e-13)
    jax.effects_barrier()
    assert total == pytest.approx(np.e - 1, rel=1e-6)
    assert 0 < len(calls) < 5


@pytest.mark.slow
def test_samples_within_a_step_do_not_count_against_the_bound_on_its_steps():
    ts = jnp.linspace(0.0, 1.0, 17)

    def total(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: 0 * y),
            srx.BackwardEuler(),
            0.0,
            1.0,
            1.0,
            y0,
            saveat=diffrax.SaveAt(ts=ts),
            adjoint=srx.GaussAdjoint(max_steps=4),
            max_steps=1,
        ).ys.sum()

    assert jax.jit(jax.grad(total))(1.0) == pytest.approx(17.0, rel=1e-12)


@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("tolerance", [{"rtol": jnp.array(1e-6)}, {"atol": np.full(2, 1e-9)}])
def test_a_tolerance_is_one_number(tolerance):
    with pytest.raises(ValueError, match=r"needs one number of Python\. Write `[ra]tol=1e-6`"):
        srx.GaussAdjoint(**tolerance)
    assert srx.GaussAdjoint(rtol=np.float32(1e-6)).rtol == np.float32(1e-6)
