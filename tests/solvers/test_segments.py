import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import stiffrax as srx
from stiffrax.solvers import FixedStepFlow

TS = jnp.array([[0.0, 0.1, 0.3, 0.6], [1.0, 1.2, 1.25, 2.0]])
YS = jnp.array(
    [
        [[1.0, 0.5], [0.9, 0.4], [0.8, 0.2], [0.6, 0.1]],
        [[0.2, -0.5], [0.3, 0.1], [0.35, 0.2], [0.5, 0.4]],
    ]
)


def model(t, y, args):
    rate = 30.0 if args is None else args
    return jnp.stack([-y[0] * y[1] + jnp.cos(t), y[0] - rate * y[1]])


@functools.partial(jax.jit, static_argnames=("solver", "substeps"))
def by_hand(solver, t0, t1, y, substeps=1):
    """Steps of `solver` itself, that know nothing of the next sample."""
    term, h = diffrax.ODETerm(model), (t1 - t0) / substeps

    def step(k, carry):
        y, state = carry
        t = t0 + k * h
        y, _, _, state, _ = solver.step(term, t, t + h, y, None, state, False)
        return y, state

    first = y, solver.init(term, t0, t0 + h, y, None)
    return jax.lax.fori_loop(0, substeps, step, first)[0]


def steps_by_hand(solver, substeps=1):
    step = functools.partial(by_hand, solver, substeps=substeps)
    return jax.vmap(jax.vmap(step))(TS[:, :-1], TS[:, 1:], YS[:, :-1])


predict = jax.jit(
    lambda solver, ts, ys, mask, substeps: srx.segment_predictions(
        model, ts, ys, solver, substeps, mask=mask
    ),
    static_argnames=("solver", "substeps"),
)
RADAU, BACKWARD_EULER = srx.RadauIIA5(), srx.BackwardEuler()
ALL = jnp.ones(TS.shape, bool)


class TestGuesses:
    # The end of a run of HIRES, where its reaction is used up between two samples.
    TS = jnp.array([[159.083299, 321.8122]])
    YA = [0.004258, 0.000835, 0.000732, 0.007526, 0.116664, 0.428455, 0.034534, 0.000521]
    YB = [6.6169e-4, 1.2931e-4, 4.518e-5, 1.0296e-3, 2.975e-4, 1.927e-4, 1.0145e-3, 3.4041e-2]

    @pytest.mark.slow
    @pytest.mark.parametrize("substeps", [1, 2, 4, 8])
    def test_a_sample_far_from_the_path_between_does_not_lead_the_iteration_astray(self, substeps):
        hires = srx.problems.hires().vector_field
        ys = jnp.array([[self.YA, self.YB]])
        predicted = jax.jit(
            lambda ys: srx.segment_predictions(hires, self.TS, ys, srx.RadauIIA5(), substeps)
        )(ys)
        assert bool(jnp.all(jnp.isfinite(predicted)))


