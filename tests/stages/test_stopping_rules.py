import jax.numpy as jnp
import numpy as np
import pytest
from optimistix import RESULTS, max_norm, rms_norm, root_find

from stiffrax import SimplifiedNewton
from stiffrax.stages import (
    error_controlled_rule,
    error_tolerance,
    given_tolerance_rule,
    rounding_rule,
)
from stiffrax.stages._stopping_rules import most_iterations
from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


@pytest.mark.parametrize("dtype", EPS)
class TestRoundingRule:
    def test_components_count_by_their_own_size_over_the_step(self, dtype):
        y0 = jnp.asarray([1e-3, 2.0], dtype)
        Z = jnp.asarray([[0.0, -1.0], [5e-3, -2.0]], dtype)
        weights = rounding_rule(y0).weights(Z)
        np.testing.assert_allclose(weights, [6e-3, 2.0], rtol=1e-6)
        assert weights.dtype == dtype

    def test_a_component_of_zero_counts_far_below_the_rounding_of_the_largest(self, dtype):
        y0 = jnp.asarray([0.0, 4.0], dtype)
        weights = rounding_rule(y0).weights(jnp.zeros((1, 2), dtype))
        np.testing.assert_allclose(weights, [4 * EPS[dtype] ** 2, 4.0], rtol=1e-6)

    def test_a_state_of_zero_has_weights_that_divide(self, dtype):
        y0 = jnp.zeros(2, dtype)
        weights = rounding_rule(y0).weights(jnp.zeros((1, 2), dtype))
        assert jnp.all((weights > 0) & jnp.isfinite(1 / weights))

    def test_converged_means_a_few_units_of_rounding(self, dtype):
        assert rounding_rule(jnp.ones(2, dtype)).kappa == 4 * EPS[dtype]

    def test_displacements_that_rounding_explains_are_noise_and_larger_ones_are_not(self, dtype):
        y0 = jnp.asarray([1.0, 100.0], dtype)
        noise, Z = rounding_rule(y0).noise, jnp.zeros((1, 2), dtype)
        assert noise(jnp.full((1, 2), 9e4 * EPS[dtype], dtype), Z)
        assert not noise(jnp.full((1, 2), 2e5 * EPS[dtype], dtype), Z)


def test_given_tolerances_scale_with_the_state():
    y0 = jnp.array([1.0, -4.0])
    rule = given_tolerance_rule(y0, 1e-2, 1e-3)
    weights = rule.weights(jnp.array([[1.0, 3.0]]))
    np.testing.assert_allclose(weights, 1e-3 + 1e-2 * np.array([2.0, 4.0]), rtol=1e-15)
    assert rule.kappa == 1.0


class TestErrorTolerance:
    @pytest.mark.parametrize(
        ("tableau", "power"),
        [(radau_iia(3), -1 / 3), (radau_iia(7), -3 / 7), (gauss(3), -3 / 7)],
    )
    def test_the_estimate_is_held_to_the_power_of_the_tolerance_that_its_order_asks(
        self, tableau, power
    ):
        tolerance = error_tolerance(tableau, jnp.ones(1), 1e-6, 0.0, rms_norm)
        np.testing.assert_allclose(tolerance.ratio, 0.1 * 1e-6**power, rtol=1e-12)

    @pytest.mark.parametrize(
        ("tableau", "power"),
        [(radau_iia(1), 0.5), (radau_iia(2), -0.1), (lobatto_iiia(2), -0.1), (gauss(1), -0.1)],
    )
    def test_methods_that_need_many_steps_answer_for_the_sum_of_their_errors(self, tableau, power):
        tolerance = error_tolerance(tableau, jnp.ones(1), 1e-6, 0.0, rms_norm)
        np.testing.assert_allclose(tolerance.ratio, 0.1 * 1e-6**power, rtol=1e-12)

    def test_an_error_of_one_is_the_transformed_tolerance(self):
        y0 = {"a": jnp.array(2.0), "b": jnp.array([-3.0])}
        tolerance = error_tolerance(radau_iia(3), y0, 1e-2, 1e-3, max_norm)
        error = 0.1 * 1e-2 ** (-1 / 3) * (1e-3 + 1e-2 * jnp.array([2.0, 3.0]))
        np.testing.assert_allclose(tolerance.scaled_norm(error), 1.0, rtol=1e-14)

    def test_without_a_relative_tolerance_the_absolute_one_sets_the_ratio(self):
        relative = error_tolerance(radau_iia(3), jnp.ones(1), 1e-6, 0.0, rms_norm)
        absolute = error_tolerance(radau_iia(3), jnp.ones(1), 0.0, 1e-6, rms_norm)
        np.testing.assert_allclose(absolute.ratio, relative.ratio, rtol=1e-14)

    @pytest.mark.parametrize("unit", [1e-40, 1e30])
    def test_an_absolute_tolerance_alone_makes_the_same_of_the_estimate_in_every_unit(self, unit):
        y0 = jnp.array([2.0, 1e-3])
        ones, scaled = (
            error_tolerance(radau_iia(5), u * y0, 0.0, u * 1e-8, rms_norm) for u in (1.0, unit)
        )
        np.testing.assert_allclose(scaled.ratio, ones.ratio, rtol=1e-12)
        np.testing.assert_allclose(ones.relative, ones.ratio * 1e-8 / 2, rtol=1e-12)

    def test_an_absolute_tolerance_that_is_the_larger_one_sets_the_ratio(self):
        given = [(1e-12, 1e-4), (0.0, 1e-5)]
        both, alone = (error_tolerance(radau_iia(5), jnp.ones(1), *x, rms_norm) for x in given)
        assert both.ratio == alone.ratio

    def test_a_state_of_zero_has_no_looser_estimate_than_its_tolerance(self):
        assert error_tolerance(radau_iia(5), jnp.zeros(2), 0.0, 1e-20, rms_norm).ratio == 0.1

    def test_relative_tolerances_of_components_count_by_the_least(self):
        y0, rtol = jnp.array([1.0, 4.0]), jnp.array([1e-3, 1e-6])
        tolerance = error_tolerance(radau_iia(3), y0, rtol, 0.0, rms_norm)
        least = error_tolerance(radau_iia(3), y0, 1e-6, 0.0, rms_norm)
        assert tolerance.ratio == least.ratio
        np.testing.assert_allclose(tolerance.scale, tolerance.ratio * rtol * y0, rtol=1e-12)

    def test_a_norm_is_of_the_state_and_of_several_stages_the_largest(self):
        y0 = {"a": jnp.array(2.0), "b": jnp.array([-3.0, 1.0])}
        norm = lambda error: jnp.abs(error["b"][0])
        tolerance = error_tolerance(radau_iia(3), y0, 1e-2, 0.0, norm)
        assert tolerance.norm(jnp.array([5.0, -7.0, 9.0])) == 7
        stages = jnp.array([[5.0, -7.0, 9.0], [50.0, 2.0, 90.0]])
        assert tolerance.norm(stages) == 7
        rule = error_controlled_rule(radau_iia(3), tolerance, jnp.ones(()))
        assert rule.norm is tolerance.norm

    @pytest.mark.parametrize("dtype", EPS)
    def test_tolerances_take_the_dtype_of_the_state(self, dtype):
        tolerance = error_tolerance(radau_iia(3), jnp.ones(1, dtype), 1e-4, 1e-6, rms_norm)
        assert {tolerance.scale.dtype, tolerance.ratio.dtype} == {jnp.dtype(dtype)}


