"""The Kuramoto-Sivashinsky equation in Fourier coefficients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

PROBLEM = srx.problems.kuramoto_sivashinsky()


def test_right_hand_side_is_that_of_the_equation_on_a_fine_grid():
    y = 0.3 * np.random.default_rng(0).normal(size=30)
    points, length = 128, 22.0
    wave_number = np.arange(1, 16) * 2 * np.pi / length
    x = np.arange(points) * length / points
    coefficients = y[:15] + 1j * y[15:]

    def on_grid(coefficients):
        return 2 * np.real(np.exp(1j * np.outer(x, wave_number)) @ coefficients)

    u, slope = on_grid(coefficients), on_grid(1j * wave_number * coefficients)
    linear = on_grid((wave_number**2 - wave_number**4) * coefficients)
    expected = np.fft.rfft(linear - u * slope)[1:16] / points
    rate = PROBLEM.vector_field(0.0, jnp.asarray(y))
    np.testing.assert_allclose(rate, np.concatenate([expected.real, expected.imag]), atol=1e-11)


def test_shifted_states_move_alike():
    def shift(y):
        turned = jax.lax.complex(y[:15], y[15:]) * np.exp(0.7j * np.arange(1, 16))
        return jnp.concatenate([turned.real, turned.imag])

    y = jnp.asarray(PROBLEM.y0)
    rate = PROBLEM.vector_field(0.0, y)
    np.testing.assert_allclose(PROBLEM.vector_field(0.0, shift(y)), shift(rate), atol=1e-12)


def test_energy_comes_from_the_linear_terms_alone():
    y = jnp.asarray(0.3 * np.random.default_rng(1).normal(size=30))
    wave_number = np.arange(1, 16) * 2 * np.pi / 22
    growth = np.tile(wave_number**2 - wave_number**4, 2)
    rate = jax.jit(PROBLEM.vector_field)(0.0, y)
    np.testing.assert_allclose(y @ rate, y @ (growth * y), rtol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
def test_whole_amplitudes_are_numbers_like_others():
    problem = srx.problems.kuramoto_sivashinsky()
    y = np.arange(30) % 3
    whole, real = (problem.vector_field(0.0, jnp.asarray(x), problem.args) for x in (y, y * 1.0))
    np.testing.assert_allclose(whole, real, rtol=1e-12)
