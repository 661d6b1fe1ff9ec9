from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import stiffrax as srx
from stiffrax.tableaus import (
    gauss,
    is_a_stable,
    lobatto_iiia,
    radau_iia,
    stability_angle,
    stability_at_infinity,
    stability_function,
    stability_penalty,
)

METHODS = [
    *((radau_iia, s) for s in (1, 2, 3, 5, 7)),
    *((gauss, s) for s in (1, 2, 3)),
    (lobatto_iiia, 2),
]
every_method = pytest.mark.parametrize(("family", "stages"), METHODS)

CLOSED_FORMS = [
    (radau_iia, 1, lambda z: 1 / (1 - z)),
    (lobatto_iiia, 2, lambda z: (1 + z / 2) / (1 - z / 2)),
    (radau_iia, 2, lambda z: (1 + z / 3) / (1 - 2 * z / 3 + z**2 / 6)),
    (
        radau_iia,
        3,
        lambda z: (1 + 2 * z / 5 + z**2 / 20) / (1 - 3 * z / 5 + 3 * z**2 / 20 - z**3 / 60),
    ),
    (gauss, 1, lambda z: (1 + z / 2) / (1 - z / 2)),
    (gauss, 2, lambda z: (1 + z / 2 + z**2 / 12) / (1 - z / 2 + z**2 / 12)),
]

EXPLICIT_EULER = (np.zeros((1, 1)), np.ones(1), np.zeros(1))


def pade(z, k, j):
    """The rational approximation of exp with numerator degree `k` and denominator degree `j`."""

    def polynomial(degree, other, x):
        return sum(
            factorial(k + j - i)
            * factorial(degree)
            * x**i
            / (factorial(k + j) * factorial(i) * factorial(degree - i))
            for i in range(degree + 1)
        )

    return polynomial(k, j, z) / polynomial(j, k, -z)


def pade_method():
    """A method with stability function `1 / (1 - z + z^2 / 2 - z^3 / 6)`, not quite A-stable."""
    b = np.array([3 / 2, -2 / 3, 1 / 6])
    A = np.tril(np.ones((3, 3)), -1) * np.eye(3, k=-1) + b
    return A, b, A.sum(axis=1)


def random_points(count, seed=0):
    rng = np.random.default_rng(seed)
    return 3 * (rng.normal(size=count) + 1j * rng.normal(size=count))


@pytest.mark.parametrize(("family", "stages", "closed_form"), CLOSED_FORMS)
def test_stability_function_is_the_closed_form(family, stages, closed_form):
    z = random_points(50)
    np.testing.assert_allclose(stability_function(family(stages), z), closed_form(z), rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "stages", "above", "below"),
    [
        (family, stages, above, below)
        for family, above, below in [(radau_iia, 1, 0), (gauss, 0, 0), (lobatto_iiia, 1, 1)]
        for stages in [1, 2, 3, 5, 7]
        if stages > above + below - 1
    ],
)
def test_stability_function_is_a_pade_approximation(family, stages, above, below):
    z = random_points(50)
    expected = pade(z, stages - above, stages - below)
    np.testing.assert_allclose(stability_function(family(stages), z), expected, rtol=1e-11)


@every_method
def test_stability_function_is_the_resolvent_form(family, stages):
    """`1 + z b^T (I - z A)^-1 1`, by a linear solve."""
    method = family(stages)
    for z in random_points(5, seed=1):
        slopes = np.linalg.solve(np.eye(stages) - z * method.A, np.ones(stages))
        np.testing.assert_allclose(
            stability_function(method, z), 1 + z * method.b @ slopes, rtol=1e-10
        )


@every_method
def test_taylor_coefficients_are_those_of_exp_up_to_the_order_and_no_further(family, stages):
    """By Cauchy's integral on a circle halfway to the nearest pole."""
    method = family(stages)
    radius = 0.5 / np.max(np.abs(np.linalg.eigvals(method.A)))
    z = radius * np.exp(2j * np.pi * np.arange(256) / 256)
    n = np.arange(method.order + 2)
    coefficients = np.fft.fft(stability_function(method, z))[n].real / 256 / radius**n
    ratios = coefficients * [factorial(k) for k in n]
    np.testing.assert_allclose(ratios[:-1], 1, rtol=1e-10)
    assert abs(ratios[-1] - 1) > 1e-4


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 7])
def test_radau_damps_infinitely_stiff_components(stages):
    assert stability_at_infinity(radau_iia(stages)) == 0


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_gauss_keeps_infinitely_stiff_components(stages):
    assert stability_at_infinity(gauss(stages)) == pytest.approx((-1) ** stages, abs=1e-14)


def test_trapezoid_alternates_infinitely_stiff_components():
    assert stability_at_infinity(lobatto_iiia(2)) == -1