class TestMasks:
    @pytest.mark.slow
    def test_whatever_stands_at_absent_samples_is_never_read(self):
        mask = ALL.at[0, 1].set(False).at[1, 3].set(False)
        plain = predict(RADAU, TS, YS, mask, 1)
        for anything in (jnp.nan, jnp.inf, 1e300):
            ys = jnp.where(mask[..., None], YS, anything)
            np.testing.assert_array_equal(predict(RADAU, TS, ys, mask, 1), plain)

    @pytest.mark.slow
    def test_derivatives_are_finite_whatever_stands_at_absent_samples(self):
        mask = ALL.at[0, 1].set(False).at[1, 0].set(False)

        @jax.jit
        def gradient(ys, rate):
            def loss(ys, rate):
                found = srx.segment_predictions(model, TS, ys, RADAU, args=rate, mask=mask)
                return jnp.sum(jnp.where(mask[:, 1:, None], found, 0.0)[:, 1:] ** 2)

            return jax.grad(loss, argnums=(0, 1))(ys, rate)

        plain = gradient(YS, 30.0)
        spoiled = gradient(jnp.where(mask[..., None], YS, jnp.nan), 30.0)
        assert jnp.all(jnp.isfinite(plain[0]))
        np.testing.assert_array_equal(spoiled[0], plain[0])
        np.testing.assert_array_equal(spoiled[1], plain[1])
        np.testing.assert_array_equal(plain[0][~mask], 0.0)

    @pytest.mark.slow
    def test_a_sample_after_a_gap_is_predicted_from_the_last_one_present(self):
        mask = ALL.at[0, 1:3].set(False)
        found = predict(RADAU, TS, YS, mask, 1)[0, 2]
        expected = by_hand(RADAU, TS[0, 0], TS[0, 3], YS[0, 0])
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.slow
    def test_nothing_is_predicted_before_the_first_sample(self):
        mask = ALL.at[0, :2].set(False)
        found = predict(RADAU, TS, YS, mask, 1)
        assert jnp.all(jnp.isnan(found[0, :2]))
        assert jnp.all(jnp.isfinite(found[0, 2]))
        assert jnp.all(jnp.isfinite(found[1]))

    def test_a_run_without_samples_disturbs_no_other(self):
        mask = ALL.at[0].set(False)
        found = predict(BACKWARD_EULER, TS.at[0].set(jnp.nan), YS.at[0].set(jnp.nan), mask, 1)
        assert jnp.all(jnp.isnan(found[0]))
        np.testing.assert_array_equal(found[1], predict(BACKWARD_EULER, TS, YS, ALL, 1)[1])

    def test_ragged_runs_are_predicted_as_far_as_they_go(self):
        # Padded as runs of unequal length are: NaN times and states behind the last sample.
        mask = ALL.at[1, 2:].set(False)
        ts, ys = jnp.where(mask, TS, jnp.nan), jnp.where(mask[..., None], YS, jnp.nan)
        found = predict(BACKWARD_EULER, ts, ys, mask, 1)
        full = predict(BACKWARD_EULER, TS, YS, ALL, 1)
        np.testing.assert_array_equal(found[mask[:, 1:]], full[mask[:, 1:]])

    @pytest.mark.slow
    def test_a_mask_of_true_is_no_mask(self):
        np.testing.assert_array_equal(
            predict(RADAU, TS, YS, ALL, 1), predict(RADAU, TS, YS, None, 1)
        )


@pytest.mark.slow
def test_repeated_times_predict_the_sample_before_them():
    ts = TS.at[0, 1].set(0.0)
    np.testing.assert_array_equal(predict(RADAU, ts, YS, None, 1)[0, 0], YS[0, 0])


@pytest.mark.slow_cases("solver2-3")
@pytest.mark.parametrize("substeps", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    "solver", [BACKWARD_EULER, pytest.param(srx.Trapezoid(), marks=pytest.mark.slow), RADAU]
)
def test_predictions_are_steps_by_hand(solver, substeps):
    expected = steps_by_hand(solver, substeps)
    np.testing.assert_allclose(predict(solver, TS, YS, None, substeps), expected, rtol=1e-12)


@pytest.mark.parametrize(("solver", "substeps"), [(diffrax.Tsit5(), 1), (diffrax.Euler(), 2)])
def test_explicit_solvers_predict_as_well(solver, substeps):
    expected = steps_by_hand(solver, substeps)
    np.testing.assert_allclose(predict(solver, TS, YS, None, substeps), expected, rtol=1e-13)


def test_an_explicit_step_evaluates_each_stage_that_it_needs_once_in_each_of_two_passes():
    count = 0

    def counted(t, y, args):
        nonlocal count
        count += 1
        return -y

    jax.make_jaxpr(lambda ys: srx.segment_predictions(counted, TS, ys, diffrax.Tsit5()))(YS)
    # And once for the shape of what it returns.
    assert count == 2 * 6 + 1


