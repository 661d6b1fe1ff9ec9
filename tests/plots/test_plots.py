"""What the pictures show: labels, scales and the numbers drawn."""

import dataclasses
import sys

import diffrax
import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import stiffrax as srx

TS = np.linspace(0.0, 1.0, 6)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def two_states():
    ys = np.stack([np.exp(-TS), np.exp(-2 * TS)], axis=-1)
    return srx.Trajectories.from_arrays(TS, np.stack([ys, 2 * ys]), names=["a", "b"])


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_trajectories_draw_each_state_of_the_run_asked_for():
    data = two_states()
    axes = srx.plots.trajectories(data, {"model": (TS, np.zeros((6, 2)))}, run=1)
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    assert labels(axes[0]) == ["data", "model"]
    np.testing.assert_allclose(axes[1].get_lines()[0].get_ydata(), 2 * np.exp(-2 * TS))


def test_a_logarithmic_time_leaves_out_zero():
    axes = srx.plots.trajectories(two_states(), log_time=True)
    assert axes[0].get_xscale() == "log"
    assert axes[0].get_lines()[0].get_xdata()[0] == TS[1]


def test_trajectories_go_into_the_axes_given():
    figure, axes = plt.subplots(2, 1)
    assert list(srx.plots.trajectories(two_states(), axes=axes)) == list(axes)
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": 7}, r"run=7.*2 runs"),
        ({"predictions": {"model": (TS, np.zeros(6))}}, r"'model'.*\(times, 2\)"),
    ],
)
def test_what_trajectories_cannot_draw_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        srx.plots.trajectories(two_states(), **options)


def test_too_few_axes_are_refused():
    with pytest.raises(ValueError, match="1 axes; 2 are needed"):
        srx.plots.trajectories(two_states(), axes=plt.figure().gca())


def training_history():
    return srx.History(
        solved_loss=np.array([1.0, 0.1]),
        gradient_norm=np.array([3.0, 2.0]),
        num_failed=np.zeros(2, int),
        held_out_steps=np.array([1]),
        held_out_loss=np.array([0.5]),
    )


def test_a_history_has_losses_and_the_gradient_norm_on_scales_of_their_own():
    ax, beside = srx.plots.history(training_history())
    assert (ax.get_yscale(), beside.get_yscale()) == ("log", "log")
    assert labels(ax) == ["training", "held out"]
    np.testing.assert_array_equal(beside.get_lines()[0].get_ydata(), [3.0, 2.0])


def test_a_loss_that_becomes_negative_is_drawn():
    for name, values in (("solved_loss", [1.0, -1.0]), ("held_out_loss", [-0.5])):
        history = dataclasses.replace(training_history(), **{name: np.array(values)})
        ax, _ = srx.plots.history(history)
        assert ax.get_yscale() == "linear"


def test_coefficients_tell_missing_and_extra_terms_apart():
    true = srx.from_text("dx/dt = -2*x + 4*x**2")
    found = srx.from_text("dx/dt = -2.1*x + 0.1")
    ax = srx.plots.coefficients(srx.compare(found, true))
    drawn = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    np.testing.assert_allclose(drawn["found"], [[2.0, 2.1]])
    assert drawn["missing"][0, 0] == 4.0
    assert drawn["extra"][0, 1] == 0.1


def test_a_wrong_sign_is_not_drawn_as_found():
    true, found = srx.from_text("dx/dt = -2*x + 4*x**2"), srx.from_text("dx/dt = 2*x + 4*x**2")
    ax = srx.plots.coefficients(srx.compare(found, true))
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert (drawn["found"], drawn["wrong sign"]) == ([[4.0, 4.0]], [[2.0, 2.0]])
    assert len({line.get_marker() for line in ax.get_lines()}) == 5
    assert labels(ax) == ["found", "missing", "extra", "wrong sign"]


def test_no_terms_cannot_be_drawn():
    for text in ("dx/dt = 0", "dx/dt = exp(x - 800)"):
        system = srx.from_text(text)
        with pytest.raises(ValueError, match="no coefficient that a float holds"):
            srx.plots.coefficients(srx.compare(system, system))


