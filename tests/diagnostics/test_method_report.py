"""What is said of the order and stability of a method."""

import diffrax
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


@pytest.mark.parametrize(
    ("family", "stages", "order", "kind"),
    [
        ("radau_iia", 2, 3, np.float32),
        ("gauss", 4, 8, np.float32),
        ("radau_iia", 6, 11, np.float64),
        ("lobatto_iiia", 3, 4, np.float64),
        pytest.param("gauss", 15, 30, np.float64, marks=pytest.mark.slow),
        pytest.param("lobatto_iiia", 9, 16, np.float32, marks=pytest.mark.slow),
    ],
)
def test_orders_of_collocation_are_known_in_both_precisions(family, stages, order, kind):
    tableau = getattr(srx.tableaus, family)(stages)
    report = method_report(tuple(x.astype(kind) for x in (tableau.A, tableau.b, tableau.c)))
    assert (report.order, report.order_is_bound, report.a_stable) == (order, False, True)
    assert report.real_interval == report.imaginary_interval == np.inf
    assert report.l_stable == (family == "radau_iia")


@pytest.mark.parametrize(
    ("name", "order", "imaginary"),
    [
        ("Heun", 2, 0.0),
        ("Bosh3", 3, np.sqrt(3)),
        ("Kvaerno5", 5, np.inf),
        # It grows by 1e-18 at y = 0.1, where no number would tell.
        pytest.param("Dopri8", 8, 0.0, marks=pytest.mark.slow),
    ],
)
def test_methods_of_diffrax_are_known_in_both_precisions(name, order, imaginary):
    tableau = srx.LearnableRungeKutta.from_tableau(getattr(diffrax, name).tableau).tableau
    for kind in (jnp.float64, jnp.float32):
        report = method_report(jax.tree.map(lambda x, kind=kind: x.astype(kind), tableau))
        assert (report.order, report.order_is_bound) == (order, False)
        assert report.l_stable == (name == "Kvaerno5")
        assert report.imaginary_interval == pytest.approx(imaginary, rel=1e-6)


@pytest.mark.slow
def test_an_order_above_ten_that_nothing_implies_is_a_bound():
    gauss = srx.tableaus.gauss(6)
    # A stage that nothing uses is not of the order of the others.
    A = np.block([[gauss.A, np.zeros((6, 1))], [np.ones((1, 7)) / 7]])
    report = method_report((A, np.append(gauss.b, 0.0), A.sum(axis=1)))
    assert (report.order, report.order_is_bound) == (10, True)
    assert "order 10 or more" in repr(report)


def test_an_interval_ends_where_the_modulus_crosses_one_and_not_where_it_touches():
    # R = 1 - r + a r^2 has its minimum -1 at r = 4 for a = 1 / 8, and reaches 1 at r = 8.
    A = np.array([[0.0, 0.0], [0.25, 0.0]])
    report = method_report((A, np.array([0.5, 0.5]), A.sum(axis=1)))
    assert report.real_interval == pytest.approx(8.0)


def test_whole_numbers_are_coefficients():
    report = method_report((np.array([[0]]), np.array([1]), np.array([0])))
    assert (report.order, report.real_interval, report.angle) == (1, pytest.approx(2), 0)
