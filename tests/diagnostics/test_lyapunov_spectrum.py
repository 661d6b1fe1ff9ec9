"""Lyapunov exponents of flows and maps."""

import functools
import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.diagnostics import kaplan_yorke_dimension, lyapunov_spectrum
from stiffrax.diagnostics._lyapunov_spectrum import _size_of
from stiffrax.solvers import MapFlow, stretching_rates

LORENZ = srx.problems.lorenz()
STARTS = jnp.asarray(LORENZ.y0)[None] + jnp.array([[0.0] * 3, [1.0, 2.0, 3.0]])
RATES = jnp.array([0.5, -3.0, -1.0])


def linear(t, y, args):
    return RATES.astype(y.dtype) * y


def henon(t, y, args):
    return jnp.stack([1 - 1.4 * y[0] ** 2 + y[1], 0.3 * y[0]])


@functools.cache
def of_lorenz(adaptive=False):
    options = {} if adaptive else {"step": 0.02}
    return lyapunov_spectrum(
        LORENZ.vector_field, STARTS, time=40.0, burn_in=5.0, interval=0.2, **options
    )


@pytest.mark.slow
def test_linear_field_has_its_eigenvalues_sorted():
    spectrum = lyapunov_spectrum(linear, jnp.ones(3), time=2.0, burn_in=12.0, step=0.1)
    np.testing.assert_allclose(spectrum.exponents, [0.5, -1.0, -3.0], rtol=1e-7)
    np.testing.assert_allclose(spectrum.standard_errors, 0, atol=1e-7)
    np.testing.assert_allclose(spectrum.kaplan_yorke_dimension, 1.5, rtol=1e-6)


@pytest.mark.slow
def test_stiff_field_is_solved_with_steps_far_longer_than_its_fastest_time():
    def stiff(t, y, args):
        return jnp.stack([-1e4 * (y[0] - y[1] ** 2), -y[1]])

    for options in ({"step": 0.1}, {}):
        spectrum = lyapunov_spectrum(
            stiff, jnp.ones(2), time=2.0, burn_in=12.0, solver=srx.RadauIIA5(), **options
        )
        # The other would be that of the method, or of rounding.
        np.testing.assert_allclose(spectrum.exponents, [-1.0, np.nan], rtol=1e-4)
        assert spectrum.num_failed == 0


def decays(t, y, args):
    return y * jnp.array([-1.0, -100.0])


@pytest.mark.parametrize(
    ("options", "fast"), [({}, -100.0), ({"interval": 0.5}, np.nan), ({"step": 0.058}, np.nan)]
)
def test_every_exponent_of_a_stiff_field_is_right_or_nan(options, fast):
    # The state is at rest, and would be so with any step.
    options = {"time": 5.0, "burn_in": 20.0} | options
    spectrum = lyapunov_spectrum(decays, jnp.ones(2), **options)
    np.testing.assert_allclose(spectrum.exponents, [-1.0, fast], rtol=1e-6)
    assert np.isnan(spectrum.standard_errors[1]) == np.isnan(fast)


def test_a_tolerance_of_each_state_is_that_of_its_tangents():
    controller = diffrax.PIDController(1e-7, jnp.array([1e-7, 1e-8, 1e-9]))
    options = {"time": 2.0, "burn_in": 12.0, "solver": diffrax.Tsit5(), "controller": controller}
    with jax.numpy_rank_promotion("allow"):
        spectrum = lyapunov_spectrum(linear, jnp.ones(3), num_exponents=2, **options)
    np.testing.assert_allclose(spectrum.exponents, [0.5, -1.0], rtol=1e-4)


def test_no_exponent_gets_lost_in_a_usual_tolerance_also_a_traced_one():
    @jax.jit
    def exponents(rtol):
        controller = diffrax.PIDController(rtol, 1e-6)
        options = {"time": 2.0, "burn_in": 12.0, "solver": diffrax.Tsit5()}
        spectrum = lyapunov_spectrum(linear, jnp.ones(3), controller=controller, **options)
        return spectrum.exponents

    np.testing.assert_allclose(exponents(1e-3), [0.5, -1.0, -3.0], rtol=1e-2)


def test_exponents_of_a_rotation_are_zero_whatever_half_the_step_makes_of_their_rounding():
    def turn(t, y, args):
        return jnp.stack([y[1], -y[0]])

    options = {"time": 5.0, "burn_in": 1.0, "step": 0.1, "solver": diffrax.Tsit5()}
    spectrum = lyapunov_spectrum(turn, jnp.ones(2), **options)
    np.testing.assert_allclose(spectrum.exponents, 0, atol=1e-8)