@every_method
@pytest.mark.parametrize("direction", [-1, 1j, -1 + 1j])
def test_value_at_infinity_is_the_limit(family, stages, direction):
    method = family(stages)
    far = stability_function(method, 1e9 * direction)
    assert far == pytest.approx(stability_at_infinity(method), abs=1e-6)


@pytest.mark.parametrize(("family", "stages"), METHODS[:8])
def test_bare_arrays_have_the_same_value_at_infinity(family, stages):
    method = family(stages)
    bare = stability_at_infinity((method.A, method.b, method.c))
    assert bare == pytest.approx(stability_at_infinity(method), abs=1e-13)


def test_explicit_method_is_unbounded_at_infinity():
    assert not np.isfinite(stability_at_infinity(EXPLICIT_EULER))


@every_method
def test_methods_are_a_stable(family, stages):
    method = family(stages)
    z = 1j * np.geomspace(1e-3, 1e6, 2000)
    assert np.max(np.abs(stability_function(method, z))) <= 1 + 1e-12
    assert is_a_stable(method)
    assert stability_angle(method) == np.pi / 2


@every_method
def test_fast_growth_is_damped_only_outside_the_order_star(family, stages):
    """On the right of the imaginary axis the methods must follow growth, near 0 at least."""
    assert np.all(np.abs(stability_function(family(stages), np.array([1e-3, 0.1, 0.5]))) > 1)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_gauss_conserves_oscillations(stages):
    z = 1j * np.geomspace(1e-3, 1e6, 500)
    np.testing.assert_allclose(np.abs(stability_function(gauss(stages), z)), 1, rtol=1e-13)


def test_explicit_method_is_not_a_stable():
    assert not is_a_stable(EXPLICIT_EULER)
    assert stability_angle(EXPLICIT_EULER) == 0


def test_pole_in_the_left_half_plane_is_seen_although_the_axis_is_bounded():
    """Backward Euler with the sign of time reversed: `R = 1 / (1 + z)`, a pole at -1."""
    method = (-np.ones((1, 1)), -np.ones(1), -np.ones(1))
    assert np.all(np.abs(stability_function(method, 1j * np.geomspace(1e-3, 1e3, 100))) <= 1)
    assert not is_a_stable(method)
    assert stability_angle(method) == 0


def test_stability_angle_of_a_nearly_a_stable_method_is_where_the_denominator_touches_one():
    """Oracle: `|1 - z + z^2 / 2 - z^3 / 6| = 1` on the ray, as a polynomial in its radius."""

    def least_excess(angle):
        z = np.polynomial.Polynomial([0, -np.exp(1j * angle)])
        denominator = 1 - z + z**2 / 2 - z**3 / 6
        conjugate = np.polynomial.Polynomial(np.conj(denominator.coef))
        # Divided by its trivial zero at radius 0.
        excess = np.polynomial.Polynomial((denominator * conjugate).coef.real[1:])
        turning = excess.deriv().roots()
        turning = turning[(np.abs(turning.imag) < 1e-9) & (turning.real > 0)].real
        return np.min(excess(np.append(turning, 0)))

    expected = scipy.optimize.brentq(least_excess, np.radians(80), np.radians(89.9))
    found = stability_angle(pade_method())
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.degrees(found) == pytest.approx(88.23, abs=0.005)
    assert not is_a_stable(pade_method())


def test_pole_is_infinite_and_not_an_error():
    assert np.isinf(stability_function(radau_iia(1), 1.0))


def test_values_keep_the_shape_of_their_arguments():
    z = random_points(6).reshape(2, 3)
    assert stability_function(radau_iia(3), z).shape == (2, 3)
    assert stability_function(radau_iia(3), z[:0]).shape == (0, 3)
    assert np.shape(stability_function(radau_iia(3), -1)) == ()


def test_jax_numbers_give_jax_numbers_and_derivatives():
    method = radau_iia(2)
    z = jnp.asarray(-0.7)
    value = jax.jit(lambda z: stability_function(method, z))(z)
    np.testing.assert_allclose(value, stability_function(method, -0.7), rtol=1e-14)
    slope = jax.grad(lambda z: stability_function(method, z))(z)
    closed = (1 / 3 * (1 - 2 * z / 3 + z**2 / 6) - (1 + z / 3) * (-2 / 3 + z / 3)) / (
        1 - 2 * z / 3 + z**2 / 6
    ) ** 2
    np.testing.assert_allclose(slope, closed, rtol=1e-12)


