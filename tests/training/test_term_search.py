"""The search for the terms that data need, from models with too few and too many."""

import functools as ft

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training import _term_search
from stiffrax.training._compressed_residuals import CompressedResiduals, Misfit
from stiffrax.training._fit_least_squares import fit_windows
from stiffrax.training._term_search import TermJudge, TermSearch
from stiffrax.training._weighted_samples import WeightedSamples, padded_windows
from stiffrax.training._window_residuals import SegmentStep, WindowResiduals

TRUE = np.array([[False, True, False], [True, False, True]])
WRONG = np.array([[True, False, False], [False, True, True]])


def residuals(noise=0.0):
    """Six runs: what the Euler method, quick to compile, makes of y1' = -y1, y2' = 1 - 3 y2."""
    ts = np.linspace(0.0, 1.5, 16)
    y1 = np.linspace(0.5, 2.0, 6)[:, None] * 0.9 ** np.arange(16.0)
    y2 = 1 / 3 + np.linspace(1.0, -1.0, 6)[:, None] * 0.7 ** np.arange(16.0)
    ys = np.stack([y1, y2], axis=-1)
    ys += noise * np.random.default_rng(0).normal(size=ys.shape)
    data = srx.Trajectories.from_arrays(ts, ys)
    windows = padded_windows(WeightedSamples.of(data, 1.0), 1, False)
    steps = WindowResiduals(SegmentStep(diffrax.Euler()), False)
    return CompressedResiduals(steps, windows), data.ys[:, 1:].size


def refit_to(steps, count):
    def refit(model):
        if not np.any(model.active):
            return None
        return fit_windows(model, steps, count, progress=False)

    return refit


def fit_of(steps, count, active):
    return refit_to(steps, count)(srx.Polynomial(2, 1).with_active(active))


def search_from(start, steps, count, criterion="bic"):
    judge = TermJudge(steps, count, criterion, 3.0, 6)
    return TermSearch(srx.Polynomial(2, 1), steps, judge, refit_to(steps, count)).search(start)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["held_out", "bic", "ebic"])
def test_terms_that_were_dropped_too_early_are_taken_back(criterion):
    steps, count = residuals()
    too_small = fit_of(steps, count, [[True, True, False], [False, False, True]])
    found = search_from(too_small, steps, count, criterion)
    np.testing.assert_array_equal(found.fit.model.active, TRUE)
    assert found.tried[0].terms == 3


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["held_out", "bic"])
def test_the_only_candidate_is_taken_back(criterion):
    steps, count = residuals()
    every = srx.Polynomial(2, 1, active=TRUE)
    refit = refit_to(steps, count)
    too_small = refit(every.with_active([[False, True, False], [False, False, True]]))
    judge = TermJudge(steps, count, criterion, 3.0, 6)
    found = TermSearch(every, steps, judge, refit).search(too_small)
    np.testing.assert_array_equal(found.fit.model.active, TRUE)


@pytest.mark.slow
def test_under_a_criterion_wrong_terms_are_exchanged_for_right_ones_at_once():
    steps, count = residuals(noise=0.05)
    found = search_from(fit_of(steps, count, WRONG), steps, count)
    np.testing.assert_array_equal(found.fit.model.active, TRUE)
    assert [model.terms for model in found.tried if model.accepted] == [3, 3]


@pytest.mark.slow
def test_terms_are_taken_back_where_an_exchange_is_predicted_badly(monkeypatch):
    def nothing(C, b, kept, droppable, criterion):
        return np.zeros_like(kept), np.zeros(len(kept))

    monkeypatch.setattr(_term_search, "best_subset", nothing)
    steps, count = residuals(noise=0.05)
    too_small = fit_of(steps, count, [[False, True, False], [False, False, True]])
    found = search_from(too_small, steps, count)
    np.testing.assert_array_equal(found.fit.model.active, TRUE)


def test_no_term_is_exchanged_where_residuals_are_not_finite():
    steps, count = residuals()
    wrong = fit_of(steps, count, WRONG)
    q = 1 + TRUE.size
    steps.triangle = lambda model, passes=1: (np.full((q, q), np.nan), 0)
    found = search_from(wrong, steps, count)
    assert found.fit is wrong


def test_a_term_costs_more_the_more_candidates_it_was_chosen_from():
    steps, count = residuals()
    gains = np.sqrt(np.log(count) + np.array([0.5, 2.5])) / np.sqrt(count)
    for candidates, expected in ((2, [True, False]), (30, [True, True])):
        judge = TermJudge(steps, count, "ebic", 3.0, candidates)
        # log(1 + x^2) < x^2: what a term gains is a little less than named.
        losses = np.sqrt(np.expm1(gains**2) + 1)
        assert [judge.accepts(loss, 3, 1.0, 4, 0.0) for loss in losses] == expected


class Decay(eqx.Module):
    """A rate that is no term, and terms."""

    rate: jax.Array
    terms: srx.Polynomial

    def __call__(self, t, y, args):
        return self.terms(t, y, args) - self.rate * y


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["held_out", "bic"])
def test_a_model_that_needs_none_of_its_terms_loses_all_and_the_search_ends(criterion):
    # What the backward Euler method, quick to compile, makes of y' = -2 y.
    ys = np.ones((3, 1, 1)) * 1.2 ** -np.arange(16.0)[:, None]
    data = srx.Trajectories.from_arrays(np.linspace(0.0, 1.5, 16), ys)
    windows = padded_windows(WeightedSamples.of(data, 1.0), 1, False)
    step = WindowResiduals(SegmentStep(srx.BackwardEuler()), False)
    steps, count = CompressedResiduals(step, windows), data.ys[:, 1:].size
    model = Decay(jnp.array([1.5]), srx.Polynomial(1, 2, active=[[True, False, True]]))
    fit = fit_windows(model, steps, count, progress=False)
    judge = TermJudge(steps, count, criterion, 3.0, 6)
    refit = ft.partial(fit_windows, steps=steps, count=count, progress=False)
    found = TermSearch(model, steps, judge, refit).search(fit)
    assert not np.any(found.fit.model.terms.active)
    np.testing.assert_allclose(found.fit.model.rate, 2.0, rtol=1e-5)


