"""Neighbors predicted from the tangent flow of their centers."""

import functools
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses._neighborhood_loss import _discrepancy, _predict

TS = np.arange(12) * 0.1


def square(t, y, args):
    """Its solution is `y0 / (1 + y0 t)`."""
    return -(y**2)


def runs():
    starts = np.array([1.0, 1.1, 1.25])[:, None]
    return srx.Trajectories.from_arrays(TS, (starts / (1 + starts * TS))[..., None])


DATA = runs()
# By the method that compiles fastest, in steps that need no better one.
SOLVER = diffrax.Bosh3()
OPTIONS = {"num_neighbors": 4, "steps": 2, "theiler": 2, "solver": SOLVER, "substeps": 20}


@functools.cache
def value(**options):
    loss = srx.NeighborhoodLoss(**OPTIONS | options).for_data(DATA)
    return float(eqx.filter_jit(lambda loss: loss(square, DATA))(loss))


@pytest.mark.slow
def test_second_order_is_closer_than_first_for_the_true_model():
    assert 0 < value(order=2) < 0.01 * value(order=1)


@pytest.mark.slow
def test_distributions_agree_for_the_true_model_and_not_for_another():
    loss = srx.NeighborhoodLoss(**OPTIONS, distributions=True).for_data(DATA)
    wrong = eqx.filter_jit(lambda loss: loss(lambda t, y, args: -3 * y**2, DATA))(loss)
    assert value(distributions=True) < 1e-3 < 0.1 * wrong


class Pendulum(NamedTuple):
    """A step of the symplectic Euler method in place of a flow."""

    interval: float = 0.2

    def __call__(self, t, y):
        angle = y[0] + self.interval * y[1]
        return jnp.stack([angle, y[1] - self.interval * jnp.sin(angle)])


@pytest.mark.parametrize("order", [1, 2])
def test_many_and_few_neighbors_are_predicted_alike(order):
    flow = Pendulum()
    y, t = jnp.array([0.5, -0.2]), jnp.zeros(())
    differences = 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    many = _predict(flow, t, y, differences, 3, order)
    few = _predict(flow, t, y, differences[:1], 3, order)
    np.testing.assert_allclose(few[:, 0], many[:, 0], rtol=1e-12)
    later = y + differences[0]
    for _ in range(3):
        later = flow(t, later)
    assert np.linalg.norm(many[-1, 0] - later) < 0.1**order * np.linalg.norm(differences[0])


class ExactSquare(NamedTuple):
    """The flow of `square` in closed form."""

    interval: float = 0.5

    def __call__(self, t, y):
        return y / (1 + self.interval * y)


def test_second_order_misses_its_derivative_by_a_hundredth_of_the_third():
    # The derivatives of the flow are powers of it.
    y, d = jnp.array([1.0]), 0.1
    found = _predict(ExactSquare(), jnp.zeros(()), y, jnp.array([[d]]), 1, 2)
    s = 1 / 1.5
    series = np.cumsum([s, s**2 * d, -0.5 * s**3 * d**2, 0.25 * s**4 * d**3])
    missed = found[0, 0, 0] - series[2]
    np.testing.assert_allclose(missed / (series[3] - series[2]), 0.01, rtol=0.05)


@pytest.mark.slow
def test_a_draw_is_the_loss_of_what_is_drawn_alone():
    loss = srx.NeighborhoodLoss(**OPTIONS).for_data(DATA).draw(jax.random.key(0), 3, 1)
    center, neighbor = loss.neighborhoods.centers, loss.neighborhoods.neighbors[:, 0]
    value, _, solved = eqx.filter_jit(lambda loss: loss.evaluate(square, DATA))(loss)
    assert solved == 3
    ys = DATA.ys.reshape(-1)
    y, d = ys[center], ys[neighbor] - ys[center]
    errors = []
    for k, t in enumerate((0.1, 0.2), 1):
        errors.append(ys[neighbor + k] - y / (1 + y * t) - d / (1 + y * t) ** 2)
    expected = np.mean(np.square(errors)) / np.asarray(loss.measure.scale) ** 2
    np.testing.assert_allclose(value, expected.squeeze(), rtol=1e-4)


