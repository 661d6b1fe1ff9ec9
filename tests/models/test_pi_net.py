"""Pi-nets: the recursion, the expansion to a polynomial, the start."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import stiffrax as srx

KEY = jax.eval_shape(jax.random.key, 0)


def random_net(seed, num_states=3, width=5, degree=3, **keywords):
    """A network none of whose weights is zero, made without compiling anything."""
    rng = np.random.default_rng(seed)
    shapes = eqx.filter_eval_shape(
        lambda key: srx.PiNet(num_states, width, degree, key=key, **keywords), KEY
    )
    return jax.tree.map(lambda x: jnp.array(rng.normal(size=x.shape)), shapes)


@eqx.filter_jit
def values_and_expanded_values(net, ys):
    expanded = net.to_polynomial()
    return tuple(jax.vmap(f, in_axes=(None, 0))(0.0, ys) for f in (net, expanded))


def test_value_is_the_recursion_written_out():
    net, y = random_net(0), jnp.array([0.3, -2.0, 1.0])
    x1 = net.U[0] @ y + net.b[0]
    x2 = (net.U[1] @ y + net.b[1]) * x1 + x1
    x3 = (net.U[2] @ y + net.b[2]) * x2 + x2
    np.testing.assert_allclose(net(0.0, y), net.C @ x3 + net.beta, rtol=1e-13)


@pytest.mark.slow_cases("1-1-[14]-*", "4-None-[14]-*", "1-1-2-False", "4-None-2-False")
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize(("num_states", "outputs"), [(1, 1), (3, 2), (4, None)])
def test_expansion_is_the_same_function(use_bias, degree, num_states, outputs):
    net = random_net(0, num_states, degree=degree, num_outputs=outputs, use_bias=use_bias)
    ys = jnp.array(np.random.default_rng(1).normal(size=(20, num_states)))
    values, expanded = values_and_expanded_values(net, ys)
    assert values.shape == (20, outputs or num_states)
    np.testing.assert_allclose(values, expanded, rtol=1e-11, atol=1e-11)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=2), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_expansion_agrees_for_any_weights_at_any_state(y, seed):
    values, expanded = values_and_expanded_values(random_net(seed, 2, degree=2), jnp.array([y]))
    np.testing.assert_allclose(values, expanded, rtol=1e-11, atol=1e-12)


def test_expansion_can_be_differentiated():
    net = random_net(0, 2, degree=2)

    def penalty(scale):
        scaled = eqx.tree_at(lambda n: n.C, net, scale * net.C)
        return jnp.sum(scaled.to_polynomial().coefficients[:, 1:] ** 2)

    value, slope = jax.jit(jax.value_and_grad(penalty))(1.0)
    np.testing.assert_allclose(slope, 2 * value, rtol=1e-12)


@pytest.mark.parametrize("degree", [1, 5])
def test_outputs_start_at_the_size_of_a_tenth(degree):
    net = srx.PiNet(8, 50, degree, key=jax.random.key(0))
    ys = jnp.array(np.random.default_rng(0).choice([-1.0, 1.0], size=(100, 8)))
    values = jax.jit(jax.vmap(net, in_axes=(None, 0)))(0.0, ys)
    assert 0.03 < np.sqrt(np.mean(values**2)) < 0.3


def test_jacobian_at_zero_is_the_linear_part():
    net = random_net(0)
    linear = net.to_polynomial().coefficients[:, 1:4]
    np.testing.assert_allclose(jax.jit(jax.jacfwd(net, 1))(0.0, jnp.zeros(3)), linear, rtol=1e-12)


def test_float32_stays_float32():
    net = jax.tree.map(lambda x: x.astype(jnp.float32), random_net(0))
    values, expanded = values_and_expanded_values(net, jnp.ones((1, 3), jnp.float32))
    assert values.dtype == expanded.dtype == jnp.float32
    np.testing.assert_allclose(values, expanded, rtol=1e-4, atol=1e-4)


def test_sizes_are_told_and_weights_are_the_only_leaves(getkey):
    net = srx.PiNet(3, 5, 2, key=getkey(), num_outputs=4)
    assert (net.num_states, net.degree, net.num_outputs) == (3, 2, 4)
    assert [x.shape for x in jax.tree.leaves(net)] == [(2, 5, 3), (2, 5), (4, 5), (4,)]


@pytest.mark.parametrize("name", ["num_states", "width", "degree", "num_outputs"])
def test_count_below_one_is_refused(getkey, name):
    arguments: dict[str, Any] = {"num_states": 2, "width": 2, "degree": 2, name: 0}
    with pytest.raises(ValueError, match=f"`{name}=0` was given; it needs a positive integer"):
        srx.PiNet(**arguments, key=getkey())


def test_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"one state of shape \(3,\)"):
        random_net(0)(0.0, jnp.ones((2, 3)))