def test_work_precision_sorts_by_error_and_grows_to_the_right():
    ax = srx.plots.work_precision({"A": ([1e-6, 1e-4], [2.0, 1.0])}, work="steps")
    assert ax.xaxis_inverted()
    assert ax.get_ylabel() == "steps"
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [1e-6, 1e-4])


def test_work_precision_refuses_curves_of_unequal_length():
    with pytest.raises(ValueError, match="'A'.*equal length"):
        srx.plots.work_precision({"A": ([1e-6], [2.0, 1.0])})


def test_the_edge_of_a_stability_region_is_where_the_stability_function_has_size_one():
    ax = srx.plots.stability_region(srx.tableaus.radau_iia(2))
    (path,) = ax.collections[-1].get_paths()
    edge = np.concatenate(path.to_polygons())
    z = edge[:, 0] + 1j * edge[:, 1]
    size = np.abs(srx.tableaus.stability_function(srx.tableaus.radau_iia(2), z))
    np.testing.assert_allclose(size, 1, atol=1e-2)


def test_an_order_star_is_on_a_plane_of_equal_scales():
    ax = srx.plots.order_star(srx.tableaus.gauss(2))
    assert ax.get_aspect() == 1
    assert ax.get_ylabel() == "Im z"


@pytest.mark.parametrize("draw", [srx.plots.order_star, srx.plots.stability_region])
def test_an_extent_without_area_is_refused(draw):
    with pytest.raises(ValueError, match="left < right"):
        draw(srx.tableaus.gauss(1), extent=(1.0, 1.0, 0.0, 1.0))


# One object, so that nothing compiles twice.
TERM = diffrax.ODETerm(lambda t, y, args: -y)


def decay(**options):
    # Nothing drawn depends on the method, and this one compiles fastest.
    saveat = diffrax.SaveAt(**options)
    return diffrax.diffeqsolve(TERM, diffrax.Euler(), 0.0, 1.0, 0.5, jnp.array(1.0), saveat=saveat)


def test_steps_are_the_differences_of_their_ends():
    ax = srx.plots.steps(decay(steps=True), log_time=True)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.5, 0.5])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_a_solution_without_steps_is_refused():
    with pytest.raises(ValueError, match=r"SaveAt\(steps=True\)"):
        srx.plots.steps(decay(t0=True))


@pytest.mark.parametrize(
    "options",
    [{"t1": True}, {"ts": jnp.linspace(0, 1, 5)}, {"steps": True, "ts": jnp.array([0.3])}],
)
def test_times_that_are_no_ends_of_steps_are_refused(options):
    with pytest.raises(ValueError, match="and took 2 steps: other times than the ends"):
        srx.plots.steps(decay(**options))


def test_the_start_and_the_end_are_no_steps_of_their_own():
    ax = srx.plots.steps(decay(steps=True, t0=True, t1=True))
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.5, 0.5])


def test_a_step_of_no_length_from_a_start_right_before_a_jump_is_not_drawn():
    solution = decay(steps=True)
    ts = jnp.array([solution.t0, *solution.ts[:2]])
    stopped = eqx.tree_at(
        lambda s: (s.ts, s.stats["num_accepted_steps"]), solution, (ts, jnp.array(3))
    )
    ax = srx.plots.steps(stopped)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.5, 0.5])


@pytest.mark.slow
def test_a_solve_from_right_before_a_jump_is_drawn():
    before = float(np.nextafter(1.0, 0.0))
    jumps = diffrax.ClipStepSizeController(
        diffrax.PIDController(1e-2, 1e-2), jump_ts=jnp.array([1.0])
    )
    solution = diffrax.diffeqsolve(
        TERM,
        srx.RadauIIA5(),
        before,
        2.0,
        0.1,
        jnp.array(1.0),
        saveat=diffrax.SaveAt(steps=True),
        stepsize_controller=jumps,
        max_steps=64,
    )
    sizes = srx.plots.steps(solution).get_lines()[0].get_ydata()
    assert len(sizes) >= int(solution.stats["num_accepted_steps"]) - 1
    assert np.all(sizes > 0)
    np.testing.assert_allclose(np.sum(sizes), 1.0)


