"""Noise models against the densities of SciPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import stiffrax as srx

NOISES = {
    "normal": (srx.NormalNoise(), lambda m, s: scipy.stats.norm(m, s)),
    "log-normal": (srx.LogNormalNoise(), lambda m, s: scipy.stats.lognorm(s, scale=m)),
    "laplace": (srx.LaplaceNoise(), lambda m, s: scipy.stats.laplace(m, s / math.sqrt(2))),
    "student": (srx.StudentNoise(3.0), lambda m, s: scipy.stats.t(3.0, m, s)),
}


@pytest.mark.parametrize("name", NOISES)
class TestEveryNoise:
    def test_the_cost_is_minus_the_logarithm_of_the_density(self, name):
        noise, density = NOISES[name]
        x = np.array([0.3, 1.0, 2.5])
        cost = noise.cost(jnp.asarray(x), jnp.asarray(1.4), jnp.asarray(0.6))
        np.testing.assert_allclose(cost, -density(1.4, 0.6).logpdf(x), rtol=1e-12)

    def test_the_derivatives_are_those_of_the_cost(self, name):
        noise, _ = NOISES[name]
        x, m, s = (jnp.asarray(a) for a in (0.7, 1.3, 0.4))
        terms = noise.terms(x, m, s)
        by_value = jax.grad(lambda m: noise.cost(x, m, s))(m)
        by_log_sd = jax.grad(lambda u: noise.cost(x, m, jnp.exp(u)))(jnp.log(s))
        np.testing.assert_allclose(terms.by_value * terms.value_rows, by_value, rtol=1e-12)
        np.testing.assert_allclose(terms.by_spread * terms.spread_rows, by_log_sd, rtol=1e-12)

    def test_the_informations_are_the_variances_of_the_scores(self, name):
        noise, _ = NOISES[name]
        z = np.concatenate(
            [-np.geomspace(1e-6, 1e4, 40_000)[::-1], np.geomspace(1e-6, 1e4, 40_000)]
        )
        weight = np.exp(-np.asarray(noise.rho(jnp.asarray(z))))
        slope = np.asarray(noise.slope(jnp.asarray(z)))
        scores = slope**2, (1 - slope * z) ** 2
        found = [scipy.integrate.trapezoid(weight * score, z) for score in scores]
        np.testing.assert_allclose(found, noise.information(), rtol=1e-3)


@pytest.mark.parametrize("name", ["normal", "log-normal", "laplace"])
def test_no_other_spread_makes_residuals_more_likely(name):
    noise, _ = NOISES[name]
    x, m = jnp.array([0.5, 1.0, 2.5, 9.0]), jnp.array([0.7, 1.5, 2.0, 7.0])
    mask = jnp.array([True, True, True, False])

    def cost(log_sd):
        return jnp.sum(jnp.where(mask, noise.cost(x, m, jnp.exp(log_sd)), 0))

    best = noise.best_spread(noise.residual(x, m), mask, 0)
    assert abs(jax.grad(cost)(jnp.log(best))) < 1e-12


def test_student_noise_says_how_its_spread_is_estimated():
    with pytest.raises(ValueError, match=r"Give it as `System\(..., sd=...\)`"):
        srx.StudentNoise().best_spread(jnp.ones(2), jnp.ones(2, bool), 0)


def test_degrees_of_freedom_are_positive():
    with pytest.raises(ValueError, match=r"`df=0.0` was given; .* `StudentNoise\(4.0\)`"):
        srx.StudentNoise(0.0)


@pytest.mark.parametrize("df", [1e5, 1e6, 1e8, 1e17])
def test_with_many_degrees_of_freedom_it_is_the_normal_one_in_single_precision(df):
    with jax.enable_x64(False):
        cost = srx.StudentNoise(df).cost(*jnp.array([2.0, 1.0, 0.5]))
    np.testing.assert_allclose(cost, 2 + np.log(0.5) + 0.5 * np.log(2 * np.pi), rtol=3e-5)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_a_spread_may_be_of_any_size_that_single_precision_holds(size):
    residual = jnp.array([3.0, -4.0, 1e10], jnp.float32) * jnp.float32(size)
    mask = jnp.array([True, True, False])
    spread = lambda x: srx.NormalNoise().best_spread(x, mask, 0)
    np.testing.assert_allclose(spread(residual), size * np.sqrt(12.5), rtol=1e-6)
    slope = np.array([3.0, -4.0, 0.0]) / np.sqrt(50)
    np.testing.assert_allclose(jax.grad(spread)(residual), slope, rtol=1e-5)


class Summed(srx.AbstractNoise):
    def rho(self, z):
        return jnp.sum(z**2) / 2

    def slope(self, z):
        return jnp.sum(z)

    def information(self):
        return 1.0, 2.0


@pytest.mark.parametrize(("method", "part"), [("cost", "rho"), ("terms", "slope")])
def test_one_number_for_all_residuals_is_refused(method, part):
    x = jnp.arange(1.0, 4.0)
    with pytest.raises(
        ValueError, match=f"`{part}` of Summed returns shape .* one number for each"
    ):
        getattr(Summed(), method)(x, x, x)
