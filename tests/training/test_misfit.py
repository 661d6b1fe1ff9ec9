"""A prediction that failed is worse than any that did not, in every fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax._trees import euclidean_norm
from stiffrax.training import _compressed_residuals
from stiffrax.training._compressed_residuals import Misfit
from stiffrax.training._levenberg_marquardt import LARGEST_GRADIENT, _step, projected_gradient
from stiffrax.training._weighted_samples import Windows
from stiffrax.training._window_residuals import (
    SegmentStep,
    WindowResiduals,
    _projection,
)


def test_misfits_are_compared_by_failures_and_then_by_residuals():
    assert Misfit(0, 1e9) < Misfit(1, 0.0) < Misfit(1, 1.0) < Misfit(2, 0.0)
    assert Misfit(0, 1e9) < Misfit.of([np.nan], 0)
    assert Misfit(5, 1e9) < Misfit.of([np.inf], 0)
    assert not Misfit.of([np.inf], 0) < Misfit(5, 1e9)
    assert Misfit(1, 1.0).finite_norm == np.inf


class Growth(eqx.Module):
    """y' = 10^a y^2, which has no solution from sample to sample above a = 0.7."""

    a: jax.Array

    def __call__(self, t, y, args):
        return 10**self.a * y**2


def growth_data():
    ts = np.linspace(0.0, 1.0, 6)
    exact = 1 / (1 - 0.5 * ts)
    noise = 0.02 * exact
    ys = exact + noise * np.random.default_rng(0).normal(size=6)
    return srx.Trajectories.from_arrays(ts, ys[:, None]), 1 / noise[None, :, None] ** 2


def fit_growth(a, max_steps=50):
    data, weight = growth_data()
    model = Growth(jnp.asarray(a))
    return srx.fit_least_squares(
        model, data, srx.RadauIIA5(), weight=weight, start="given", max_steps=max_steps
    )


@pytest.mark.slow
def test_a_fit_does_not_flee_to_where_every_solve_fails():
    # A Gauss-Newton step from here leads to a = 49, where all five segments fail.
    fit = fit_growth(-3.5)
    assert fit.converged
    assert fit.num_failed == 0
    assert fit.failure == ""
    assert float(fit.model.a) == pytest.approx(np.log10(0.5), abs=0.05)


@pytest.mark.slow
def test_a_fit_without_a_step_is_not_converged_where_solves_fail():
    fit = fit_growth(1.0)
    assert (fit.stopped, fit.num_failed, fit.loss) == ("failures", 5, np.inf)
    assert not fit.converged
    assert np.isnan(fit.standard_errors.a)
    assert "the step from t = 0 to 0.2: its equations were not solved" in fit.failure
    assert "5 segments failed" in repr(fit)


@pytest.mark.slow
def test_a_fit_that_may_take_one_step_is_not_converged():
    fit = fit_growth(-3.5, max_steps=1)
    assert fit.stopped == "steps"
    assert fit.gradient > LARGEST_GRADIENT


class Fenced(eqx.Module):
    """y' = -k y, not finite beyond k = 2, while the data want k = 3."""

    k: jax.Array

    def __call__(self, t, y, args):
        return jnp.where(self.k < 2, -self.k * y, jnp.nan)


@pytest.mark.slow
def test_a_fit_that_ends_at_the_edge_of_what_can_be_solved_is_not_converged():
    ts = np.linspace(0.0, 1.0, 6)
    data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None])
    fit = srx.fit_least_squares(
        Fenced(jnp.asarray(0.5)), data, srx.RadauIIA5(), start="given", progress=False
    )
    assert fit.num_failed == 0
    assert float(fit.model.k) == pytest.approx(2.0, abs=0.01)
    assert fit.gradient > 0.5
    assert fit.stopped in ("stalled", "steps")


@pytest.mark.slow
def test_a_model_that_is_not_finite_is_named_as_the_cause():
    ts = np.linspace(0.0, 1.0, 6)
    data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None])
    fit = srx.fit_least_squares(
        Fenced(jnp.asarray(5.0)), data, srx.RadauIIA5(), start="given", progress=False
    )
    assert "the model is not finite at t = 0, y = [1.]" in fit.failure


class Constant(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate + 0 * y


@pytest.mark.slow
def test_a_residual_whose_square_leaves_the_range_of_numbers_is_a_failure():
    ts = np.linspace(0.0, 1.0, 6)
    data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None])
    model = Constant(jnp.asarray(1e200))
    fit = srx.fit_least_squares(model, data, srx.RadauIIA5(), start="given", progress=False)
    assert (fit.stopped, fit.num_failed, fit.loss) == ("failures", 5, np.inf)
    assert fit.failure