def test_a_batch_of_solutions_is_refused():
    batch = eqx.tree_at(lambda s: s.ts, decay(steps=True), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="first lane"):
        srx.plots.steps(batch)


def test_lyapunov_exponents_end_at_their_means():
    spectrum = srx.diagnostics.LyapunovSpectrum(
        exponents=jnp.array([0.5, -1.0]),
        standard_errors=jnp.array([0.1, 0.1]),
        local=jnp.array([[[0.4, -0.8], [0.6, -1.2]]]),
        interval=2.0,
        y1=jnp.zeros((1, 2)),
        num_failed=jnp.array(0),
    )
    lines = srx.plots.lyapunov_convergence(spectrum).get_lines()
    assert [line.get_ydata()[-1] for line in lines] == pytest.approx([0.5, -1.0])
    np.testing.assert_array_equal(lines[0].get_xdata(), [2.0, 4.0])


def test_lyapunov_exponents_are_drawn_without_starts_that_failed():
    # The first start fails in its second interval.
    local = jnp.array([[[9.0, -9.0], [jnp.nan, jnp.nan]], [[0.4, -0.8], [0.6, -1.2]]])
    spectrum = srx.diagnostics.LyapunovSpectrum(
        exponents=jnp.array([0.5, -1.0]),
        standard_errors=jnp.array([0.1, 0.1]),
        local=local,
        interval=2.0,
        y1=jnp.zeros((2, 2)),
        num_failed=jnp.array(1),
    )
    lines = srx.plots.lyapunov_convergence(spectrum).get_lines()
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.4, -0.8])
    failed = eqx.tree_at(lambda s: s.local, spectrum, local[:1])
    with pytest.raises(ValueError, match="and 1 of 1 starts failed"):
        srx.plots.lyapunov_convergence(failed)


def test_lyapunov_exponents_are_drawn_without_those_that_got_lost():
    spectrum = srx.diagnostics.LyapunovSpectrum(
        exponents=jnp.array([0.5, jnp.nan]),
        standard_errors=jnp.array([0.1, jnp.nan]),
        local=jnp.array([[[0.4, jnp.nan], [0.6, jnp.nan]]]),
        interval=2.0,
        y1=jnp.zeros((1, 2)),
        num_failed=jnp.array(0),
    )
    ax = srx.plots.lyapunov_convergence(spectrum)
    assert labels(ax) == ["exponent 1"]
    assert ax.get_lines()[0].get_ydata() == pytest.approx([0.4, 0.5])
    none = eqx.tree_at(lambda s: s.exponents, spectrum, jnp.full(2, jnp.nan))
    with pytest.raises(ValueError, match="no exponent to draw, and 0 of 1 starts"):
        srx.plots.lyapunov_convergence(none)


def test_a_loss_landscape_has_a_curve_for_each_loss():
    x = np.linspace(-1, 1, 5)
    ax = srx.plots.loss_landscape(x, {"coupled": 1 + x**2, "free": 2 + x}, log=False)
    assert labels(ax) == ["coupled", "free"]
    assert ax.get_yscale() == "linear"


def test_a_loss_of_another_length_is_refused():
    with pytest.raises(ValueError, match="'free'.*one value for each position"):
        srx.plots.loss_landscape(np.zeros(5), {"free": np.zeros(4)})


def test_without_matplotlib_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ValueError, match=r"pip install 'stiffrax\[plots\]'"):
        srx.plots.loss_landscape(np.zeros(5), {"free": np.zeros(5)})


def recorded():
    """A solve with a record of two accepted steps, one refused by its error, one not solved."""
    history = srx.StepHistory(
        t=jnp.array([0.0, 1.0, 1.0, 1.0, jnp.nan]),
        h=jnp.array([1.0, 4.0, 2.0, 1.0, jnp.nan]),
        accepted=jnp.array([True, False, False, True, False]),
        converged=jnp.array([True, False, True, True, False]),
        newton_iterations=jnp.array([3, 10, 4, 2, 0]),
        count=jnp.array(4),
        memory=None,
    )
    return eqx.tree_at(
        lambda s: s.controller_state, decay(t1=True), history, is_leaf=lambda x: x is None
    )


