import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages import StageSystem, flat_field
from stiffrax.stages._stacked_solve import stacked_matrix
from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia


def pendulum(t, y):
    return {"angle": y["speed"], "speed": -jnp.sin(y["angle"]) + t * jnp.ones(2)}


T = jnp.array(0.0)
STATE = {"angle": jnp.array([0.3, 0.5]), "speed": jnp.array([1.0, -2.0])}


def system_of(tableau, y=STATE, vector_field=pendulum):
    t, dt = jnp.array(0.7), jnp.array(0.2)
    field, flat, _ = flat_field(vector_field, t, y)
    system = StageSystem(tableau, field, t, dt, dt, flat, None)
    return system.with_start_slope()


class TestFlatField:
    @pytest.mark.parametrize("leaf", [jnp.array(1), jnp.array(True)])
    def test_integer_states_are_refused(self, leaf):
        message = rf"leaf of dtype {leaf.dtype}.*Convert integers with `jnp.asarray\(y0, float\)`"
        with pytest.raises(ValueError, match=message):
            flat_field(lambda t, y: y, T, (jnp.array(1.0), leaf))

    @pytest.mark.parametrize(
        "slope",
        [
            lambda y: (y,),
            lambda y: y[:1],
            lambda y: y[None],
            lambda y: jnp.sum(y),
            lambda y: None,
        ],
    )
    def test_another_structure_than_the_state_is_refused(self, slope):
        message = r"vector field returned .* for a state of .*\[\(2,\)\].*one derivative for every"
        with pytest.raises(ValueError, match=message):
            flat_field(lambda t, y: slope(y), T, jnp.ones(2))

    def test_a_python_number_is_a_state(self):
        field, flat, restore = flat_field(lambda t, y: -y, T, 2.0)
        assert flat.shape == (1,)
        assert field(T, flat)[0] == -2.0
        assert restore(flat).shape == ()

    def test_an_integer_slope_takes_the_dtype_of_the_state(self):
        field, flat, _ = flat_field(lambda t, y: jnp.array([1, 2]), T, jnp.ones(2, "float32"))
        assert field(T, flat).dtype == jnp.float32

    def test_derivatives_reach_what_the_vector_field_closes_over(self):
        def slope(p):
            field, flat, _ = flat_field(lambda t, y: p * y, T, jnp.array([3.0]))
            return field(T, flat)[0]

        assert jax.grad(slope)(2.0) == 3.0

    def test_the_jacobian_is_that_of_the_flat_state(self):
        field, flat, _ = flat_field(pendulum, T, STATE)
        expected = np.zeros((4, 4))
        expected[:2, 2:] = np.eye(2)
        expected[2:, :2] = -np.diag(np.cos(STATE["angle"]))
        np.testing.assert_allclose(field.jacobian(T, flat), expected, rtol=1e-15)


class TestStageSystem:
    @pytest.mark.parametrize("tableau", [radau_iia(3), gauss(2)], ids=lambda t: t.name)
    def test_a_residual_of_zero_is_the_butcher_form(self, tableau):
        system = system_of(tableau)
        Z = jnp.asarray(np.random.default_rng(0).normal(size=(tableau.num_stages, 4)))
        # Z = A (A^-1 Z - R) + A R, and A^-1 Z - R = h F(Z).
        slopes = tableau.A_inverse @ Z - system.residual(Z)
        np.testing.assert_allclose(slopes, system.increments(Z), rtol=1e-12)
        times = 0.7 + 0.2 * tableau.c
        np.testing.assert_allclose(system.times, times, rtol=1e-15)
        np.testing.assert_allclose(
            system.increments(Z)[:, 2:],
            0.2
            * (
                -np.sin(np.asarray(STATE["angle"]) + np.asarray(Z[:, :2]))
                + np.asarray(times)[:, None]
            ),
            rtol=1e-13,
        )

    def test_the_explicit_stage_of_the_trapezoid_rule_enters_the_residual(self):
        system = system_of(lobatto_iiia(2))
        Z = jnp.ones((1, 4))
        f0 = system.field(system.t0, system.y0)
        f1 = system.field(system.t0 + system.dt, system.y0 + Z[0])
        np.testing.assert_allclose(system.residual(Z)[0], 2 * Z[0] - 0.2 * (f0 + f1), rtol=1e-14)

    @pytest.mark.slow_cases("Lobatto IIIA 2")
    @pytest.mark.parametrize("tableau", [radau_iia(3), lobatto_iiia(2)], ids=lambda t: t.name)
    def test_the_stacked_jacobian_is_that_of_the_residual(self, tableau):
        system = system_of(tableau)
        Z = jnp.asarray(np.random.default_rng(1).normal(size=(tableau.num_stages, 4)))

        @jax.jit
        def both(Z):
            hJ = system.h * system.stage_jacobians(Z)
            matrix = stacked_matrix(jnp.asarray(tableau.A_inverse), hJ)
            return matrix, jax.jacfwd(system.residual)(Z).reshape(matrix.shape)

        matrix, derivative = both(Z)
        np.testing.assert_allclose(matrix, derivative, atol=1e-14)

    @pytest.mark.slow
    def test_only_a_tableau_with_an_explicit_stage_has_a_start_slope(self):
        assert system_of(radau_iia(2)).hf0 is None
        hf0 = system_of(lobatto_iiia(2)).hf0
        np.testing.assert_allclose(hf0[:2], 0.2 * STATE["speed"], rtol=1e-15)
