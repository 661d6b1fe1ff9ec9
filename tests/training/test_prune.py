"""Dropping the terms that the data do not need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training import _prune
from stiffrax.training._fit_start import couplings_of_search


@functools.cache
def kinetics_data(runs=6):
    """A small stiff mass-action system: y1' = -20 y1 + 5 y1 y2, y2' = y1 - y2."""

    def field(t, y, args):
        return jnp.stack([-20 * y[0] + 5 * y[0] * y[1], y[0] - y[1]])

    import diffrax

    ts = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-3, 3.0, 30)])
    starts = jnp.asarray(np.random.default_rng(2).uniform(0.5, 2.0, (runs, 2)))

    def run(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.RadauIIA9(),
            0.0,
            ts[-1],
            1e-3,
            y0,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-13),
        ).ys

    ys = jax.vmap(run)(starts)
    return srx.Trajectories.from_arrays(np.asarray(ts), np.asarray(ys), names=["a", "b"])


@pytest.fixture(scope="module")
def pruned():
    return srx.prune_and_refit(
        srx.Polynomial(2, 2), kinetics_data(), srx.RadauIIA5(), progress=False
    )


@pytest.mark.slow
def test_exactly_the_true_terms_are_left(pruned):
    import sympy

    a, b = sympy.symbols("a b")
    true = {"a": -20 * a + 5 * a * b, "b": a - b}
    comparison = srx.compare(pruned.model, true)
    assert comparison.num_missing == 0
    assert comparison.num_extra == 0
    assert comparison.largest_relative_error < 1e-6


@pytest.mark.slow
def test_the_count_of_dropped_terms_is_the_difference(pruned):
    assert pruned.num_dropped == 12 - 4
    assert int(np.sum(np.asarray(pruned.model.active))) == 4


@pytest.mark.slow
def test_the_last_model_tried_was_too_small(pruned):
    terms, loss, accepted = pruned.tried[-1]
    assert terms == 3
    assert not accepted
    assert loss > 10 * pruned.held_out_loss


@pytest.mark.slow
def test_known_terms_stay_and_only_learned_ones_are_dropped():
    known = lambda t, y, args: jnp.stack([-20 * y[0], y[0] - y[1]])
    model = srx.PartiallyKnown(known, srx.Polynomial(2, 2))
    result = srx.prune_and_refit(model, kinetics_data(), srx.RadauIIA5(), progress=False)
    learned = result.model.learned
    assert int(np.sum(np.asarray(learned.active))) == 1
    assert np.max(np.abs(np.asarray(learned.coefficients))) == pytest.approx(5.0, rel=1e-6)


def test_a_model_without_terms_is_refused():
    network = srx.PiNet(2, 4, 2, key=jax.random.key(0))
    with pytest.raises(ValueError, match="The model PiNet has no term to drop"):
        srx.prune_and_refit(network, few_samples(2))


def few_samples(runs):
    ts = np.linspace(0.0, 1.0, 5)
    ys = np.exp(-ts)[None, :, None] * np.ones((runs, 1, 2))
    return srx.Trajectories.from_arrays(ts, ys)


def test_one_run_cannot_be_judged():
    data = few_samples(1)
    with pytest.raises(ValueError, match="`data` has one run"):
        srx.prune_and_refit(srx.Polynomial(2, 2), data)


@pytest.mark.parametrize(("name", "value"), [("tolerance", 0.5), ("refine", 0)])
def test_a_wrong_option_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}={value}`"):
        srx.prune_and_refit(srx.Polynomial(2, 2), few_samples(2), **{name: value})


def noisy_data():
    """As `kinetics_data`, with noise of 0.005 in every sample."""
    data = kinetics_data(8)
    ys = np.asarray(data.ys)
    noise = np.random.default_rng(3).normal(size=ys.shape)
    return srx.Trajectories.from_arrays(data.ts, ys + 0.005 * noise, names=data.names)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["bic", "significance"])
def test_an_information_criterion_leaves_the_true_terms_of_noisy_data(criterion):
    import sympy

    a, b = sympy.symbols("a b")
    true = {"a": -20 * a + 5 * a * b, "b": a - b}
    result = srx.prune_and_refit(
        srx.Polynomial(2, 2),
        noisy_data(),
        srx.RadauIIA5(),
        criterion=criterion,
        window=10,
        initial_states="free",
        scale=1.0,
        refine=1,
        progress=False,
    )
    comparison = srx.compare(result.model, true)
    assert comparison.num_missing == 0
    assert comparison.num_extra == 0
    assert comparison.largest_relative_error < 0.1
    assert 0.003 < result.held_out_loss < 0.007


# Slow: coupled windows of free starts compile for half a minute.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("far", "weight", "searches"), [(_prune.FAR, None, 7), (_prune.FAR, 400.0, 7), (0.0, None, 1)]
)
def test_terms_are_searched_along_the_couplings_where_predictions_are_good(
    monkeypatch, far, weight, searches
):
    monkeypatch.setattr(_prune, "FAR", far)
    ts = np.linspace(0.0, 8.0, 41)
    runs = np.array([1.0, 0.7])[:, None]
    ys = np.stack([runs * np.cos(2 * ts), -2 * runs * np.sin(2 * ts)], axis=-1)
    noise = np.random.default_rng(0).normal(size=ys.shape)
    result = srx.prune_and_refit(
        srx.Polynomial(2, 1),
        srx.Trajectories.from_arrays(ts, ys + 0.05 * noise),
        srx.RadauIIA5(),
        criterion="bic",
        window=40,
        initial_states="free",
        start="coupled",
        scale=1.0,
        weight=weight,
        refine=1,
        progress=False,
    )
    np.testing.assert_array_equal(result.model.active, [[False, False, True], [False, True, False]])
    assert 0.8 < result.held_out_loss / (0.05 * (weight or 1) ** 0.5) < 1.2
    # Every search begins with what the one before left.
    accepted = [model.terms for model in result.tried if model.accepted]
    assert accepted == [6] + searches * [2]


def test_without_a_coupled_start_terms_are_searched_once():
    assert couplings_of_search("regression") == (0.0,)
    assert couplings_of_search("coupled")[-1] == 0
    assert np.all(np.diff(couplings_of_search("coupled")) < 0)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["aic", "bic", "ebic", "significance"])
def test_an_information_criterion_needs_one_run_only(criterion):
    result = srx.prune_and_refit(
        srx.Polynomial(1, 1),
        srx.Trajectories.from_arrays(np.linspace(0, 1, 9), np.exp(-np.linspace(0, 1, 9))[:, None]),
        srx.RadauIIA5(),
        criterion=criterion,
        progress=False,
    )
    assert result.num_dropped == 1


def test_a_criterion_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"\(criterion='mdl'\)` was given; write one of"):
        srx.prune_and_refit(srx.Polynomial(2, 2), few_samples(2), criterion="mdl")


@pytest.mark.parametrize("option", [{"held_out": ["b"]}, {"tolerance": 1.5}])
def test_settings_that_a_criterion_does_not_read_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}=.*with `criterion='bic'`.*Leave `{name}` out"):
        srx.prune_and_refit(srx.Polynomial(2, 2), few_samples(2), criterion="bic", **option)