def test_half_the_step_starts_where_the_step_does_in_each_interval():
    # Orbits of the two part within five intervals.
    options = {"time": 50.0, "interval": 5.0, "step": 0.02, "solver": diffrax.Tsit5()}
    spectrum = lyapunov_spectrum(
        LORENZ.vector_field, STARTS[0], burn_in=5.0, num_exponents=1, **options
    )
    assert 0.4 < spectrum.exponents[0] < 1.4


def test_a_direction_that_a_map_makes_zero_has_no_exponent():
    def late(n, y, args):
        return y * jnp.where(n < 99, 0.5, jnp.array([0.9, 0.0]))

    options = {"time": 100, "burn_in": 0, "discrete": True}
    spectrum = lyapunov_spectrum(late, jnp.ones(2), **options)
    assert spectrum.num_failed == 0
    np.testing.assert_array_equal(jnp.isnan(spectrum.exponents), [False, True])


def test_exponents_do_not_depend_on_the_unit_of_the_states():
    def field(t, y, size):
        return jnp.stack([y[0] * (1 - y[1] / size), -100 * (y[1] - y[0])])

    start, options = 1e-12 * jnp.ones(2), {"time": 2.0, "burn_in": 20.0, "num_exponents": 1}
    spectrum = lyapunov_spectrum(field, start, args=jnp.array(1e-12), **options)
    np.testing.assert_allclose(spectrum.exponents, [-50 + np.sqrt(2400)], rtol=1e-6)
    np.testing.assert_allclose(spectrum.y1, [start], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True])