def test_predictions_count_by_the_time_of_their_sample_if_that_is_there():
    measure = srx.ScaledMSE([1.0], weight=lambda t, y: t * jnp.ones(1))
    loss = srx.NeighborhoodLoss(**OPTIONS, measure=measure).for_data(DATA)
    # As a growing horizon does.
    seen = eqx.tree_at(lambda data: data.mask, DATA, DATA.mask & (TS <= 0.55))
    value, failed, solved = eqx.filter_jit(lambda loss: loss.evaluate(square, seen))(loss)
    terms, centers = [], set()
    ys, ts, mask = (np.asarray(x).reshape(-1) for x in (seen.ys, seen.ts, seen.mask))
    found = loss.neighborhoods
    assert found is not None
    for n, i in enumerate(np.asarray(found.centers)):
        for j in np.asarray(found.neighbors)[n]:
            for k in (1, 2):
                if mask[i] and mask[j + k]:
                    late = 1 + ys[i] * 0.1 * k
                    error = ys[i] / late + (ys[j] - ys[i]) / late**2 - ys[j + k]
                    terms.append(ts[j + k] * error**2)
                    centers.add(i)
    assert (failed, solved) == (0, len(centers))
    assert len(centers) < len(found.centers)
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-4)


@pytest.mark.slow
def test_distributions_are_of_the_samples_that_are_there():
    loss = srx.NeighborhoodLoss(**OPTIONS, distributions=True).for_data(DATA)
    wrong = lambda t, y, args: -3 * y**2
    compiled = eqx.filter_jit(lambda loss, data: loss.evaluate(wrong, data))
    few = eqx.tree_at(lambda data: data.mask, DATA, DATA.mask & (TS <= 0.55))
    changed = eqx.tree_at(lambda data: data.ys, few, np.where(few.mask[..., None], few.ys, 0.7))
    found, same = compiled(loss, few), compiled(loss, changed)
    assert 0 < found.num_solved == same.num_solved < compiled(loss, DATA).num_solved
    assert 0.1 < found.value < 2


def test_neighbors_that_were_drawn_stay_for_the_same_data_alone():
    drawn = srx.NeighborhoodLoss(**OPTIONS).for_data(DATA).draw(jax.random.key(0), 3, 1)
    same = drawn.for_data(DATA)
    np.testing.assert_array_equal(same.neighborhoods.neighbors, drawn.neighborhoods.neighbors)
    other = srx.Trajectories.from_arrays(TS, DATA.ys**2)
    assert len(drawn.for_data(other).neighborhoods.centers) > 3


def test_neighbors_are_not_drawn_before_they_are_found():
    with pytest.raises(ValueError, match="no neighbors to draw from"):
        srx.NeighborhoodLoss().draw(jax.random.key(0), 3, 1)


@pytest.mark.slow
def test_gradient_is_that_of_central_differences():
    model = srx.Polynomial(1, degree=2, coefficients=[[0.1, 0.2, -1.0]])
    loss = srx.NeighborhoodLoss(**OPTIONS).for_data(DATA)
    compiled = eqx.filter_jit(eqx.filter_value_and_grad(lambda model: loss(model, DATA)))
    gradient = compiled(model)[1].coefficients
    for i in range(3):
        up, down = (
            compiled(
                eqx.tree_at(lambda m: m.coefficients, model, model.coefficients.at[0, i].add(d))
            )
            for d in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(gradient[0, i], (up[0] - down[0]) / 2e-5, rtol=1e-5)


@pytest.mark.parametrize("distributions", [False, True])
def test_a_failed_prediction_is_counted(distributions):
    def blind(t, y, args):
        return jnp.where(y > 1.2, jnp.nan, -(y**2))

    loss = srx.NeighborhoodLoss(**OPTIONS, distributions=distributions).for_data(DATA)
    number, failed, solved = eqx.filter_jit(lambda loss: loss.evaluate(blind, DATA))(loss)
    assert failed == 1
    assert solved > 1
    assert 0 < number < 0.1


def test_other_data_are_refused():
    loss = srx.NeighborhoodLoss(**OPTIONS).for_data(DATA)
    with pytest.raises(ValueError, match="leave `batch_size`"):
        loss(square, DATA.select([0, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 3}, "order=3"),
        ({"num_neighbors": 0}, "`num_neighbors=0`"),
        ({"steps": 0}, "`steps=0`"),
        ({"theiler": -1}, "`theiler=-1`"),
        ({"theiler": 2.5}, "`theiler=2.5` was given; it needs an integer"),
        ({"annulus": (0.8, 0.6)}, "`annulus="),
        ({"distributions": True, "measure": srx.ScaledMAE()}, "`distributions=True`.*ScaledMSE"),
        ({"distributions": True, "measure": srx.ScaledMSE(weight=[2.0])}, "`distributions=True`"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        srx.NeighborhoodLoss(**options)


@pytest.mark.parametrize("points", [1, 3])
def test_clouds_in_one_place_are_compared_in_units_of_the_scale(points):
    measured = jnp.full((1, points, 2), 3.0)
    there = jnp.ones((1, points), bool)
    loss = jax.jit(jax.value_and_grad(lambda x: _discrepancy(measured + x, measured, there)))
    np.testing.assert_allclose(loss(1e-3), [2e-6, 4e-3], rtol=1e-4)
    assert loss(0.0)[0] == 0
