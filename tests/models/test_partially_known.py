"""Known terms plus a learned part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stiffrax as srx


class Decay(eqx.Module):
    """A known part that holds an array of its own."""

    rates: jax.Array

    def __call__(self, t, y, args):
        return -self.rates * y


def hires_split():
    """HIRES with its one nonlinear term to be learned from `y6`, `y8`, for equations 6 to 8."""
    full = srx.problems.hires().vector_field

    def known(t, y, args):
        term = 280.0 * y[5] * y[7]
        return full(t, y) - term * jnp.array([0, 0, 0, 0, 0, -1.0, 1.0, -1.0])

    coefficients = np.zeros((3, 6))
    coefficients[:, srx.Polynomial(2, 2).feature_names().index("y1*y2")] = [-280, 280, -280]
    learned = srx.Polynomial(2, 2, coefficients=coefficients, num_outputs=3)
    parts = {"inputs": (5, 7), "outputs": (5, 6, 7), "num_states": 8}
    return srx.PartiallyKnown(known, learned, **parts)


def test_parts_add_up_to_the_whole(getkey):
    y = jax.random.uniform(getkey(), (8,))
    expected = srx.problems.hires().vector_field(0.0, y)
    np.testing.assert_allclose(hires_split()(0.0, y), expected, rtol=1e-12)


def test_outputs_are_fed_in_the_order_given():
    learned = srx.Polynomial(1, 1, coefficients=[[1.0, 0.0], [2.0, 0.0]], num_outputs=2)
    model = srx.PartiallyKnown(
        lambda t, y, args: jnp.zeros(3), learned, inputs=[1], outputs=[2, 0], num_states=3
    )
    assert model(0.0, jnp.ones(3)).tolist() == [2.0, 0.0, 1.0]


def test_time_and_args_reach_both_parts():
    def part(t, y, args):
        return t * args * jnp.ones(2)

    model = srx.PartiallyKnown(part, part, num_states=2)
    assert model(3.0, jnp.zeros(2), 5.0).tolist() == [30.0, 30.0]


def test_known_part_is_not_trained_even_with_weight_decay():
    learned = srx.Polynomial(2, 1, coefficients=np.ones((2, 3)))
    model = srx.PartiallyKnown(Decay(jnp.array([1.0, 2.0])), learned)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    assert [x.shape for x in jax.tree.leaves(params)] == [(2, 3)]
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    gradient = jax.grad(lambda p: jnp.sum(eqx.combine(p, static)(0.0, jnp.ones(2)) ** 2))(params)
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    trained = eqx.apply_updates(model, updates)
    assert trained.known.rates.tolist() == [1.0, 2.0]
    assert not (trained.learned.coefficients == 1.0).any()


def test_a_trained_model_compiles_nothing_anew():
    traces = []

    @eqx.filter_jit
    def value(model):
        traces.append(1)
        return model(0.0, jnp.ones(2))

    model = srx.PartiallyKnown(Decay(jnp.ones(2)), srx.Polynomial(2, 1))
    value(model)
    value(eqx.tree_at(lambda m: m.learned.coefficients, model, jnp.ones((2, 3))))
    assert len(traces) == 1


@pytest.mark.slow
def test_jacobian_vmap_and_jit_agree_with_the_whole(getkey):
    ys = jax.random.uniform(getkey(), (4, 8))
    jacobian = jax.jit(jax.vmap(jax.jacfwd(hires_split(), 1), in_axes=(None, 0)))(0.0, ys)
    whole = jax.vmap(jax.jacrev(srx.problems.hires().vector_field, 1), in_axes=(None, 0))(0.0, ys)
    np.testing.assert_allclose(jacobian, whole, rtol=1e-12, atol=1e-12)


def test_float32_stays_float32():
    learned = srx.Polynomial(2, 1, coefficients=np.ones((2, 3), np.float32))
    model = srx.PartiallyKnown(lambda t, y, args: -y, learned)
    assert model(0.0, jnp.ones(2, jnp.float32)).dtype == jnp.float32


def test_number_of_states_is_asked_for_where_it_cannot_be_known():
    with pytest.raises(ValueError, match="`num_states` must be given"):
        srx.PartiallyKnown(Decay(jnp.ones(3)), srx.Polynomial(1, 1), inputs=(0,))
    with pytest.raises(ValueError, match="`num_states` must be given"):
        srx.PartiallyKnown(lambda t, y, args: y, lambda t, y, args: y)


@pytest.mark.parametrize("name", ["inputs", "outputs"])
@pytest.mark.parametrize("bad", [(), (0, 0), (3,), (-1,)])
def test_indices_that_are_no_states_are_refused(name, bad):
    with pytest.raises(ValueError, match=f"`{name}` must be different indices of states"):
        srx.PartiallyKnown(lambda t, y, args: y, lambda t, y, args: y, num_states=3, **{name: bad})


def test_learned_part_of_another_size_is_refused():
    known = Decay(jnp.ones(3))
    with pytest.raises(ValueError, match="`learned` has num_states=2, but `inputs` lists 1 states"):
        srx.PartiallyKnown(known, srx.Polynomial(2, 1), inputs=(0,), num_states=3)
    with pytest.raises(ValueError, match="`learned` has num_outputs=3, but `outputs` lists 1"):
        srx.PartiallyKnown(known, srx.Polynomial(3, 1), outputs=(0,))


def test_part_that_returns_another_shape_is_refused():
    model = srx.PartiallyKnown(lambda t, y, args: y[:1], lambda t, y, args: y, num_states=2)
    with pytest.raises(ValueError, match=r"`known` must return shape \(2,\), got \(1,\)"):
        model(0.0, jnp.ones(2))
    model = srx.PartiallyKnown(lambda t, y, args: y, lambda t, y, args: y[0], num_states=2)
    with pytest.raises(ValueError, match=r"`learned` must return shape \(2,\), got \(\)"):
        model(0.0, jnp.ones(2))