def test_newton_iterations_tell_rejected_steps_from_failed_iterations():
    ax = srx.plots.newton_iterations(recorded(), log_time=True)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert drawn == {
        "accepted": [[1.0, 3.0], [2.0, 2.0]],
        "rejected by the error": [[3.0, 4.0]],
        "iteration failed": [[5.0, 10.0]],
    }
    assert labels(ax) == list(drawn)
    assert ax.get_xscale() == "log"


def test_a_solution_without_a_record_is_refused():
    with pytest.raises(ValueError, match="no record of its steps.*RecordingController"):
        srx.plots.newton_iterations(decay(steps=True))


def test_a_record_that_misses_steps_is_refused():
    short = eqx.tree_at(lambda s: s.controller_state.count, recorded(), jnp.array(9000))
    with pytest.raises(ValueError, match=r"of 9000 attempted steps.*num_rows=9000"):
        srx.plots.newton_iterations(short)


def test_runs_are_numbered_by_integers_of_any_library():
    axes = srx.plots.trajectories(two_states(), run=np.int64(1))
    np.testing.assert_allclose(axes[1].get_lines()[0].get_ydata(), 2 * np.exp(-2 * TS))
    with pytest.raises(ValueError, match="`run=True` was given"):
        srx.plots.trajectories(two_states(), run=True)


def test_a_batch_of_records_is_refused():
    batch = eqx.tree_at(lambda s: s.controller_state.count, recorded(), jnp.array([4, 4]))
    with pytest.raises(ValueError, match="first lane"):
        srx.plots.newton_iterations(batch)


@pytest.fixture(scope="module")
def fitted():
    values = np.exp(-TS) + 0.01 * np.array([1, -1, 1, 1, -1, 0])
    data = srx.Measurements.from_arrays(TS, values[:, None], names=["A"], sd=0.01)
    system = srx.System(lambda t, y, args: -y, srx.bounded([0.5], 0.0, 2.0), states=["A"])
    return srx.fit_parameters(system, data, srx.LikelihoodLoss())


@pytest.mark.slow
def test_a_fit_is_drawn_through_measurements_with_error_bars(fitted):
    (ax,) = srx.plots.measured_fit(fitted, points=6)
    assert labels(ax) == ["fit", "measured"]
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), fitted.band().values[0, :, 0])


@pytest.mark.slow
def test_a_band_without_an_end_fills_the_picture():
    def field(t, y, args):
        return -jnp.stack([args["a"], args["b"]]) * y

    # Of B nothing is measured after the start.
    table = {"t": [0.0, 1.0, 2.0], "A": [1.0, 0.4, 0.1], "B": [1.0, None, None]}
    data = srx.Measurements.from_table(table, sd={"A": 0.1, "B": 0.1})
    rates = {"a": srx.positive(1.0, 0.1, 10.0), "b": srx.positive(1.0, 0.1, 10.0)}
    system = srx.System(field, jnp.ones(2), states=["A", "B"], parameters=rates)
    fit = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    (_, ax) = srx.plots.measured_fit(fit, points=5)
    edges = ax.collections[-1].get_paths()[0].vertices[:, 1]
    assert np.all(np.isfinite(edges))
    assert np.ptp(edges) > 0.5


@pytest.mark.slow
def test_residuals_are_drawn_against_normal_quantiles(fitted):
    points = srx.plots.normal_quantiles(fitted).get_lines()[0]
    np.testing.assert_allclose(points.get_ydata(), np.sort(fitted.residuals()))
    np.testing.assert_allclose(points.get_xdata(), -points.get_xdata()[::-1])


@pytest.mark.slow
def test_a_waterfall_begins_at_the_best_start(fitted):
    assert srx.plots.waterfall(fitted).get_lines()[0].get_ydata()[0] == 1e-3


@pytest.mark.slow
def test_profiles_show_the_level_of_their_intervals(fitted):
    found = fitted.profile()
    (ax,) = srx.plots.profiles(found)
    assert ax.get_lines()[1].get_ydata()[0] == found["initial_state[0]"].level_cost
