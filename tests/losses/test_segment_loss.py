"""SegmentLoss: fixed steps from sample to sample."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = np.array([0.0, 0.1, 0.3, 0.7, 1.0])
K = np.array([[-1.0, 0.5], [0.0, -20.0]])
MODEL = srx.Polynomial(2, 1, coefficients=np.hstack([np.zeros((2, 1)), K]))
SCALE = [1.0, 0.5]


class Square(eqx.Module):
    coefficient: jax.Array

    def __call__(self, t, y, args):
        return self.coefficient * y**2


def samples(runs=3, lengths=None):
    rng = np.random.default_rng(1)
    ys = rng.normal(size=(runs, 5, 2))
    lengths = [5] * runs if lengths is None else lengths
    return srx.Trajectories.from_arrays(
        [TS[:k] for k in lengths], [y[:k] for y, k in zip(ys, lengths, strict=True)]
    )


def backward_euler(y, h):
    return np.linalg.solve(np.eye(2) - h * K, y)


def loss(**options):
    return srx.SegmentLoss(srx.BackwardEuler(), srx.ScaledMSE(SCALE), **options)


def test_loss_is_the_mean_square_of_one_step_errors():
    # Of the explicit Euler method, quick to compile.
    data = samples(lengths=[5, 2, 4])
    errors = [
        (ya + (tb - ta) * K @ ya - yb) / SCALE
        for ts, ys in data
        for ta, tb, ya, yb in zip(ts[:-1], ts[1:], ys[:-1], ys[1:], strict=True)
    ]
    loss = srx.SegmentLoss(diffrax.Euler(), srx.ScaledMSE(SCALE))
    value = eqx.filter_jit(loss)(MODEL, data)
    np.testing.assert_allclose(value, np.mean(np.square(errors)), rtol=1e-10)


@pytest.mark.slow
def test_window_steps_on_from_its_own_predictions():
    data = samples(lengths=[5, 2, 4])
    errors = []
    for ts, ys in data:
        for k in range(len(ts) - 1):
            y = ys[k] if k % 3 == 0 else y
            y = backward_euler(y, ts[k + 1] - ts[k])
            errors.append((y - ys[k + 1]) / SCALE)
    value = loss(window=3)(MODEL, data)
    np.testing.assert_allclose(value, np.mean(np.square(errors)), rtol=1e-10)


@pytest.mark.slow
def test_substeps_come_closer_to_the_solution():
    y0 = jnp.array([1.0, 1.0])
    exact = [jax.scipy.linalg.expm(K * t) @ y0 for t in TS]
    data = srx.Trajectories.from_arrays(TS, np.array(exact))
    one, many = (loss(substeps=k)(MODEL, data) for k in (1, 10))
    assert many < 0.05 * one


@pytest.mark.slow
def test_other_solvers_of_diffrax_serve():
    import diffrax

    data = samples()
    ours = srx.SegmentLoss(srx.RadauIIA9(), srx.ScaledMSE(SCALE), substeps=20)(MODEL, data)
    theirs = srx.SegmentLoss(diffrax.Tsit5(), srx.ScaledMSE(SCALE), substeps=20)(MODEL, data)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)


@pytest.mark.slow
def test_a_step_that_cannot_be_solved_is_counted_and_leaves_the_others_alone():
    # y' = c y^2 has no such step for large h c y; here only in the second run.
    ts = np.array([0.0, 0.1])
    ys = np.array([[[1.0, 0.1], [1.1, 0.1]], [[50.0, 0.1], [1.0, 0.2]], [[0.5, 0.2], [0.6, 0.2]]])
    model = Square(jnp.array([1.0, 2.0]))
    one = srx.SegmentLoss(srx.RadauIIA3(), srx.ScaledMSE([1.0, 1.0]))

    @eqx.filter_jit
    def gradient(data):
        def value(model):
            found = one.evaluate(model, data)
            return found.value, found

        (_, found), gradient = eqx.filter_value_and_grad(value, has_aux=True)(model)
        return found, gradient.coefficient

    data = srx.Trajectories.from_arrays(ts, ys)
    found, of_all = gradient(data)
    healthy, of_healthy = gradient(srx.Trajectories.from_arrays(ts, ys[[0, 2]]))
    assert (int(found.num_failed), int(found.num_solved)) == (1, 2)
    assert (int(healthy.num_failed), int(healthy.num_solved)) == (0, 2)
    np.testing.assert_allclose(found.value, healthy.value, rtol=1e-12)
    np.testing.assert_allclose(of_all, of_healthy, rtol=1e-12)
    # The loss itself is worse than any without a failure, and has the same derivative.
    value, slope = eqx.filter_jit(eqx.filter_value_and_grad(one))(model, data)
    assert value == np.inf
    np.testing.assert_allclose(slope.coefficient, of_all, rtol=1e-12)
    assert one.first_failure(model, data).startswith("the step from t = 0 to 0.1: its equations")


@pytest.mark.slow
def test_loss_runs_under_jit_and_over_a_batch_of_models():
    data = samples()
    models = eqx.filter_vmap(lambda c: eqx.tree_at(lambda m: m.coefficients, MODEL, c))(
        jnp.stack([MODEL.coefficients, 0.5 * MODEL.coefficients])
    )
    axes = eqx.filter(jax.tree.map(lambda _: 0, models), eqx.is_array, replace=0)
    batch = eqx.filter_jit(eqx.filter_vmap(loss(), in_axes=(axes, None)))(models, data)
    np.testing.assert_allclose(batch[0], loss()(MODEL, data), rtol=1e-12)


@pytest.mark.slow
def test_single_precision_serves():
    model = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, MODEL)
    data = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32) if x.dtype == float else jnp.asarray(x), samples()
    )
    value = loss().evaluate(model, data).value
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss()(MODEL, samples()), rtol=1e-5)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("option", ["substeps", "window"])
@pytest.mark.parametrize("value", [0, 1.0, True])
def test_wrong_count_is_named(option, value):
    message = f"`{option}={value}` was given; it needs a positive integer. Write `{option}=1`"
    with pytest.raises(ValueError, match=message):
        loss(**{option: value})
