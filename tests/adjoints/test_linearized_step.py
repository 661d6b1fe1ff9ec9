"""The transposed equations of steps against JAX's own derivative, also with a mass matrix."""

import functools

import diffrax
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints._linearized_step import linearize, stacked_matrix
from stiffrax.solvers import system_of_terms

# One stage and three, not stiffly accurate, and with an explicit first stage.
SOLVERS = [srx.BackwardEuler(), srx.RadauIIA5(), srx.GaussLegendre4(), srx.Trapezoid()]
FIELD = diffrax.ODETerm(
    lambda t, y, args: jnp.array([-300 * y[0] * y[1], jnp.sin(t * y[0]) - y[1]])
)
Y0 = jnp.array([1.0, 0.5])


def step(solver, y0):
    """End, polynomial and increments of a step from 0.1 to 0.3."""
    state = solver.init(FIELD, 0.1, 0.3, y0, None)
    y1, _, info, _, result = solver.step(FIELD, 0.1, 0.3, y0, None, state, made_jump=False)
    assert result == diffrax.RESULTS.successful
    return y1, info["coefficients"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_cotangents_of_end_and_polynomial_are_pulled_to_the_start(solver, getkey):
    (_, coefficients), pull = jax.vjp(lambda y0: step(solver, y0), Y0)
    y1_bar = jax.random.normal(getkey(), (2,))
    p_bar = jax.random.normal(getkey(), coefficients.shape)
    system, _ = system_of_terms(solver.tableau, FIELD, 0.1, 0.3, Y0, None)
    powers = solver.tableau.nodes[:, None] ** np.arange(1, len(coefficients) + 1)
    linearized = linearize(system, powers @ coefficients)
    G = linearized.from_polynomial(p_bar)
    matrix = stacked_matrix(solver.tableau.A_inverse.T, linearized.hJ_T)
    V = jnp.linalg.solve(matrix, linearized.right_sides(y1_bar) + G)
    start = linearized.across(y1_bar, V) + linearized.start_from_polynomial(p_bar, G)
    np.testing.assert_allclose(start, pull((y1_bar, p_bar))[0], rtol=1e-10)


REVERSE = {
    "discrete": srx.DiscreteAdjoint(),
    "discrete, solving": srx.DiscreteAdjoint(recurrence="solve", memory="steps"),
    "checkpointed": diffrax.RecursiveCheckpointAdjoint(),
    "forward": srx.ForwardSensitivity(),
}

# Index 1, with a mass of rank 2 that is not diagonal.
MASS = jnp.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
WHERE = MASS != 0


def field(t, x, rate):
    a, b, z = x
    return jnp.stack([-a * z + jnp.sin(t), rate * (a - b), z**3 + z - a * b - rate])


def loss(inputs, adjoint):
    """Of a consistent start, a parameter and the entries of the mass."""
    y0, rate, mass = inputs
    consistent = srx.MassMatrixTerm(field, MASS)
    y0 = srx.consistent_initial_values(consistent, 0.0, y0, rate)
    # That the last equation has no derivative is known; the other entries may vary.
    sol = diffrax.diffeqsolve(
        srx.MassMatrixTerm(field, jnp.where(WHERE, mass, 0)),
        srx.RadauIIA5(),
        0.0,
        1.0,
        0.25,
        y0,
        rate,
        saveat=diffrax.SaveAt(ts=jnp.array([0.35, 1.0])),
        adjoint=adjoint,
        max_steps=8,
    )
    return jnp.sum(jnp.sin(sol.ys) * jnp.arange(1.0, 7.0).reshape(2, 3))


INPUTS = (jnp.array([1.0, 0.4, 0.9]), jnp.array(1.5), MASS)


@functools.cache
def differences():
    value = jax.jit(functools.partial(loss, adjoint=srx.DiscreteAdjoint()))
    flat, restore = jax.flatten_util.ravel_pytree(INPUTS)
    h = 1e-5
    slopes = [(value(restore(flat + h * e)) - value(restore(flat - h * e))) / (2 * h) for e in
              jnp.eye(flat.size)]  # fmt: skip
    return restore(jnp.stack(slopes))


@pytest.mark.slow
@pytest.mark.parametrize("name", REVERSE)
def test_gradients_of_a_dae_are_central_differences(name):
    gradient = jax.jit(jax.grad(functools.partial(loss, adjoint=REVERSE[name])))(INPUTS)
    for found, expected in zip(gradient, differences(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    # What is algebraic is no degree of freedom of the start.
    assert abs(gradient[0][2]) < 1e-12
    assert np.all(np.abs(gradient[2])[np.asarray(WHERE)] > 1e-3)


@pytest.mark.slow
def test_forward_over_reverse_gives_second_derivatives():
    def slope(rate):
        grad = jax.grad(functools.partial(loss, adjoint=srx.DiscreteAdjoint()))
        return grad((INPUTS[0], rate, MASS))[1]

    slope = jax.jit(slope)
    curvature = jax.jit(jax.jacfwd(slope))(INPUTS[1])
    h = 1e-5
    difference = (slope(INPUTS[1] + h) - slope(INPUTS[1] - h)) / (2 * h)
    # The start moves with the rate as well, and has no second derivative.
    np.testing.assert_allclose(curvature, difference, rtol=1e-6)


EVERY_ADJOINT = {
    "discrete": srx.DiscreteAdjoint(),
    "forward sensitivity": srx.ForwardSensitivity(),
    "interpolating": srx.InterpolatingAdjoint(),
    "quadrature": srx.QuadratureAdjoint(),
    "gauss": srx.GaussAdjoint(),
    "imex": srx.ImexAdjoint(),
}


def decay(t, y, args):
    return -args * jnp.stack([y[0] - y[1] ** 2, 2 * y[1]])


def end(term, rate, adjoint, y0=(1.0, 2.0)):
    return diffrax.diffeqsolve(
        term(rate),
        srx.RadauIIA5(),
        0.0,
        1.0,
        None,
        jnp.array(y0),
        rate,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
        adjoint=adjoint,
    ).ys[-1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_ADJOINT)
def test_every_adjoint_takes_twice_the_identity_as_half_the_field(name):
    def both(rate):
        terms = (
            lambda rate: srx.MassMatrixTerm(decay, 2 * jnp.eye(2)),
            lambda rate: diffrax.ODETerm(lambda t, y, args: decay(t, y, args) / 2),
        )
        return [end(term, rate, EVERY_ADJOINT[name]) for term in terms]

    np.testing.assert_allclose(*jax.jit(jax.jacrev(both))(jnp.array(1.5)), rtol=1e-12)


@pytest.mark.slow
def test_continuous_adjoints_have_the_gradient_of_an_invertible_mass():
    def value(mass):
        return end(lambda rate: srx.MassMatrixTerm(decay, mass), 1.5, srx.InterpolatingAdjoint())

    mass, h = jnp.array([[2.0, 0.5], [0.3, 1.0]]), 1e-4
    value, moved = jax.jit(value), h * jnp.array([[0.0, 1.0], [0.0, 0.0]])
    difference = (value(mass + moved) - value(mass - moved)) / (2 * h)
    np.testing.assert_allclose(jax.grad(value)(mass)[0, 1], difference, rtol=1e-4)


@pytest.mark.slow
def test_continuous_adjoints_refuse_a_singular_mass_and_name_one_that_can():
    with pytest.raises(ValueError, match="stiffrax.DiscreteAdjoint"):
        jax.grad(
            lambda rate: end(
                lambda rate: srx.MassMatrixTerm(decay, jnp.array([1.0, 0.0])),
                rate,
                srx.InterpolatingAdjoint(),
                (1.0, 0.0),
            )
        )(jnp.array(1.5))