def test_sum_of_the_exponents_of_lorenz_is_its_divergence(adaptive):
    np.testing.assert_allclose(of_lorenz(adaptive).exponents.sum(), -41 / 3, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_lorenz_agrees_with_the_literature_within_four_standard_errors():
    spectrum = of_lorenz()
    deviation = spectrum.exponents - jnp.array([0.9056, 0.0, -14.5723])
    assert np.all(np.abs(deviation) < 4 * spectrum.standard_errors)
    assert np.all(spectrum.standard_errors < 0.1)


def test_henon_map_contracts_areas_by_its_determinant():
    spectrum = lyapunov_spectrum(henon, jnp.zeros(2), time=3000, burn_in=50, discrete=True)
    np.testing.assert_allclose(spectrum.exponents.sum(), np.log(0.3), rtol=1e-9)
    assert abs(spectrum.exponents[0] - 0.4192) < 4 * spectrum.standard_errors[0]
    assert spectrum.standard_errors[0] < 0.02


def test_a_map_may_return_a_list():
    def listed(n, y, args):
        return [0.5 * y[0], 0.25 * y[1]]

    spectrum = lyapunov_spectrum(listed, jnp.ones(2), time=40, burn_in=20, discrete=True, blocks=2)
    np.testing.assert_allclose(spectrum.exponents, np.log([0.5, 0.25]), rtol=1e-4)


@pytest.mark.slow
def test_a_start_that_escapes_is_counted_and_left_out():
    starts = jnp.array([[0.1, 0.1], [10.0, 0.0]])
    both = lyapunov_spectrum(henon, starts, time=300, burn_in=50, discrete=True)
    alone = lyapunov_spectrum(henon, starts[0], time=300, burn_in=50, discrete=True)
    assert both.num_failed == 1
    assert alone.num_failed == 0
    np.testing.assert_allclose(both.exponents, alone.exponents, rtol=1e-6)
    np.testing.assert_allclose(both.standard_errors, alone.standard_errors, rtol=1e-6)


@pytest.mark.parametrize("lost", [np.inf, np.nan])
def test_the_unit_of_the_states_is_that_of_the_starts_that_are_finite(lost):
    np.testing.assert_array_equal(_size_of(jnp.array([[1e-12, 2.0], [lost, 3.0]])), [1e-12, 3.0])


@pytest.mark.slow
def test_a_start_that_is_infinite_fails_alone():
    options = {"time": 0.2, "burn_in": 0.0, "blocks": 2, "solver": diffrax.Tsit5()}
    starts = jnp.array([[1e-12], [np.inf]])
    spectrum = lyapunov_spectrum(lambda t, y, args: -y, starts, **options)
    assert int(spectrum.num_failed) == 1
    np.testing.assert_allclose(spectrum.exponents, -1.0, rtol=1e-6)


@pytest.mark.slow
def test_a_start_whose_implicit_step_fails_is_left_out():
    # Beyond 5 the field has no value, and the tangents of a step that failed are zero.
    field = lambda t, y, args: -y * jnp.sqrt(5.0 - y)
    options = {"time": 1.0, "burn_in": 0.0, "step": 0.1, "blocks": 2, "solver": srx.BackwardEuler()}
    both = lyapunov_spectrum(field, jnp.array([[1.0], [6.0]]), **options)
    alone = lyapunov_spectrum(field, jnp.array([1.0]), **options)
    assert int(both.num_failed) == 1
    np.testing.assert_allclose(both.exponents, alone.exponents, rtol=1e-12)


def test_fewer_exponents_are_the_largest_ones():
    options = {"time": 2.0, "burn_in": 12.0, "step": 0.1, "solver": diffrax.Tsit5()}
    largest = lyapunov_spectrum(linear, jnp.ones(3), num_exponents=2, **options)
    np.testing.assert_allclose(largest.exponents, [0.5, -1.0], rtol=1e-6)


@pytest.mark.slow
def test_single_precision_is_enough_for_three_digits():
    spectrum = lyapunov_spectrum(linear, jnp.ones(3, jnp.float32), time=2.0, burn_in=12.0, step=0.1)
    assert spectrum.exponents.dtype == jnp.float32
    np.testing.assert_allclose(spectrum.exponents, [0.5, -1.0, -3.0], rtol=1e-3)


@pytest.mark.slow
def test_short_windows_are_differentiable_in_both_modes():
    def growth(rate):
        spectrum = lyapunov_spectrum(
            lambda t, y, args: args * y,
            jnp.ones(1),
            args=rate,
            time=1.0,
            burn_in=0.1,
            step=0.1,
            interval=0.1,
            solver=diffrax.Tsit5(),
        )
        return spectrum.exponents[0]

    rate = jnp.array(0.7)
    reverse, forward = jax.grad(growth)(rate), jax.jvp(growth, (rate,), (jnp.ones(()),))[1]
    np.testing.assert_allclose([reverse, forward], 1.0, rtol=1e-5)


@pytest.mark.slow
def test_windows_of_finite_time_average_to_the_exponents():
    spectrum = of_lorenz()
    windows = spectrum.finite_time(window=4.0)
    assert windows.shape == (2, 10, 3)
    np.testing.assert_allclose(windows.mean((0, 1)), spectrum.exponents)


@pytest.mark.slow_cases("11")
@pytest.mark.parametrize("time", [10, 11])
def test_rates_are_in_the_order_of_the_exponents_from_whole_numbers_too(time):
    # A rotation in other units: which direction has grown more depends on where it ends.
    def turn(t, y, args):
        return jnp.stack([0.54 * y[0] + 1.68 * y[1], -0.42 * y[0] + 0.54 * y[1]])

    spectrum = lyapunov_spectrum(turn, np.array([1, 1]), time=time, discrete=True, blocks=2)
    np.testing.assert_allclose(spectrum.local.mean((0, 1)), spectrum.exponents)
    assert spectrum.exponents[0] > spectrum.exponents[1]


def test_tangent_of_the_flow_is_that_of_central_differences():
    flow = srx.solvers.FixedStepFlow(LORENZ.vector_field, diffrax.Tsit5(), 0.2, 10)
    y, tangent, t = STARTS[1], jnp.array([[1.0], [2.0], [-1.0]]), jnp.zeros(())
    flow_at = eqx.filter_jit(flow)
    difference = (
        flow_at(t, y + 1e-5 * tangent[:, 0]) - flow_at(t, y - 1e-5 * tangent[:, 0])
    ) / 2e-5
    end, pushed = eqx.filter_jit(srx.solvers.push_forward)(flow, t, y, tangent)
    np.testing.assert_allclose(end, flow_at(t, y), rtol=1e-12)
    np.testing.assert_allclose(pushed[:, 0], difference, rtol=1e-6)


def test_frame_of_many_columns_is_orthonormal_and_its_lengths_are_those_of_qr(getkey):
    columns = jax.random.normal(getkey(), (2, 9, 6)) * 10.0 ** -jnp.arange(6.0)[None, None]
    basis, lengths = jax.vmap(srx.solvers.orthonormalize)(columns)
    for q, length, a in zip(basis, lengths, columns, strict=True):
        np.testing.assert_allclose(q.T @ q, np.eye(6), atol=1e-14)
        np.testing.assert_allclose(length, np.abs(np.diag(np.linalg.qr(a)[1])), rtol=1e-10)


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [([0.5, -1.0], 1.5), ([-1.0, -2.0], 0.0), ([0.0, -1.0], 1.0), ([0.1, 0.2], np.nan)],
)
def test_kaplan_yorke_dimension_of_known_spectra(exponents, dimension):
    np.testing.assert_allclose(kaplan_yorke_dimension(exponents), dimension)