class Runaway(eqx.Module):
    """y' = -exp(a) y: nothing depends on `a` where the exponential is lost in rounding."""

    a: jax.Array

    def __call__(self, t, y, args):
        return -jnp.exp(self.a) * y


@pytest.mark.slow
def test_a_parameter_that_ran_to_where_nothing_depends_on_it_has_not_converged():
    # The samples grow, and the model can only decay: the best rate is zero, at a = -infinity.
    ts = np.linspace(0.0, 1.0, 6)
    data = srx.Trajectories.from_arrays(ts, np.exp(ts)[:, None])
    fit = srx.fit_least_squares(
        Runaway(jnp.asarray(1.0)), data, srx.RadauIIA5(), start="given", progress=False
    )
    assert not fit.converged


def test_the_projected_gradient_has_no_unit_and_bounds_every_cosine():
    rng = np.random.default_rng(0)
    J, r = rng.normal(size=(40, 3)), rng.normal(size=40)
    Q, _ = np.linalg.qr(J)
    expected = np.linalg.norm(Q.T @ r) / np.linalg.norm(r)
    mixed = J @ np.array([[1e9, 0.0, 1.0], [0.0, 1e-9, 0.0], [0.0, 0.0, 1.0]])
    for columns in (J, mixed):
        assert projected_gradient(columns, r) == pytest.approx(expected, rel=1e-6)
    cosines = np.abs(J.T @ r) / (np.linalg.norm(J, axis=0) * np.linalg.norm(r))
    assert np.max(cosines) <= expected
    # Of residuals in the span of the columns it is one, of those beside it zero.
    assert projected_gradient(J, J @ np.ones(3)) == pytest.approx(1.0)
    assert projected_gradient(J, r - Q @ (Q.T @ r)) < 1e-14


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4], [0, 2, 3], [4]])
def test_a_damped_step_is_that_of_the_stacked_system(columns):
    R = np.triu(np.random.default_rng(0).normal(size=(6, 6)))
    R[-1, :-1] = 0
    C, c = R[:, columns], R[:, -1]
    size, damping = np.linalg.norm(C, axis=0), 0.3
    room = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    step, predicted = _step(C, c, size, damping, room)
    stacked = np.concatenate([C, np.sqrt(damping) * np.diag(size)])
    right = np.concatenate([-c, np.zeros(len(columns))])
    np.testing.assert_allclose(step, np.linalg.lstsq(stacked, right)[0], rtol=1e-12)
    assert predicted == pytest.approx(np.sum(c**2) - np.sum((C @ step + c) ** 2))


@pytest.mark.parametrize("unit", [1e-25, 1e20])
def test_columns_of_any_size_are_measured_in_single_precision(unit):
    S = jnp.array([[3.0, 0.0], [4.0, 0.0]], jnp.float32) * jnp.float32(unit)
    np.testing.assert_allclose(euclidean_norm(S, 0), [5 * unit, 0.0], rtol=1e-6)


def test_a_start_that_hardly_matters_leaves_a_projection_in_single_precision():
    # Differences have grown by 1e4: what the squares of both columns differ by is rounding.
    rng = np.random.default_rng(0)
    S = rng.normal(size=(40, 1)) @ np.ones((1, 2)) + 1e-4 * rng.normal(size=(40, 2))
    rows = rng.normal(size=(40, 3)).astype(np.float32)
    unit, solve = _projection(jnp.asarray(S, jnp.float32))
    left = rows - np.asarray(unit) @ (np.asarray(solve) @ rows)
    assert np.all(np.linalg.norm(left, axis=0) <= 1.001 * np.linalg.norm(rows, axis=0))
    # What is well known of the start is projected out.
    well = S.sum(axis=1) / np.linalg.norm(S.sum(axis=1))
    assert np.max(np.abs(well @ left)) < 1e-2


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_single_precision_knows_columns_whose_squares_it_does_not_hold(monkeypatch, size):
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    rows[:, :2] *= np.float32(size)
    monkeypatch.setattr(
        _compressed_residuals, "_rows", lambda *_: (jnp.asarray(rows), None, jnp.array(0))
    )
    block = jnp.ones((1, 1, 2), jnp.float32)
    windows = Windows(*[block] * len(Windows._fields))
    residuals = WindowResiduals(SegmentStep(srx.BackwardEuler()), False)
    steps = _compressed_residuals.CompressedResiduals(residuals, windows)
    R, _ = steps.triangle(jnp.ones(2, jnp.float32))
    exact = np.linalg.qr(rows.astype(float))[1]
    np.testing.assert_allclose(np.abs(R), np.abs(exact), rtol=1e-3, atol=1e-4 * size)
    assert steps.eps(jnp.ones(2)) == 2.0**-23