def test_an_explicit_step_has_second_derivatives_in_every_order_of_modes():
    def end(y):
        return predict(diffrax.Heun(), TS[:1, :2], jnp.stack([y, y])[None], None, 1)[0, 0, 0]

    y = YS[0, 0]
    forward = jax.jit(jax.jacfwd(jax.jacrev(end)))(y)
    np.testing.assert_allclose(jax.jit(jax.jacrev(jax.jacfwd(end)))(y), forward, rtol=1e-12)
    assert np.any(np.asarray(forward) != 0)


@pytest.mark.slow
def test_the_samples_that_the_iteration_starts_from_do_not_enter_the_result():
    moved = YS.at[0, 1].add(jnp.array([0.3, -0.2]))
    found, plain = predict(RADAU, TS, moved, None, 1), predict(RADAU, TS, YS, None, 1)
    np.testing.assert_allclose(found[0, 0], plain[0, 0], rtol=1e-13)


@pytest.mark.slow
def kicked(t, y, args):
    """Of two branches, 1 and -1, one is left for the other in the second of three tenths."""
    return 100 * (y - y**3 + jnp.where(jnp.abs(t - 0.2) < 0.05, -10.0, 0.0))


# The real roots of the equations of the second and of the third step.
KICKED = np.roots([10, 0, -9, -np.roots([10, 0, -9, 99])[0].real]).real.min()


def test_each_step_of_a_flow_starts_its_iteration_where_the_step_before_has_come_to():
    flow = FixedStepFlow(kicked, BACKWARD_EULER, 0.3, 3)
    np.testing.assert_allclose(jax.jit(flow)(jnp.array(0.0), jnp.ones(1)), [KICKED], rtol=1e-9)


def test_where_a_sample_is_absent_no_step_is_led_back_to_the_one_before_it():
    ts, ys = jnp.array([[0.0, 0.3]]), jnp.ones((1, 2, 1))
    mask = jnp.array([[True, False]])
    solve = jax.jit(
        lambda ys: srx.segment_predictions(kicked, ts, ys, BACKWARD_EULER, 3, mask=mask)
    )
    predicted = solve(ys)
    np.testing.assert_allclose(predicted[0, 0], [KICKED], rtol=1e-9)


@pytest.mark.parametrize(
    ("solver", "needs"),
    [
        (diffrax.Kvaerno5(), "`Kvaerno5` was given, which needs the tolerances of an adaptive"),
        (diffrax.LeapfrogMidpoint(), "`LeapfrogMidpoint` was given, which needs the step before"),
    ],
)
def test_a_solver_that_takes_no_single_step_is_refused(solver, needs):
    with pytest.raises(ValueError, match=needs):
        srx.segment_predictions(model, TS, YS, solver)


def test_an_implicit_solver_of_diffrax_with_tolerances_predicts_as_well():
    solver = diffrax.ImplicitEuler(root_finder=diffrax.VeryChord(1e-10, 1e-10))
    found = jax.jit(FixedStepFlow(lambda t, y, args: -y, solver, 0.2, 2))(
        jnp.array(0.0), jnp.ones(1)
    )
    np.testing.assert_allclose(found, [1 / 1.1**2], rtol=1e-9)


def test_more_substeps_come_closer_to_the_solution():
    field = jax.jit(model)
    exact = [
        scipy.integrate.solve_ivp(
            field, (ts[k], ts[k + 1]), ys[k], "DOP853", args=(30.0,), rtol=1e-9, atol=1e-12
        ).y[:, -1]
        for ts, ys in zip(TS, YS, strict=True)
        for k in range(3)
    ]
    exact = np.reshape(exact, (2, 3, 2))
    errors = [float(jnp.max(jnp.abs(predict(RADAU, TS, YS, None, k) - exact))) for k in (1, 3)]
    assert errors[0] > 20 * errors[1]


@pytest.mark.slow
def test_float32_samples_give_float32_predictions():
    exact = predict(RADAU, TS, YS, None, 1)
    found = predict(RADAU, TS.astype("float32"), YS.astype("float32"), None, 1)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=2e-6)


