"""Random models of which solves fail in a part of the parameter space, and the fits to them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._fit import _failure
from stiffrax.training._levenberg_marquardt import LARGEST_GRADIENT

TS = np.array([0.0, 0.3, 0.7, 1.2])
STARTS = np.array([[1.0, 0.5], [0.6, 1.5], [1.8, 0.3]])
CASES = range(100)
SOLVER = srx.RadauIIA5()


class Fragile(eqx.Module):
    """Decay and growth; where solves fail is decided by the number of the case.

    An integer is no parameter: all cases are one program. There are four kinds: a half-plane of
    parameters; all but a disk; a half-plane for large states only; and y' = 10^a y^2, which has no
    solution for large `a`.
    """

    theta: jax.Array
    case: jax.Array

    def __call__(self, t, y, args=None):
        a, b = self.theta
        draw = jax.random.normal(jax.random.key(self.case), (4,))
        beyond = draw[0] * a + draw[1] * b - 1 - jnp.abs(draw[2])
        outside = jnp.sum((self.theta - 0.3 * draw[:2]) ** 2) - 1 - 2 * jnp.abs(draw[3])
        crossed = beyond + jnp.sum(y) - 2
        edge = jnp.stack([beyond, outside, crossed, -1.0])[self.case % 4]
        growth = jnp.where(self.case % 4 == 3, 10.0**a * y**2, a * y)
        return jnp.where(edge < 0, growth - jnp.exp(b) * y[::-1] / 4, jnp.nan)


def samples(case):
    """Of a linear model that may lie where solves fail, with noise."""
    rng = np.random.default_rng(case)
    rate = rng.uniform(-2.0, 1.0)
    ys = STARTS[:, None] * np.exp(rate * TS)[:, None]
    return srx.Trajectories.from_arrays(TS, ys * (1 + 0.03 * rng.normal(size=ys.shape)))


def start(case):
    theta = 1.5 * np.random.default_rng(1000 + case).normal(size=2)
    return Fragile(jnp.asarray(theta), jnp.asarray(case))


@eqx.filter_jit
def residuals_and_slopes(model, ts, ys):
    """Weighted residuals of one-step predictions and their derivative, without the fit's code."""

    def residuals(theta):
        other = eqx.tree_at(lambda m: m.theta, model, theta)
        predicted = srx.segment_predictions(other, ts, ys, SOLVER)
        return (predicted - ys[:, 1:]) / jnp.ptp(ys, axis=(0, 1), keepdims=True)

    return residuals(model.theta), jax.jacrev(residuals)(model.theta)


def misfit(model, data):
    """Failures, root mean square of the others, and projected gradient."""
    r, J = residuals_and_slopes(model, jnp.asarray(data.ts), jnp.asarray(data.ys))
    r, J = np.asarray(r), np.asarray(J)
    solved = np.isfinite(r).all(axis=-1)
    r, J = r[solved].reshape(-1), J[solved].reshape(-1, 2)
    if not r.size:
        return np.sum(~solved), 0.0, 0.0
    size = np.linalg.norm(J, axis=0)
    U, s, _ = np.linalg.svd(J / np.where(size > 0, size, 1), full_matrices=False)
    projected = np.linalg.norm(U[:, s > 1e-8].T @ r) / np.linalg.norm(r)
    return np.sum(~solved), np.sqrt(np.mean(r**2)), projected


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_fit_with_failures_is_preferred_to_one_without(case):
    data, model = samples(case), start(case)
    before = misfit(model, data)
    fits = [
        srx.fit_least_squares(model, data, SOLVER, start=name, progress=False)
        for name in ("given", "regression")
    ]
    for fit in fits:
        failed, loss, gradient = misfit(fit.model, data)
        assert failed == fit.num_failed
        assert (failed, loss) <= (before[0], before[1] * (1 + 1e-9))
        assert np.isfinite(fit.loss) == (failed == 0)
        assert bool(fit.failure) == (failed > 0)
        if failed == 0:
            assert fit.loss == pytest.approx(loss, rel=1e-6)
        if fit.converged:
            assert failed == 0
            assert gradient <= 1.01 * LARGEST_GRADIENT
    best = min(fits, key=lambda fit: fit.loss)
    assert best.num_failed == min(fit.num_failed for fit in fits) or best.loss == np.inf


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_reason_that_is_not_found_loses_nothing(error):
    class Fails(srx.AbstractLoss):
        def evaluate(self, model, data):
            raise error("out of memory")

    assert _failure(Fails(), None, None) == f"a solve, not found for a {error.__name__}"
