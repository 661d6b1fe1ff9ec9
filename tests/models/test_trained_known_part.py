"""A known part whose numbers are trained beside the network, when asked to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
import pytest

import stiffrax as srx
from stiffrax.training._parameter_vector import FreeParameters

TS = np.linspace(0.0, 1.0, 9)


class Decay(eqx.Module):
    """A known part with rates of its own."""

    k: Any
    feed: Any

    def __call__(self, t, y, args):
        return self.feed - self.k * y


def learned():
    return srx.Polynomial(1, 2, active=[[False, False, True]])


def model(k: Any, feed: Any = 0.0, **options):
    return srx.PartiallyKnown(Decay(k, feed), learned(), **options)


def runs():
    """Y' = -3 y + 2 y^2 from four starts, which has a closed form."""
    starts = np.array([0.2, 0.5, 0.8, 1.1])[:, None]
    ys = 3 / (2 + (3 / starts - 2) * np.exp(3 * TS))
    return srx.Trajectories.from_arrays(TS, ys[..., None], names=["A"])


def rate(found):
    return float(paramax.unwrap(found.known).k)


@pytest.mark.parametrize("wrap", [srx.positive, srx.bounded])
def test_wrapped_numbers_stay_frozen_and_are_values(wrap):
    frozen = model(wrap(2.0))
    assert [x.shape for x in jax.tree.leaves(eqx.filter(frozen, eqx.is_inexact_array))] == [(1, 3)]
    np.testing.assert_allclose(frozen(0.0, jnp.array([3.0])), [-6.0], rtol=1e-15)
    assert str(srx.to_sympy(frozen)[0]) in ("-2*y1", "-2.0*y1")


class Sum(eqx.Module):
    """A network of known rates beside terms that are learned."""

    known: Any
    terms: Any

    def __call__(self, t, y, args=None):
        return self.known(t, y, args) + self.terms(t, y, args)


def test_terms_of_fixed_coefficients_are_no_parameters_and_stay_on():
    known = srx.ReactionNetwork(["A -> 0"], rates=srx.fixed(jnp.array([3.0])))
    whole = Sum(known, srx.Polynomial(1, 2, coefficients=[[0.0, 1.0, 2.0]]))
    free = FreeParameters(whole)
    assert (len(free.index), free.droppable.tolist()) == (3, [True] * 3)
    kept = free.without(np.array([0, 1]))
    np.testing.assert_allclose(kept(0.0, jnp.array([2.0])), [-6.0 + 8.0])


def test_a_known_part_without_numbers_cannot_be_trained():
    for known in (lambda t, y, args: -y, Decay(srx.fixed(1.0), 0.0)):
        with pytest.raises(ValueError, match="`known` holds no number to train"):
            srx.PartiallyKnown(known, learned(), train_known=True)


def test_numbers_of_both_parts_are_free_within_their_bounds():
    start = model(srx.positive(2.0, 1.0, 4.0), srx.fixed(0.5), train_known=True)
    free = FreeParameters(start)
    assert [free.droppable.tolist(), free.index.tolist()] == [[True, False], [2, 3]]
    np.testing.assert_allclose(free.lower, [-np.inf] * 3 + [0.0])
    np.testing.assert_allclose(free.upper, [np.inf] * 3 + [np.log(4.0)])
    gradient = eqx.filter_grad(lambda m: m(0.0, jnp.array([3.0]))[0])(start)
    assert gradient.known.k.raw == -6.0
    assert gradient.learned.coefficients[0, 2] == 9.0


@pytest.mark.slow
def test_least_squares_finds_rates_of_both_parts():
    start = model(srx.positive(1.0), train_known=True)
    found = srx.fit_least_squares(start, runs(), srx.RadauIIA5())
    assert found.converged
    np.testing.assert_allclose(rate(found.model), 3.0, rtol=1e-4)
    np.testing.assert_allclose(found.model.learned.coefficients[0, 2], 2.0, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("wrap", "end"), [(srx.positive, 2.0), (srx.bounded, 4.0)])
def test_least_squares_ends_at_a_bound_that_the_rate_meets(wrap, end):
    lower, upper = (0.5, 2.0) if end == 2.0 else (4.0, 9.0)
    start = model(wrap(end, lower, upper), train_known=True)
    found = srx.fit_least_squares(start, runs(), srx.RadauIIA5())
    assert found.converged
    raw = found.model.known.k
    assert float(raw.raw) == (raw.upper if end == 2.0 else raw.lower)


@pytest.mark.slow
def test_a_fixed_number_is_trained_by_nothing():
    start = model(srx.fixed(3.0), jnp.array(0.5), train_known=True)
    assert rate(srx.fit_least_squares(start, runs(), srx.RadauIIA5()).model) == 3.0
    decays = optax.adamw(0.1, weight_decay=0.5)
    found = srx.fit(
        start,
        runs(),
        srx.SegmentLoss(srx.BackwardEuler()),
        optimizer=decays,
        steps=2,
        progress=False,
    )
    assert rate(found.model) == 3.0
    assert float(found.model.known.feed) != 0.5


@pytest.mark.slow
def test_gradient_descent_trains_both_parts_within_bounds():
    start = model(srx.positive(1.0, 0.5, 1.05), train_known=True)
    optimizer = optax.adam(0.1)
    found = srx.fit(
        start,
        runs(),
        srx.SegmentLoss(srx.BackwardEuler()),
        optimizer=optimizer,
        steps=3,
        progress=False,
    )
    np.testing.assert_allclose(rate(found.model), 1.05, rtol=1e-12)
    assert float(jnp.sum(jnp.abs(found.model.learned.coefficients))) > 0


@pytest.mark.slow
def test_parameters_of_both_parts_have_names():
    start = model(srx.positive(1.0, 0.1, 100.0), train_known=True)
    data = srx.Measurements.from_trajectories(runs())
    system = srx.System(start, states=["A"])
    found = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    assert [*found.values] == [
        *(f"field.learned.coefficients[0][{j}]" for j in range(3)),
        "field.known.k",
    ]
    np.testing.assert_allclose(found.values["field.known.k"], 3.0, rtol=1e-4)


@pytest.mark.slow
def test_terms_of_a_known_part_are_fitted_and_never_dropped():
    known = srx.Polynomial(1, 1, coefficients=[[0.0, -1.0]])
    start = srx.PartiallyKnown(known, srx.Polynomial(1, 3), train_known=True)
    found = srx.prune_and_refit(start, runs(), srx.RadauIIA5(), refine=1)
    assert found.model.known.active.all()
    total = srx.to_sympy(found.model)[0].as_coefficients_dict()
    assert sorted(map(str, total)) == ["1", "y1", "y1**2"]