def controlled(tableau, rtol, dtype="float64"):
    tolerance = error_tolerance(tableau, jnp.ones(1, dtype), rtol, 0.0, rms_norm)
    return error_controlled_rule(tableau, tolerance, jnp.ones((), dtype)), tolerance


def test_methods_of_high_order_iterate_to_a_smaller_fraction_of_the_tolerance():
    kappas = [float(controlled(radau_iia(s), 1e-6)[0].kappa) for s in (3, 5, 7)]
    assert kappas == sorted(kappas, reverse=True)
    # rtol' = 0.1 * 1e-6 ** (8 / 14), kappa = rtol' ** (6 / 8).
    np.testing.assert_allclose(kappas[2], (0.1 * 1e-6 ** (4 / 7)) ** 0.75, rtol=1e-12)


def test_a_contraction_is_never_trusted_beyond_a_bound_under_error_control():
    assert controlled(radau_iia(7), 1e-8)[0].least_eta == 0.03
    assert rounding_rule(jnp.ones(1)).least_eta == 0


def test_an_iteration_never_aims_below_rounding():
    for dtype, eps in EPS.items():
        rule, tolerance = controlled(radau_iia(3), eps, dtype)
        aim = float(rule.kappa) * float(tolerance.rtol)
        assert aim >= 9 * eps


def test_an_iteration_aims_below_an_absolute_tolerance_as_below_a_relative_one():
    y0 = jnp.array([1e-15])
    tolerances = [(0.0, 1e-21), (1e-6, 0.0)]
    rules = [
        error_controlled_rule(
            radau_iia(5), error_tolerance(radau_iia(5), y0, *given, rms_norm), jnp.ones(())
        )
        for given in tolerances
    ]
    np.testing.assert_allclose(rules[0].kappa, rules[1].kappa, rtol=1e-12)


def test_the_most_iterations_grow_with_the_stages():
    tableaus = [radau_iia(1), lobatto_iiia(2), radau_iia(3), radau_iia(5), radau_iia(7)]
    assert [most_iterations(tableau) for tableau in tableaus] == [7, 7, 7, 12, 17]


@pytest.mark.parametrize("stages", [1, 3, 7])
@pytest.mark.parametrize(("noise", "converges"), [(0.02, True), (1.0, False)])
def test_an_iteration_that_rounding_stops_has_converged_only_within_the_tolerance(
    stages, noise, converges
):
    tolerance = error_tolerance(radau_iia(stages), jnp.ones(1), 1e-7, 0.0, max_norm)
    rule = error_controlled_rule(radau_iia(stages), tolerance, jnp.ones(()))
    # The tolerance that was given, or what was made of it if that is stricter.
    size = noise * 1e-7 * min(1.0, float(tolerance.ratio))

    def residual(y, _):
        # Each iterate is on the other side of the root, as far away as the last one.
        return y - 2 + size / 2 * jnp.sign(y - 2)

    def result(start):
        newton, options = SimplifiedNewton(), {"rule": rule}
        start = jnp.array([[start]])
        return root_find(residual, newton, start, options=options, max_steps=50, throw=False).result

    starts = 2 + size * np.array([-2.0, -0.6, 0.6, 2.0])
    assert [result(start) == RESULTS.successful for start in starts] == [converges] * 4