def test_derivative_in_the_coefficients_agrees_with_central_differences():
    method = radau_iia(3)
    z = jnp.asarray([-0.5 + 0.3j, 2.0j, -30.0])
    direction = np.random.default_rng(0).normal(size=(3, 3))

    def modulus(step):
        A = jnp.asarray(method.A) + step * direction
        return jnp.sum(jnp.abs(stability_function((A, method.b, method.c), z)) ** 2)

    difference = (modulus(1e-6) - modulus(-1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(modulus)(0.0), difference, rtol=1e-7)


def test_single_precision_is_accurate_to_its_rounding():
    z = jnp.asarray([-0.3, -3.0, -300.0], jnp.float32)
    values = stability_function(radau_iia(3), z)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(
        values, stability_function(radau_iia(3), np.asarray(z, float)), atol=1e-6
    )


def test_arrays_that_do_not_belong_together_raise():
    method = (np.zeros((2, 2)), np.zeros(3), np.zeros(3))
    for function in (lambda m: stability_function(m, 1.0), stability_at_infinity, is_a_stable):
        with pytest.raises(ValueError, match=r"was given as arrays of the shapes \[\(2, 2\)"):
            function(method)


EULER = (jnp.zeros((1, 1)), jnp.ones(1), jnp.zeros(1))
GRID = np.array([-2.5, -1.0, 0.3j, -0.2 + 2.0j, 1.0])


@pytest.mark.parametrize("family", [srx.tableaus.radau_iia, srx.tableaus.gauss])
def test_it_is_the_mean_square_of_what_exceeds_one(family):
    method = family(4)
    expected = np.mean(np.maximum(np.abs(stability_function(method, GRID)) - 1, 0) ** 2)
    np.testing.assert_allclose(stability_penalty(method, GRID), expected, rtol=1e-10)


def test_of_explicit_methods_too():
    np.testing.assert_allclose(stability_penalty(EULER, [-3.0, -2.0, -0.5]), 1 / 3, rtol=1e-14)


@pytest.mark.parametrize("z", [-np.inf, complex(0, np.inf), complex(-np.inf, np.inf), -1e308])
def test_far_out_is_as_at_infinity(z):
    assert stability_penalty(EULER, [z]) == np.inf
    # R at infinity is -1.5.
    theta = jnp.array([[0.4]]), jnp.ones(1), jnp.array([0.4])
    np.testing.assert_allclose(stability_penalty(theta, [z]), 0.25, rtol=1e-12)
    assert stability_penalty(srx.tableaus.radau_iia(3), [z]) == 0


def test_what_is_no_number_is_not_stable():
    assert jnp.isnan(stability_penalty(EULER, [jnp.nan, -1.0]))
    assert jnp.isnan(stability_penalty((EULER[0], jnp.full(1, jnp.nan), EULER[2]), [-1.0]))


def test_its_gradient_is_finite_where_the_method_is_stable_or_R_vanishes():
    gradient = jax.grad(lambda b: stability_penalty((EULER[0], b, EULER[2]), [-1.0, -0.5]))
    np.testing.assert_array_equal(gradient(jnp.ones(1)), [0.0])


def test_its_gradient_is_that_of_differences():
    solver = srx.LearnableRungeKutta.from_tableau(srx.tableaus.gauss(3))
    b = solver.tableau.b

    def value(b):
        return stability_penalty((solver.tableau.A, b, solver.tableau.c), GRID)

    h = 1e-6
    differences = [(value(b + h * e) - value(b - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(value)(b), differences, rtol=1e-6, atol=1e-9)


def test_the_limit_of_a_method_with_an_explicit_stage_is_known():
    trapezoid = (np.array([[0.0, 0.0], [0.5, 0.5]]), np.array([0.5, 0.5]), np.array([0.0, 1.0]))
    assert float(stability_at_infinity(trapezoid)) == pytest.approx(-1.0)
    lobatto = lobatto_iiia(4)
    arrays = tuple(map(jnp.asarray, (lobatto.A, lobatto.b, lobatto.c)))
    assert float(stability_at_infinity(arrays)) == pytest.approx(
        float(stability_at_infinity(lobatto))
    )
    assert stability_at_infinity(EXPLICIT_EULER) == np.inf


def test_methods_on_the_edge_of_stability_are_a_stable_in_single_precision():
    for method in (gauss(3), lobatto_iiia(3)):
        assert is_a_stable(tuple(x.astype(np.float32) for x in (method.A, method.b, method.c)))


TWO_STEPS = (np.eye(2), np.full(2, 2.0), np.ones(2))


def test_a_method_that_grows_far_out_is_not_stable_in_single_precision():
    # R at infinity is -3.
    single = tuple(jnp.asarray(x, jnp.float32) for x in TWO_STEPS)
    region = jnp.asarray([-1e10], jnp.float32)
    value, gradient = jax.value_and_grad(stability_penalty)(single, region)
    np.testing.assert_allclose(value, 4.0, rtol=1e-6)
    assert all(np.all(np.isfinite(x)) for x in gradient)


@pytest.mark.parametrize("z", [-1e20, 1e20j, 3e37 - 3e37j])
def test_the_stability_function_far_out_is_its_limit_in_single_precision(z):
    z = jnp.asarray(z, jnp.complex64)
    np.testing.assert_allclose(stability_function(TWO_STEPS, z), -3.0, rtol=1e-5)
    np.testing.assert_allclose(stability_function(radau_iia(3), z), 0.0, atol=1e-5)
