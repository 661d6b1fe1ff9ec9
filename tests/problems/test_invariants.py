"""Conserved quantities of the problems whose end point is known less well, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx


def slope_of(quantity, problem, y):
    """The rate of change of `quantity` along the vector field."""
    y = jnp.asarray(y)
    return jax.jvp(quantity, (y,), (problem.vector_field(0.0, y, problem.args),))[1]


def test_double_pendulum_conserves_energy_for_any_masses_and_lengths():
    m1, m2, l1, l2, g = args = (1.5, 0.7, 0.4, 1.1, 9.0)

    def energy(y):
        th1, th2, w1, w2 = y
        kinetic = (m1 + m2) * (l1 * w1) ** 2 / 2 + m2 * (l2 * w2) ** 2 / 2
        coupling = m2 * l1 * l2 * w1 * w2 * jnp.cos(th2 - th1)
        potential = -(m1 + m2) * g * l1 * jnp.cos(th1) - m2 * g * l2 * jnp.cos(th2)
        return kinetic + coupling + potential

    field = srx.problems.double_pendulum().vector_field

    @jax.jit
    def slopes(y):
        # One term for each state: they cancel, each being of order 10 to 1000.
        return jax.grad(energy)(y) * field(0.0, y, args)

    for y in np.random.default_rng(0).uniform(-3, 3, (20, 4)):
        terms = slopes(y)
        assert abs(terms.sum()) < 1e-13 * np.abs(terms).max()


def test_resting_pendulum_that_hangs_does_not_move():
    field = srx.problems.double_pendulum().vector_field
    np.testing.assert_array_equal(field(0.0, jnp.zeros(4)), np.zeros(4))


def test_small_swings_of_the_double_pendulum_have_their_two_frequencies():
    problem = srx.problems.double_pendulum()
    jacobian = jax.jit(jax.jacfwd(problem.vector_field, argnums=1))(0.0, jnp.zeros(4))
    frequencies = np.sort(np.abs(np.linalg.eigvals(jacobian).imag))[1::2]
    np.testing.assert_allclose(frequencies, np.sqrt(9.81 * (2 + np.sqrt(2) * np.array([-1, 1]))))


def test_lotka_volterra_conserves_its_invariant():
    def invariant(y):
        return 0.8 * y[0] - 1.8 * jnp.log(y[0]) + 0.9 * y[1] - 1.3 * jnp.log(y[1])

    problem = srx.problems.lotka_volterra()
    for y in np.random.default_rng(0).uniform(0.1, 5, (20, 2)):
        assert abs(slope_of(invariant, problem, y)) < 1e-13
    values = [invariant(y) for y in (problem.y0, *problem.reference_values)]
    np.testing.assert_allclose(values, values[0], rtol=1e-14)


def test_divergence_of_the_lorenz_field_is_constant():
    jacobian = jax.jit(jax.jacfwd(srx.problems.lorenz().vector_field, argnums=1))
    for y in np.random.default_rng(0).uniform(-20, 20, (5, 3)):
        np.testing.assert_allclose(np.trace(jacobian(0.0, y)), -41 / 3)
