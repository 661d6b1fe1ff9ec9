"""Starts at which the constraints hold."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.solvers._consistent_start import on_constraints

ROBERTSON = srx.problems.robertson_dae()
TERM = srx.MassMatrixTerm(ROBERTSON.vector_field, ROBERTSON.mass)
GUESS = jnp.array([0.7, 0.1, 0.0])


@pytest.mark.slow
def test_the_algebraic_component_moves_and_the_others_stay():
    found = srx.consistent_initial_values(TERM, 0.0, GUESS)
    np.testing.assert_allclose(found, [0.7, 0.1, 0.2], rtol=1e-15)


@pytest.mark.slow
def test_another_component_moves_where_the_algebraic_one_is_held():
    fixed = np.array([False, True, True])
    found = srx.consistent_initial_values(TERM, 0.0, GUESS, fixed=fixed)
    np.testing.assert_allclose(found, [0.9, 0.1, 0.0], rtol=1e-15, atol=1e-16)


@pytest.mark.slow
def test_a_general_singular_mass_keeps_its_differential_combinations():
    problem = srx.problems.transistor_amplifier()
    term = srx.MassMatrixTerm(problem.vector_field, problem.mass)
    guess = jnp.array(problem.y0) + 0.1 * jnp.sin(jnp.arange(8.0))
    found = srx.consistent_initial_values(term, 0.0, guess)
    np.testing.assert_allclose(problem.mass @ found, problem.mass @ guess, rtol=1e-9, atol=1e-18)
    slope = np.asarray(problem.vector_field(0.0, found))
    solved = np.linalg.lstsq(problem.mass, slope, rcond=None)[0]
    np.testing.assert_allclose(problem.mass @ solved, slope, atol=1e-15)


def implicit(t, y, args):
    """0 = z^3 + args z - x, in a nested state."""
    x, z = y["x"], y["z"]
    return {"x": -x, "z": z**3 + args * z - x}


def solved(x, args):
    term = srx.MassMatrixTerm(implicit, {"x": 1.0, "z": 0.0})
    return srx.consistent_initial_values(term, 0.0, {"x": x, "z": jnp.full_like(x, 5.0)}, args)["z"]


def test_derivatives_are_those_of_the_implicit_function():
    z = 1.3
    x = jnp.array(z**3 + 2 * z)

    @jax.jit
    def derivatives(x, args):
        reverse = jax.value_and_grad(solved, argnums=(0, 1))(x, args)
        return *reverse, jax.jacfwd(solved)(x, args)

    value, slopes, forward = derivatives(x, jnp.array(2.0))
    np.testing.assert_allclose(value, z, rtol=1e-14)
    np.testing.assert_allclose(slopes, np.array([1, -z]) / (3 * z**2 + 2), rtol=1e-13)
    np.testing.assert_allclose(forward, slopes[0], rtol=1e-13)


@pytest.mark.slow
def test_the_start_moves_with_its_time():
    def algebraic(t0):
        term = srx.MassMatrixTerm(lambda t, y, args: y - jnp.sin(t), 0.0)
        return srx.consistent_initial_values(term, t0, jnp.ones(1))[0]

    for take in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(take(algebraic)(0.5), np.cos(0.5), rtol=1e-12)


def test_a_batch_in_float32_is_solved_lane_by_lane():
    z = jnp.array([0.1, 1.0, 3.0], jnp.float32)
    found = jax.jit(jax.vmap(lambda x: solved(x, jnp.float32(2))))(z**3 + 2 * z)
    np.testing.assert_allclose(found, z, rtol=1e-5)


# The slope of the first component and the constraint on the second.
PAIRS = {
    "index above 1": lambda y, z: (z, y - 1),
    "singular": lambda y, z: (-y, z**2),
    "no root": lambda y, z: (-y, z**2 + 1),
    "no value": lambda y, z: (-y, jnp.log(z) - y),
    "infinite slope": lambda y, z: (1 / y, z - 2),
    "diode": lambda y, z: (-y, 1e-9 * jnp.expm1(z / 0.026) - (y - z) / 1000),
    "cubic": lambda y, z: (-y, y - z**3),
    "root": lambda y, z: (-y, y - jnp.sqrt(z)),
    # Known to the root of a unit of rounding.
    "difference": lambda y, z: (-y, z**3 + z - (y - 1) * jnp.finfo(y.dtype).eps ** -0.5),
}


def pair(t, x, kind):
    return jax.lax.switch(kind, [lambda x, f=f: jnp.stack(f(*x)) for f in PAIRS.values()], x)


@eqx.filter_jit
def start_of(guess, kind):
    """One program for all of them."""
    term = srx.MassMatrixTerm(pair, np.array([1.0, 0.0]))
    return srx.consistent_initial_values(term, 0.0, guess, kind)


def start(name, *guess, dtype=float):
    return start_of(jnp.array(guess, dtype), jnp.array(list(PAIRS).index(name)))


@pytest.mark.parametrize(
    ("name", "guess", "said"),
    [
        ("index above 1", (1.0, 1.0), "index is above 1"),
        ("singular", (1.0, 0.0), "singular at the start"),
        ("no root", (1.0, 0.7), "No values"),
        ("no value", (1.0, -1.0), "No values of the free components were found"),
        # There the Jacobian is infinite, and its inverse zero.
        ("root", (1.0, 0.0), "No values of the free components were found"),
        # Farther than the iteration goes: the residual is 1e68 at first, and much less at its end.
        ("diode", (5.0, 5.0), "No values of the free components were found"),
    ],
)
def test_what_is_no_start_is_said(name, guess, said):
    with pytest.raises(eqx.EquinoxRuntimeError, match=said):
        start(name, *guess)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "guess", "expected"),
    [
        # At these guesses the residual is 1e18 and more of what it may be at the root.
        ("diode", (5.0, 2.0), 0.39888703396544584),
        ("cubic", (8.0, 1e6), 2.0),
        ("cubic", (8.0, 1e12), 2.0),
        ("root", (0.0, 0.0), 0.0),
        ("difference", (1.0, 0.5), 0.0),
        ("difference", (1.0, 2.0), 0.0),
    ],
)
def test_roots_are_found_to_rounding_from_afar(name, guess, expected, dtype):
    eps, found = np.finfo(dtype).eps, start(name, *guess, dtype=dtype)
    assert found.dtype == dtype
    rounding = eps**0.5 if name == "difference" else 4 * eps * expected
    np.testing.assert_allclose(found, [guess[0], expected], rtol=0, atol=rounding)


def test_second_derivatives_are_those_of_the_root():
    term = srx.MassMatrixTerm(lambda t, y, args: jnp.stack(PAIRS["cubic"](*y)), np.array([1.0, 0]))

    def root(y, moving):
        return srx.consistent_initial_values(term, 0.0, jnp.stack([y, 1.0 + moving * y]))[1]

    hessian = jax.jit(jax.hessian(root))
    # y = z^3, from guesses that move with y and that do not.
    for moving in (0.1, 0.0):
        np.testing.assert_allclose(hessian(8.0, moving), -1 / 144, rtol=1e-10)


def test_nearly_dependent_constraints_are_no_higher_index_in_single_precision():
    def field(t, y, args):
        return jnp.stack([-y[0], y[1] + y[2] - y[0], y[1] + 1.0001 * y[2] - 2 * y[0]])

    term = srx.MassMatrixTerm(field, np.array([1.0, 0.0, 0.0]))
    found = srx.consistent_initial_values(term, 0.0, jnp.array([1.0, 0.0, 0.0], jnp.float32))
    np.testing.assert_allclose(found, [1.0, -9999.0, 1e4], rtol=1e-3)


def test_as_many_components_must_be_free_as_there_are_constraints():
    with pytest.raises(ValueError, match="leaves 2 components free"):
        srx.consistent_initial_values(TERM, 0.0, GUESS, fixed=np.array([False, False, True]))


def test_a_mass_that_is_traced_is_refused():
    with pytest.raises(ValueError, match=r"The mass matrix is traced"):
        jax.jit(
            lambda m: srx.consistent_initial_values(
                srx.MassMatrixTerm(ROBERTSON.vector_field, m), 0.0, GUESS
            )
        )(jnp.array([1.0, 1.0, 0.0]))


def test_what_is_held_is_not_traced():
    held = jnp.array([True, True, False])
    with pytest.raises(ValueError, match=r"`fixed` is traced.*np\.array"):
        jax.jit(lambda x: srx.consistent_initial_values(TERM, 0.0, GUESS, fixed=x))(held)


def test_another_term_is_refused():
    with pytest.raises(ValueError, match="MassMatrixTerm"):
        srx.consistent_initial_values(ROBERTSON.vector_field, 0.0, GUESS)


def test_a_mass_without_constraints_leaves_the_state_as_it_is():
    term = srx.MassMatrixTerm(ROBERTSON.vector_field, 2.0)
    assert srx.consistent_initial_values(term, 0.0, GUESS) is GUESS


def test_an_infinite_slope_hides_no_constraint():
    np.testing.assert_allclose(start("infinite slope", 0.0, 1.0), [0.0, 2.0])


class TestTracedMasses:
    """`y_1 + y_2` has a derivative, and `y_2^2` is a constraint on the first state."""

    @staticmethod
    @jax.jit
    def moved(mass, y):
        def field(t, y, args):
            return jnp.stack([-y[0], -y[1], y[2] ** 2 - y[0]])

        return on_constraints(srx.MassMatrixTerm(field, mass), jnp.asarray(0.0), y, None)

    @pytest.mark.parametrize(
        ("mass", "start", "expected"),
        [
            ([1.0, 1.0, 0.0], [4.0, 1.0, 3.0], [4.0, 1.0, 2.0]),
            ([[1, 0, 0], [0, 1.0, 2.0], [0, 0, 0]], [4.0, 1.0, 3.0], [4.0, 3.0, 2.0]),
            ([1.0, 1.0, 3.0], [4.0, 1.0, 3.0], [4.0, 1.0, 3.0]),
            # Without a root, and where the Jacobian is singular, the start is as it was.
            ([1.0, 1.0, 0.0], [-1.0, 1.0, 3.0], [-1.0, 1.0, 3.0]),
            ([1.0, 1.0, 0.0], [4.0, 1.0, 0.0], [4.0, 1.0, 0.0]),
        ],
    )
    def test_components_without_a_derivative_move_where_they_can(self, mass, start, expected):
        found = self.moved(jnp.array(mass), jnp.array(start))
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_a_root_far_from_a_start_is_found(self):
        found = self.moved(jnp.array([1.0, 1.0, 0.0]), jnp.array([4.0, 1.0, 1e9]))
        np.testing.assert_allclose(found, [4.0, 1.0, 2.0], rtol=1e-14)

    def test_what_cannot_move_has_finite_derivatives(self):
        slope = jax.jacrev(self.moved, 1)(jnp.array([1.0, 1.0, 0.0]), jnp.array([4.0, 1.0, 0.0]))
        np.testing.assert_array_equal(slope, np.eye(3))