def test_a_state_far_below_the_largest_keeps_its_digits_in_single_precision():
    # y' = -y^2 and z' = size y - 30 z^2 / size by one step of the implicit Euler method.

    @jax.jit
    def end(size):
        def field(t, y, args):
            return jnp.stack([-(y[0] ** 2), size * y[0] - 30 * y[1] * (y[1] / size)])

        ts = jnp.array([[0.0, 0.1]], size.dtype)
        ys = jnp.stack([jnp.array([1.0, 0.9], size.dtype), jnp.stack([size, size])], axis=-1)
        return srx.segment_predictions(field, ts, ys[None], BACKWARD_EULER)[0, 0, 1] / size

    y = (np.sqrt(1.4) - 1) / 0.2
    z = (np.sqrt(1 + 12 * (1 + 0.1 * y)) - 1) / 6
    for size in (1.0, 1e-10, 1e-13):
        np.testing.assert_allclose(end(np.float32(size)), z, rtol=1e-5)


@pytest.mark.slow
def test_batches_of_data_sets_are_predicted_as_each_alone():
    ys = jnp.stack([YS, 2 * YS])
    together = jax.vmap(lambda ys: srx.segment_predictions(model, TS, ys, RADAU))(ys)
    np.testing.assert_allclose(together[1], predict(RADAU, TS, ys[1], None, 1), rtol=1e-13)


@pytest.mark.usefixtures("unchecked_types")
class TestRaises:
    @pytest.mark.parametrize(
        ("ts", "ys"),
        [
            (TS[0], YS[0]),
            (TS, YS[0]),
            (TS, YS[..., 0]),
            (TS[:, :3], YS),
            (TS[:1], YS),
        ],
    )
    def test_wrong_shapes_are_refused(self, ts, ys):
        with pytest.raises(
            ValueError, match=r"`ts` of shape .* and `ys` of shape .*\(runs, times, n"
        ):
            srx.segment_predictions(model, ts, ys, RADAU)

    def test_one_sample_a_run_is_refused(self):
        with pytest.raises(
            ValueError, match=r"`ts` of shape \(2, 1\) has one sample a run.*longer"
        ):
            srx.segment_predictions(model, TS[:, :1], YS[:, :1], RADAU)

    @pytest.mark.parametrize("dtype", [int, complex])
    def test_states_that_are_not_real_floating_point_are_refused(self, dtype):
        ys = np.ones(YS.shape, dtype)
        with pytest.raises(
            ValueError, match=rf"`ys` of dtype {ys.dtype}.*Convert with `jnp.asarray"
        ):
            srx.segment_predictions(model, TS, ys, RADAU)

    def test_integer_times_are_refused(self):
        with pytest.raises(ValueError, match=r"`ts` of dtype int64 .* must be real floating"):
            srx.segment_predictions(model, np.array([[0, 1]]), YS[:1, :2], RADAU)

    @pytest.mark.parametrize("substeps", [0, -1, 1.0, True, None])
    def test_substeps_that_are_no_positive_integer_are_refused(self, substeps):
        with pytest.raises(ValueError, match=rf"`substeps={substeps}` .* Write `substeps=1`"):
            srx.segment_predictions(model, TS, YS, RADAU, substeps)

    @pytest.mark.parametrize("mask", [ALL[0], ALL[:, 1:], ALL.astype(int)])
    def test_masks_of_another_shape_or_dtype_are_refused(self, mask):
        with pytest.raises(ValueError, match=r"`mask` of shape .* dtype bool: `True` where"):
            srx.segment_predictions(model, TS, YS, RADAU, mask=mask)

    def test_models_that_return_another_shape_are_refused(self):
        with pytest.raises(ValueError, match=r"`model` returns an array of shape \(1,\) for"):
            srx.segment_predictions(lambda t, y, args: y[:1], TS, YS, RADAU)


def test_a_derivative_that_would_be_that_of_all_states_is_refused():
    ts, ys = jnp.arange(3.0)[None], jnp.ones((1, 3, 2))
    with pytest.raises(ValueError, match=r"`model` returns an array of shape \(1,\)"):
        srx.segment_predictions(lambda t, y, args: -y[:1], ts, ys, diffrax.Tsit5())
