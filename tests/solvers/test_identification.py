"""What each method makes of exact linear data: errors that no optimizer can remove.

Data of `y' = lambda y` sampled with step `h`: a one-coefficient model that reproduces them has
`R(z_hat) = exp(z)`, with the method's stability function `R` and `z = h lambda`. The fractional
errors `(z_hat - z) / z` follow from `R` alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import stiffrax as srx

Z = (-0.01, -0.03, -0.1, -0.3, -1.0, -2.0, -3.0)
ERRORS = {
    "BackwardEuler": (5.017e-3, 1.515e-2, 5.171e-2, 1.662e-1, 7.183e-1, 2.195, 5.362),
    "Trapezoid": (-8.333e-6, -7.499e-5, -8.325e-4, -7.433e-3, -7.577e-2, -2.384e-1, -3.966e-1),
    "RadauIIA3": (-1.385e-8, -3.720e-7, -1.353e-5, -3.482e-4, -1.110e-2, -7.117e-2, -1.814e-1),
    "RadauIIA5": (0.0, 3.4e-12, 1.366e-9, 3.219e-7, 1.226e-4, 3.874e-3, 3.618e-2),
}
H = 0.25


@functools.cache
def misfit(name):
    """How far one step from 1 with a given coefficient ends from `exp(z)`."""
    solver, ts = getattr(srx, name)(), jnp.array([[0.0, H]])

    @jax.jit
    def predicted(rate, z):
        ys = jnp.stack([jnp.ones(1), jnp.exp(z)[None]])[None]
        found = srx.segment_predictions(lambda t, y, args: rate * y, ts, ys, solver)
        return found[0, 0, 0] - jnp.exp(z)

    return predicted


def coefficient(name, z):
    """The coefficient, next to the true one, with which one step reproduces the data."""
    # Between half and the multiple of the true one the prediction is monotone.
    bracket = z / H * (10 if name == "BackwardEuler" else 1.1), z / H * 0.5
    f = misfit(name)
    return scipy.optimize.brentq(lambda rate: float(f(rate, z)), *bracket, xtol=1e-15, rtol=1e-15)


@pytest.mark.slow_cases("0-BackwardEuler", "[0-2]-RadauIIA3")
@pytest.mark.parametrize(
    "name",
    [
        "BackwardEuler",
        pytest.param("Trapezoid", marks=pytest.mark.slow),
        "RadauIIA3",
        pytest.param("RadauIIA5", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("k", range(len(Z)))
def test_identified_coefficients_have_the_error_of_the_stability_function(name, k):
    error = coefficient(name, Z[k]) * H / Z[k] - 1  # pyright: ignore[reportOperatorIssue]
    if abs(ERRORS[name][k]) < 1e-11:
        assert abs(error - ERRORS[name][k]) < 1e-12  # rounding
    else:
        np.testing.assert_allclose(error, ERRORS[name][k], rtol=6e-4)
