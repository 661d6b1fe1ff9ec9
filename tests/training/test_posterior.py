"""The log density of a fit as samplers use it: in batches, in both modes, against a closed form."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._box_trust_region import Box

TS = np.linspace(0.0, 4.0, 9)
NOISE = np.random.default_rng(0).normal(size=9)


@functools.cache
def line():
    """A fit of a line by its value and slope at the start, noise of 0.1."""
    start = srx.bounded([1.0, 0.5], -5.0, 5.0)
    system = srx.System(
        lambda t, y, args: jnp.stack([y[1], 0 * y[1]]),
        start,
        lambda t, y, args: {"A": y[0]},
        states=["A", "slope"],
    )
    values = (1.0 + 0.5 * TS + 0.1 * NOISE)[:, None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"], sd=0.1)
    return srx.fit_parameters(system, data, srx.LikelihoodLoss())


def normal():
    """Mean and covariance of the posterior, by the normal equations."""
    design = np.stack([np.ones(9), TS], axis=1)
    covariance = 0.01 * np.linalg.inv(design.T @ design)
    return covariance @ design.T @ (1.0 + 0.5 * TS + 0.1 * NOISE) / 0.01, covariance


def test_at_a_bound_the_gradient_is_that_of_the_density():
    class Model:
        cost = staticmethod(lambda x: 3 * x[0] + 5 * x[1])
        log_volume = staticmethod(lambda x: 0.0)

    fit: Any = object.__new__(srx.ParameterFit)
    fit._model, fit._box = Model, Box(np.array([1.0, 1.0]), np.array([2.0, 4.0]), np.ones(2))
    for x in ([1.0, 2.0], [2.0, 1.0], [1.5, 2.0]):
        np.testing.assert_array_equal(jax.grad(fit.log_density)(jnp.array(x)), [-3.0, -5.0])
    assert fit.log_density(jnp.array([0.0, 2.0])) == -np.inf


@pytest.mark.slow
def test_the_covariance_is_that_of_the_normal_equations():
    np.testing.assert_allclose(line().covariance, normal()[1], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["grad", "jacfwd"])
def test_a_batch_of_gradients_is_the_closed_form(mode):
    mean, covariance = normal()
    z = np.array([[0.0, 0.0], [1.0, -1.0], [-2.0, 0.5], [0.3, 3.0]])
    x = mean + z @ np.linalg.cholesky(covariance).T
    found = jax.jit(jax.vmap(getattr(jax, mode)(line().log_density)))(x)
    np.testing.assert_allclose(found, -(x - mean) @ np.linalg.inv(covariance), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_four_chains_of_nuts_draw_from_the_closed_form():
    blackjax = pytest.importorskip("blackjax")
    fit, (mean, covariance) = line(), normal()
    nuts = blackjax.nuts(fit.log_density, 0.7, fit.covariance)

    def draw(states, key):
        states, info = jax.vmap(nuts.step)(jax.random.split(key, 4), states)
        return states, (states.position, info.is_divergent)

    @jax.jit
    def sample(key):
        states = jax.vmap(nuts.init)(jnp.tile(jnp.asarray(fit.x), (4, 1)))
        return jax.lax.scan(draw, states, jax.random.split(key, 550))[1]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        x, diverged = (np.asarray(part)[50:] for part in sample(jax.random.key(0)))
        effective = np.asarray(blackjax.ess(x, chain_axis=1, sample_axis=0))
        assert np.max(blackjax.rhat(x, chain_axis=1, sample_axis=0)) < 1.02
    assert not diverged.any()
    # Four standard errors of the mean of so many independent draws.
    error = 4 * np.sqrt(np.diagonal(covariance) / effective)
    assert np.all(effective > 300)
    assert np.all(np.abs(x.mean(axis=(0, 1)) - mean) < error)
    np.testing.assert_allclose(np.cov(x.reshape(-1, 2).T), covariance, rtol=0.3)


@pytest.mark.slow
def test_where_nothing_is_likely_the_density_is_minus_infinity():
    # A line down from 2.5 at the rate k, which is negative at the last row for k = 2.
    system = srx.System(
        lambda t, y, args: 0 * y - args["k"],
        jnp.array([2.5]),
        states=["A"],
        parameters={"k": srx.bounded(0.1, 0.0, 5.0)},
    )
    data = srx.Measurements.from_arrays([0.0, 1.0, 2.0], [[2.5], [2.0], [1.5]], names=["A"], sd=0.1)
    fit = srx.fit_parameters(system, data, srx.LikelihoodLoss(noise=srx.LogNormalNoise()))
    assert fit.log_density(jnp.array([2.0])) == -jnp.inf
    assert np.isfinite(fit.log_density(jnp.array([1.0])))


@pytest.mark.slow
def test_numpyro_draws_from_the_closed_form():
    infer = pytest.importorskip("numpyro.infer")
    fit, (mean, covariance) = line(), normal()
    kernel = infer.NUTS(
        potential_fn=lambda x: -fit.log_density(x),
        inverse_mass_matrix=jnp.asarray(fit.covariance),
        dense_mass=True,
    )
    chain = infer.MCMC(kernel, num_warmup=200, num_samples=1000, progress_bar=False)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        chain.run(jax.random.key(0), init_params=jnp.asarray(fit.x), extra_fields=("diverging",))
        x = np.asarray(chain.get_samples())
        diverged = np.asarray(chain.get_extra_fields()["diverging"])
    assert not diverged.any()
    # Four standard errors of the mean of 200 independent draws: a fifth of those made.
    error = 4 * np.sqrt(np.diagonal(covariance) / 200)
    assert np.all(np.abs(x.mean(axis=0) - mean) < error)
    np.testing.assert_allclose(np.cov(x.T), covariance, rtol=0.3)
