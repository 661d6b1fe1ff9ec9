"""The differential-algebraic problems, solved by a three-stage Radau IIA method written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def integrate(problem, ts):
    """The end state of `M y' = f` after one step of order 5 from each of `ts` to the next."""
    c = np.array([(4 - 6**0.5) / 10, (4 + 6**0.5) / 10, 1.0])
    power = np.arange(3)
    A = (c[:, None] ** (power + 1) / (power + 1)) @ np.linalg.inv(c[:, None] ** power)
    n = len(problem.y0)

    def step(y, span):
        t, h = span

        def residual(z):
            z = z.reshape(3, n)
            slopes = jax.vmap(problem.vector_field)(t + h * c, y[None] + z)
            return (z @ problem.mass.T - h * A @ slopes).ravel()

        def newton(z, _):
            return z - jnp.linalg.solve(jax.jacfwd(residual)(z), residual(z)), None

        z, _ = jax.lax.scan(newton, jnp.zeros(3 * n), length=6)
        return y + z[-n:], None

    spans = jnp.asarray(ts[:-1]), jnp.diff(ts)
    return jax.jit(lambda y: jax.lax.scan(step, y, spans)[0])(jnp.asarray(problem.y0))


def test_transistor_amplifier_ends_at_the_reference():
    problem = srx.problems.transistor_amplifier()
    end = integrate(problem, np.linspace(problem.t0, problem.t1, 2001))
    np.testing.assert_allclose(end, problem.reference_values[-1], rtol=1e-6)


def test_robertson_dae_ends_at_the_reference_of_the_ode():
    problem = srx.problems.robertson_dae()
    end = integrate(problem, np.concatenate([[0.0], np.geomspace(1e-5, 40.0, 400)]))
    np.testing.assert_allclose(end, problem.reference_values[2], rtol=1e-8)


@pytest.mark.parametrize("make", [srx.problems.transistor_amplifier, srx.problems.robertson_dae])
def test_start_is_consistent(make):
    # M y' = f has a solution y' only if f lies in the range of M.
    problem = make()
    slope = np.asarray(problem.vector_field(problem.t0, problem.y0))
    solved = np.linalg.lstsq(problem.mass, slope, rcond=None)[0]
    np.testing.assert_allclose(problem.mass @ solved, slope, atol=1e-16)


def test_mass_matrix_of_the_amplifier_is_singular_and_not_diagonal():
    mass = np.asarray(srx.problems.transistor_amplifier().mass)
    assert np.linalg.matrix_rank(mass) == 5
    assert np.count_nonzero(mass - np.diag(np.diag(mass))) == 6


def test_robertson_as_dae_keeps_the_first_two_equations():
    y = jnp.array([0.3, 1e-4, 0.6])
    ode = srx.problems.robertson().vector_field(0.0, y)
    dae = srx.problems.robertson_dae().vector_field(0.0, y)
    np.testing.assert_array_equal(ode[:2], dae[:2])
    np.testing.assert_allclose(dae[2], 0.3 + 1e-4 + 0.6 - 1)
