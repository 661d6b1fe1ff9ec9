import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

STEP = srx.CollocationInterpolation(
    t0=1.0,
    t1=3.0,
    y0={"a": jnp.array(2.0), "b": jnp.zeros(2)},
    coefficients={"a": jnp.array([3.0, 4.0]), "b": jnp.array([[1.0, 0.0], [0.0, 2.0]])},
)


def test_a_step_of_length_zero_is_its_start_with_finite_derivatives():
    def value(t):
        step = srx.CollocationInterpolation(
            t0=t, t1=t, y0=jnp.ones(1), coefficients=jnp.ones((2, 1))
        )
        return step.evaluate(t)[0]

    assert value(1.0) == 1.0
    assert jax.grad(value)(1.0) == 0.0


def test_the_polynomial_counts_from_the_start_in_units_of_the_step():
    value = STEP.evaluate(2.0)
    assert value["a"] == 2 + 3 / 2 + 4 / 4
    assert value["b"].tolist() == [0.5, 0.5]


def test_two_times_give_the_increment_between_them():
    increment = STEP.evaluate(1.0, 3.0)
    assert increment["a"] == 7.0
    assert increment["b"].tolist() == [1.0, 2.0]


def test_the_derivative_is_that_of_the_polynomial():
    slope = STEP.derivative(2.0)
    np.testing.assert_allclose(slope["a"], (3 + 2 * 4 * 0.5) / 2, rtol=1e-15)
    np.testing.assert_allclose(slope["b"], [0.5, 1.0], rtol=1e-15)


def test_steps_backward_in_time_are_evaluated_alike():
    step = srx.CollocationInterpolation(
        t0=3.0, t1=1.0, y0=jnp.array([2.0]), coefficients=jnp.array([[4.0]])
    )
    assert step.evaluate(1.5) == 2 + 4 * 0.75


def test_times_of_a_wider_dtype_keep_the_dtype_of_the_state():
    step = srx.CollocationInterpolation(
        t0=jnp.array(0.0),
        t1=jnp.array(1.0),
        y0=jnp.ones(1, "float32"),
        coefficients=jnp.ones((1, 1), "float32"),
    )
    assert step.evaluate(jnp.array(0.5)).dtype == jnp.float32


def test_steps_gathered_for_many_times_are_refused():
    steps = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 3), STEP)
    with pytest.raises(ValueError, match=r"shape \(3,\) were given.*jax.vmap\(solution.evaluate\)"):
        steps.evaluate(jnp.array([1.0, 2.0, 3.0]))
