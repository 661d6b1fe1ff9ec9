"""What is said of the order and stability of a method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

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
    moved = jax.tree.map(
        lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), solver.tableau
    )
    assert "order 2, L-stable" in repr(method_report(moved))