@pytest.mark.parametrize("criterion", ["held_out", "bic"])
def test_what_is_not_finite_is_not_accepted(criterion):
    steps, count = residuals()
    judge = TermJudge(steps, count, criterion, 3.0, 6)
    for loss, error in ((np.nan, 0.0), (np.inf, 0.0), (1.0, np.inf)):
        assert not judge.accepts(loss, 2, np.inf, 3, error)
    assert judge.accepts(1e-3, 2, np.inf, 3, 0.0)


def test_terms_do_not_come_back_by_a_loss_that_is_not_finite():
    steps, count = residuals()
    every = srx.Polynomial(2, 1, active=TRUE)
    refit = refit_to(steps, count)
    too_small = refit(every.with_active([[False, True, False], [False, False, True]]))
    judge = TermJudge(steps, count, "held_out", 3.0, 6)
    judge.discretization_error = lambda model: np.inf
    found = TermSearch(every, steps, judge, refit).search(too_small)
    assert int(np.sum(found.fit.model.active)) == 2
    assert not any(model.accepted for model in found.tried[1:])


def test_terms_that_are_not_the_models_are_not_taken_back():
    steps, count = residuals()
    allowed = srx.Polynomial(2, 1, active=[[True, True, True], [False, True, True]])
    refit = refit_to(steps, count)
    search = TermSearch(allowed, steps, TermJudge(steps, count, "bic", 3.0, 6), refit)
    found = search.search(refit(allowed))
    assert not np.any(np.asarray(found.fit.model.active) & ~np.asarray(allowed.active))


@pytest.mark.parametrize(("fewest", "expected"), [(0, 3), (5, 5), (7, 5)])
def test_no_refit_starts_from_predictions_that_are_far_off(fewest, expected):
    # Three terms of six are needless. The last one is dropped even from far.
    steps, count = residuals()
    every = srx.Polynomial(2, 1)
    refit, tried = refit_to(steps, count), []

    def record(model):
        tried.append(int(np.sum(model.active)))
        return refit(model)

    far, _ = residuals()
    far.misfit = lambda model: Misfit(0, 1e3 if np.sum(model.active) < fewest else 1e-3)
    search = TermSearch(every, far, TermJudge(steps, count, "bic", 3.0, 6), record)
    found = search.search(refit(every))
    assert tried[0] == expected
    assert int(np.sum(found.fit.model.active)) == 3


def test_a_refit_starts_from_where_the_terms_left_should_be():
    # y1' = 1 - y1 with y2 = 1: the fit gives half of the source to `1` and half to `y2`.
    ts = np.linspace(0.0, 1.5, 16)
    y1 = 1 + np.linspace(-1.0, 1.0, 6)[:, None] * 0.9 ** np.arange(16.0)
    data = srx.Trajectories.from_arrays(ts, np.stack([y1, np.ones_like(y1)], axis=-1))
    windows = padded_windows(WeightedSamples.of(data, 1.0), 1, False)
    step = WindowResiduals(SegmentStep(diffrax.Euler()), False)
    steps, count = CompressedResiduals(step, windows), data.ys[:, 1:].size
    refit, starts = refit_to(steps, count), []

    def record(model):
        starts.append(steps.misfit(model).norm / count**0.5)
        return refit(model)

    fit = refit(srx.Polynomial(2, 1, coefficients=[[0.5, -1, 0.5], [0, 0, 0]]))
    np.testing.assert_allclose(fit.model.coefficients[0], [0.5, -1.0, 0.5], atol=1e-6)
    judge = TermJudge(steps, count, "bic", 3.0, 6)
    found = TermSearch(fit.model, steps, judge, record).search(fit)
    assert int(np.sum(found.fit.model.active)) == 2
    assert starts[0] < 1e-6


@pytest.mark.slow
def test_a_step_that_cannot_be_solved_is_no_error_of_discretization():
    # y' = 50 y^2 has no solution from 1 over this step.
    ys = np.array([1.0, 1e-3, 1e-3, 1e-3])[None, :, None]
    data = srx.Trajectories.from_arrays(np.arange(4.0), ys)
    windows = padded_windows(WeightedSamples.of(data, 1.0), 1, False)
    steps = CompressedResiduals(WindowResiduals(SegmentStep(srx.RadauIIA5()), False), windows)
    judge = TermJudge(steps, 3, "bic", 3.0, 6)
    model = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 50.0]])
    assert judge.loss(model) == np.inf
    assert judge.discretization_error(model) < 1e-3


def test_starts_that_are_fitted_take_residuals_from_a_criterion():
    # 30 runs of three samples of one state, of which 60 numbers say something of a term.
    data = srx.Trajectories.from_arrays(np.arange(3.0), np.ones((30, 3, 1)))
    windows = padded_windows(WeightedSamples.of(data, 1.0), 2, True)
    steps = CompressedResiduals(WindowResiduals(SegmentStep(diffrax.Euler()), True), windows)
    assert steps.num_free_starts == 30
    judge = TermJudge(steps, 90, "significance", 3.0, 1)
    for errors, is_dropped in ((2.7, True), (3.3, False)):
        without = np.sqrt(1 + errors**2 / 59)
        assert judge.accepts(without, 0, 1.0, 1, 0.0) is is_dropped
