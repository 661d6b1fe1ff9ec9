"""What is said of a solve, and of the order and stability of a method."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.diagnostics import explain


@functools.cache
def solve(kind):
    fields = {
        "blow up": (lambda t, y, args: jnp.stack([-y[0], y[1] ** 2]), 2.0, {}),
        "fine": (lambda t, y, args: -y, 2.0, {}),
        "few steps": (lambda t, y, args: -1e3 * (y - jnp.cos(t)), 2.0, {"max_steps": 5}),
        "backward": (lambda t, y, args: jnp.stack([y[0], -(y[1] ** 2)]), -2.0, {}),
    }
    field, t1, options = fields[kind]
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        t1,
        0.1 if t1 > 0 else -0.1,
        jnp.ones(2),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-8, dtmin=1e-9),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
        **options,
    )


def test_a_success_is_its_work():
    stats = solve("fine").stats
    text = explain(solve("fine"))
    assert text.startswith(f"{stats['num_steps']} steps, ")
    assert f"{stats['num_factorizations']} factorizations." in text
    assert "To try" not in text


def test_a_singularity_is_found_in_time_and_component():
    first, *_, last = explain(solve("blow up"), names=["calm", "wild"]).splitlines()
    assert first.startswith("Failed in the step from t = 1 with h = ")
    assert "wild" in first
    assert last.startswith("To try: lower `dtmin`")


def test_time_that_runs_backward_is_shown_as_the_caller_has_it():
    assert "from t = -1 " in explain(solve("backward"))


def test_the_limit_of_steps_is_named():
    text = explain(solve("few steps"))
    assert text.startswith("Stopped at the limit of steps, in the step from t = ")
    assert "raise `max_steps`" in text


def test_no_counts():
    plain = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y), srx.RadauIIA5(), 0.0, 1.0, 0.5, jnp.ones(1)
    )
    with pytest.raises(ValueError, match=r"no counts.*adjoint=stiffrax.DiscreteAdjoint\(\)"):
        explain(plain)


def test_a_batch():
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), solve("fine"))
    with pytest.raises(ValueError, match=r"batch of shape \(2,\).*lambda x: x\[0\]"):
        explain(batch)


method_report = srx.diagnostics.method_report
RK4 = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)


def test_rk4_has_its_known_order_and_stability_intervals():
    report = method_report(srx.LearnableRungeKutta.from_tableau(RK4).tableau)
    assert report.order == 4
    assert report.residuals[4] > 1e-3
    assert report.real_interval == pytest.approx(2.78529356, abs=1e-6)
    assert report.imaginary_interval == pytest.approx(np.sqrt(8), abs=1e-6)
    assert report.at_infinity == np.inf
    assert not report.a_stable


def test_methods_that_are_stable_on_the_whole_axis_say_so():
    report = method_report(srx.tableaus.radau_iia(3))
    assert (report.order, report.a_stable, report.at_infinity) == (5, True, 0)
    assert report.real_interval == report.imaginary_interval == np.inf
    assert "order 5, L-stable" in repr(report)


def test_an_implicit_method_that_is_not_a_stable_gets_its_angle():
    # The theta method with theta = 0.4 is stable for |z| < 10 on the real axis only.
    report = method_report((np.full((1, 1), 0.4), np.ones(1), np.full(1, 0.4)))
    assert report.real_interval == pytest.approx(10.0)
    assert report.at_infinity == pytest.approx(1.5)
    assert "A(alpha)-stable, alpha = 0.0" in repr(report)


def test_a_method_whose_nodes_are_not_the_row_sums_has_at_most_order_one():
    report = method_report((RK4[0], RK4[1], RK4[2] + 0.1))
    assert report.order == 1
    assert report.row_sums == pytest.approx(0.1)


def test_an_inconsistent_method_has_order_zero():
    assert method_report((jnp.zeros((1, 1)), jnp.array([0.9]), jnp.zeros(1))).order == 0


def test_stable_tableaus_are_reported_as_such():
    solver = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2), stability="L")
    moved = jax.tree.map(lambda x: x + jnp.arange(x.size).reshape(x.shape), solver.tableau)
    assert "order 2, L-stable" in repr(method_report(moved))