def test_dimension_of_no_exponents_is_refused():
    with pytest.raises(ValueError, match="one or more numbers"):
        kaplan_yorke_dimension([])
    with pytest.raises(ValueError, match="`exponents` is a .* of dtype complex128"):
        kaplan_yorke_dimension(np.array([1.0 + 1.0j]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y0": jnp.ones((1, 1, 3))}, "3 dimensions"),
        ({"y0": jnp.ones(3, complex)}, "`y0` must be real, got complex"),
        ({"num_exponents": 4}, "`num_exponents=4`"),
        ({"interval": 0.0}, "`interval=0.0`"),
        ({"interval": 2.0, "discrete": True}, "for a map"),
        ({"step": -1.0}, "`step=-1.0`"),
        (
            {"step": 0.1, "controller": diffrax.PIDController(1e-6, 1e-6)},
            "`controller` was given with `step`, beside which nothing reads it",
        ),
        ({"discrete": True, "step": 1.0}, "`step` was given with `discrete`"),
        ({"discrete": True, "solver": diffrax.Euler()}, "`solver` was given with `discrete`"),
        ({"solver": diffrax.Tsit5}, "`solver` is .*Tsit5.*; it needs a solver"),
        ({"controller": "pid"}, "`controller` is `'pid'`"),
        ({"controller": diffrax.ConstantStepSize()}, "`step=0.1` of a Lyapunov spectrum"),
        ({"burn_in": -1.0}, "`burn_in=-1.0`"),
        ({"time": np.inf}, "`time=inf` was given; it needs a finite time"),
        ({"time": "5"}, "`time` is a str of dtype"),
        ({"num_exponents": 2.0}, "`num_exponents=2.0`"),
        ({"blocks": 1}, "`blocks=1`"),
        ({"time": 0.5}, "`time=0.5` holds 5 intervals"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_argument_is_named(options, message):
    options = {"y0": jnp.ones(3), "time": 10.0} | options
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(linear, options.pop("y0"), **options)


@pytest.mark.parametrize(
    "field",
    [
        srx.ConstrainedField(linear, linear, num_states=2),
        srx.System(linear, mass=2 * np.eye(2)),
    ],
    ids=["constraints", "mass"],
)
def test_a_field_with_a_mass_has_no_exponents(field):
    with pytest.raises(ValueError, match="f is no rate of change"):
        lyapunov_spectrum(field, jnp.ones(2))


def test_a_clock_of_single_precision_adds_no_error_of_its_own():
    # At t = 4000 its ticks are 2.4e-4 apart, so that intervals of 0.1 are 1e-3 longer.
    grow = lambda t, y, args: y / 2
    start = jnp.zeros(1, jnp.float32)
    options = {"time": 50.0, "burn_in": 4000.0, "step": 0.1, "solver": diffrax.Tsit5()}
    spectrum = lyapunov_spectrum(grow, start, **options)
    np.testing.assert_allclose(spectrum.exponents, [0.5], rtol=2e-6)


@pytest.mark.slow
def test_without_burn_in_nothing_is_solved_before():
    spectrum = lyapunov_spectrum(linear, jnp.ones(3), time=2.0, burn_in=0, step=0.1)
    np.testing.assert_allclose(spectrum.y1[0], np.exp(2.0 * RATES), rtol=1e-9)


def test_a_window_that_a_message_names_is_taken():
    spectrum = srx.diagnostics.LyapunovSpectrum(
        exponents=jnp.zeros(3),
        standard_errors=jnp.zeros(3),
        local=jnp.zeros((1, 31, 3)),
        interval=np.pi / 50,
        y1=jnp.zeros((1, 3)),
        num_failed=jnp.array(0),
    )
    with pytest.raises(ValueError, match="Write `window=") as refusal:
        spectrum.finite_time(0.63)
    named = re.search(r"Write `window=([^`]*)`", str(refusal.value))
    assert named is not None
    assert spectrum.finite_time(float(named[1])).shape == (1, 3, 3)


def test_a_map_of_single_precision_has_rates_after_as_many_iterations_as_its_clock_counts():
    flow = MapFlow(lambda t, y, args: 2 * y)
    late = jnp.asarray(2.0**25, jnp.float32)
    one = jnp.ones(1, jnp.float32)
    *_, rates = stretching_rates(flow, late, one, one[:, None], 1.0, 3)
    np.testing.assert_allclose(rates, np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("window", [0.01, 0.25, 1000.0])
def test_window_that_is_no_number_of_intervals_or_too_long_is_refused(window):
    # A map, quick to compile, whose interval is one.
    spectrum = lyapunov_spectrum(henon, jnp.zeros(2), time=40, burn_in=5, discrete=True)
    with pytest.raises(ValueError, match="the time measured"):
        spectrum.finite_time(window)


def test_a_derivative_that_would_be_that_of_all_states_is_refused():
    with pytest.raises(ValueError, match=r"`field` returns an array of shape \(1,\)"):
        srx.diagnostics.lyapunov_spectrum(lambda t, y, args: -y[:1], jnp.ones(2), time=1.0)
