import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from stiffrax.stages import (
    Dense,
    StageSystem,
    estimate_error,
    factorize,
    flat_field,
    stiff_part,
)
from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia, stability_function

TABLEAUS = [*map(radau_iia, (1, 2, 3, 5)), *map(gauss, (2, 3)), lobatto_iiia(2)]
every_tableau = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)


def strict(error):
    return optx.rms_norm(error) / 1e-6


@eqx.filter_jit
def estimate(tableau, z, scaled_norm, y0):
    t, h = jnp.array(0.0), jnp.array(1.0)
    field, _, _ = flat_field(lambda t, y: z * y, t, y0)
    system = StageSystem(tableau, field, t, h, h, y0, None).with_start_slope()
    matrix = tableau.A_inverse - z * np.eye(tableau.num_stages)
    slope = 0 if system.hf0 is None else tableau.explicit_weights * system.hf0
    Z = jnp.linalg.solve(matrix, z * y0[0] * np.ones(tableau.num_stages) + slope)[:, None]
    hJ = jnp.array([[z]])
    apply_filter = factorize(tableau.transform, hJ, Dense(), gamma=tableau.gamma).solve_real
    return estimate_error(system, Z, h * field(t, y0), apply_filter, scaled_norm)[0][0]


def linear_estimate(tableau, z, scaled_norm=None, y0=1.0):
    """The estimate for a step of `y' = z y` of length one, from stages solved in closed form."""
    # Arrays: one program for all rates and starts.
    return estimate(tableau, jnp.asarray(z), scaled_norm, jnp.asarray([y0]))


@every_tableau
def test_the_estimate_has_the_order_that_the_controller_is_told(tableau):
    z = -0.01 if tableau.num_stages < 4 else -0.1  # above rounding
    order = jnp.log2(linear_estimate(tableau, 2 * z) / linear_estimate(tableau, z))
    assert abs(order - tableau.error_order) < 0.15


@every_tableau
@pytest.mark.parametrize("z", [-1e3, -1e9])
def test_the_estimate_of_a_stiff_component_stays_of_the_size_of_the_component(tableau, z):
    # Without the filter it would grow like |z|, and every step would be rejected.
    assert abs(linear_estimate(tableau, jnp.array(z))) < 5


@pytest.mark.parametrize("tableau", [gauss(1), gauss(3), lobatto_iiia(2)], ids=lambda t: t.name)
def test_what_a_method_leaves_undamped_stays_in_its_estimate(tableau):
    left = abs(float(linear_estimate(tableau, jnp.array(-1e9), strict)))
    np.testing.assert_allclose(left, 1.0, rtol=1e-6)


@eqx.filter_jit
def stiff_part_of(tableau, z, error):
    t, h, y0 = jnp.array(0.0), jnp.array(1.0), jnp.array([1.0])
    field, _, _ = flat_field(lambda t, y: z * y, t, y0)
    system = StageSystem(tableau, field, t, h, h, y0, None)
    hJ = jnp.array([[z]])
    apply_filter = factorize(tableau.transform, hJ, Dense(), gamma=tableau.gamma).solve_real
    return stiff_part(system, error[None], apply_filter)[0][0]


def linear_stiff_part(tableau, z, error):
    return float(stiff_part_of(tableau, jnp.asarray(z), jnp.asarray(error)))


@every_tableau
class TestStiffPart:
    def test_the_estimate_of_a_stiff_component_is_stiff(self, tableau):
        np.testing.assert_allclose(linear_stiff_part(tableau, -1e9, 2.0), 2.0, rtol=1e-6)

    def test_elsewhere_it_is_two_orders_higher_than_the_error_itself(self, tableau):
        ratio = linear_stiff_part(tableau, -2e-3, 1.0) / linear_stiff_part(tableau, -1e-3, 1.0)
        order = tableau.error_order + np.log2(ratio)
        assert abs(order - (tableau.order + 3)) < 0.05


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 7])
def test_an_estimate_that_would_reject_is_computed_once_more_and_vanishes_at_infinity(stages):
    tableau, z = radau_iia(stages), jnp.array(-1e9)
    assert abs(linear_estimate(tableau, z)) > 0.1
    assert abs(linear_estimate(tableau, z, strict)) < 1e-6


def test_an_estimate_that_would_be_accepted_is_left_alone():
    tableau, z = radau_iia(3), jnp.array(-0.1)
    lenient = lambda error: optx.rms_norm(error) / 1e6
    plain = linear_estimate(tableau, z)
    np.testing.assert_allclose(linear_estimate(tableau, z, lenient), plain, rtol=1e-14)


def test_a_repetition_that_leads_out_of_the_domain_is_dropped():
    # f0 is finite, f at the corrected start is not: the first estimate stands.
    tableau, y0, h = radau_iia(1), jnp.array([0.01]), jnp.array(1.0)
    field, _, _ = flat_field(lambda t, y: -jnp.sqrt(y), jnp.array(0.0), y0)
    system = StageSystem(tableau, field, jnp.array(0.0), h, h, y0, None)
    hJ, f0 = jnp.zeros((1, 1)), field(jnp.array(0.0), y0)
    apply_filter = factorize(tableau.transform, hJ, Dense(), gamma=tableau.gamma).solve_real
    Z = jnp.zeros((1, 1))
    plain, _ = estimate_error(system, Z, f0, apply_filter, None)
    repeated, _ = estimate_error(system, Z, f0, apply_filter, lambda error: jnp.array(2.0))
    assert y0 + plain < 0
    assert repeated == plain


def test_one_lane_that_is_rejected_changes_no_bit_of_the_others():
    tableau = radau_iia(3)
    norm = lambda error: optx.rms_norm(error) / 1e-3
    estimates = jax.jit(jax.vmap(lambda y0: linear_estimate(tableau, -1.0, norm, y0)))
    calm = estimates(jnp.array([0.1, 0.1, 0.2]))
    wild = estimates(jnp.array([0.1, 1e6, 0.2]))
    np.testing.assert_array_equal(wild[::2], calm[::2])


@every_tableau
def test_the_estimate_bounds_the_error_of_a_step_of_moderate_size(tableau):
    z = jnp.array(-0.5)
    error = abs(float(stability_function(tableau, -0.5)) - np.exp(-0.5))
    assert abs(linear_estimate(tableau, z)) > 0.5 * error
