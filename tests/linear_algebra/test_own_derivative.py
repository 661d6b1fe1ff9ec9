import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from stiffrax.linear_algebra._own_derivative import with_derivative


def newton_root(x, start):
    """The square root by an iteration that nothing may differentiate."""
    return lax.while_loop(
        lambda y: jnp.abs(y * y - x) > 1e-14 * x, lambda y: (y + x / y) / 2, start
    )


def rule(primals, tangents):
    x, start = primals
    y = root(x, start)
    return y, None if tangents[0] is None else tangents[0] / (2 * y)


root = with_derivative("square_root", newton_root, rule)


def in_a_scan(x):
    """The argument to the power 1/8 + 1/4 + 1/2, the constant also in the loop."""
    step = lambda y, _: (root(y, x), y)
    last, before = lax.scan(step, x, None, length=3)
    return last * jnp.prod(before[1:])


@pytest.mark.slow
def test_every_order_of_differentiation_in_a_scan_uses_the_rule():
    power, x = 7 / 8, 3.0
    slope = power * x ** (power - 1)
    curvature = slope * (power - 1) / x
    np.testing.assert_allclose(jax.grad(in_a_scan)(x), slope, rtol=1e-12)
    for second in (jax.jacfwd(jax.grad(in_a_scan)), jax.grad(jax.grad(in_a_scan))):
        np.testing.assert_allclose(second(x), curvature, rtol=1e-12)
    third = jax.grad(jax.jacfwd(jax.grad(in_a_scan)))(x)
    np.testing.assert_allclose(third, curvature * (power - 2) / x, rtol=1e-12)


def test_lanes_are_differentiated_each_for_itself():
    x = jnp.array([1.0, 4.0, 9.0])
    found = jax.jit(jax.vmap(jax.grad(root), (0, None)))(x, 1.0)
    np.testing.assert_allclose(found, 1 / (2 * jnp.sqrt(x)), rtol=1e-12)


def test_what_has_no_tangent_is_not_differentiated():
    assert jax.jvp(lambda start: root(4.0, start), (1.0,), (1.0,))[1] == 0
