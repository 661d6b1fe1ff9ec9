import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from stiffrax.linear_algebra._products import (
    largest_of_rows,
    largest_size,
    root_mean_square,
    short_sum,
    small_matmul,
    weighted_sum,
)

AXES = [(0, None), (None, 0), (0, 0)]


def numbers(shape, seed=0, dtype=float):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("outer", AXES)
@pytest.mark.parametrize("inner", AXES)
def test_nested_batches_of_either_factor_give_the_plain_product(inner, outer):
    a_shape = (2,) * (outer[0] == 0) + (5,) * (inner[0] == 0) + (3, 4)
    b_shape = (2,) * (outer[1] == 0) + (5,) * (inner[1] == 0) + (4, 6)
    a, b = numbers(a_shape), numbers(b_shape, 1)
    product = jax.vmap(jax.vmap(small_matmul, inner), outer)(a, b)
    plain = jax.vmap(jax.vmap(jnp.matmul, inner), outer)(a, b)
    np.testing.assert_allclose(product, plain, rtol=1e-13)


@pytest.mark.parametrize("axes", [*AXES, None])
def test_stacks_of_matrices_broadcast_like_matmul(axes):
    a, b = numbers((3, 2, 2)), numbers((2, 5), 1)
    multiply = small_matmul
    if axes is not None:
        multiply = jax.vmap(small_matmul, axes)
        a = jnp.stack([a, 2 * a]) if axes[0] == 0 else a
        b = jnp.stack([b, 3 * b]) if axes[1] == 0 else b
    expected = jnp.einsum("...kij,...jl->...kil", a, b)
    np.testing.assert_allclose(multiply(a, b), expected, rtol=1e-13)


@pytest.mark.parametrize("batched", [False, True])
def test_products_of_float32_carry_all_digits_of_float32(batched):
    a, b = numbers((8, 8), 0, "float32"), numbers((8, 8), 1, "float32")
    multiply = jax.vmap(small_matmul, (0, None)) if batched else small_matmul
    product = multiply(a[None] if batched else a, b)
    exact = np.asarray(a, float) @ np.asarray(b, float)
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product.reshape(8, 8), exact, atol=1e-5)


def test_derivatives_of_a_batched_product_compose_with_its_batching():
    a, b = numbers((4, 3, 3)), numbers((3, 2), 1)

    def loss(multiply):
        return lambda a, b: jnp.sum(jnp.sin(jax.vmap(multiply, (0, None))(a, b)))

    ours = jax.jit(jax.hessian(loss(small_matmul), argnums=1))(a, b)
    np.testing.assert_allclose(ours, jax.hessian(loss(jnp.matmul), argnums=1)(a, b), rtol=1e-12)


RANDOM = np.random.default_rng(0)
WEIGHTS, ROWS = RANDOM.normal(size=5), RANDOM.normal(size=(5, 3))


def test_a_weighted_sum_is_a_product_with_the_weights():
    assert jnp.allclose(weighted_sum(WEIGHTS, jnp.asarray(ROWS)), WEIGHTS @ ROWS, rtol=1e-14)


def test_rows_of_weight_zero_are_not_read():
    rows = jnp.array([[jnp.nan, jnp.inf], [1.0, 2.0]])
    assert jnp.array_equal(weighted_sum(np.array([0.0, 2.0]), rows), jnp.array([2.0, 4.0]))


def test_a_sum_without_weights_is_zero():
    assert jnp.array_equal(weighted_sum(np.zeros(5), jnp.asarray(ROWS)), jnp.zeros(3))


def test_single_precision_is_kept():
    rows = jnp.asarray(ROWS, jnp.float32)
    assert weighted_sum(WEIGHTS, rows).dtype == jnp.float32
    assert root_mean_square(rows).dtype == jnp.float32


def test_the_largest_of_rows_is_that_of_each_column():
    assert jnp.array_equal(largest_of_rows(jnp.asarray(ROWS)), ROWS.max(axis=0))


@pytest.mark.parametrize("n", [1, 12, 13, 40])
def test_sums_and_sizes_over_the_last_axis_are_those_of_numpy_at_any_length(n):
    x = RANDOM.normal(size=(2, n))
    assert jnp.allclose(short_sum(jnp.asarray(x)), x.sum(axis=-1), rtol=1e-12)
    assert jnp.array_equal(largest_size(jnp.asarray(x)), abs(x).max(axis=-1))


def test_of_nothing_the_sum_and_the_largest_size_are_zero():
    assert jnp.array_equal(short_sum(jnp.zeros((2, 0))), jnp.zeros(2))
    assert jnp.array_equal(largest_size(jnp.zeros((2, 0))), jnp.zeros(2))


@pytest.mark.parametrize("size", [largest_size, largest_of_rows, root_mean_square])
def test_what_is_not_a_number_is_not_hidden(size):
    assert jnp.any(jnp.isnan(size(jnp.array([[1.0, jnp.nan], [2.0, 3.0]]))))


@pytest.mark.parametrize("shape", [(5, 3), (5, 20), (4,), (), (0, 3), (2, 3, 4)])
def test_the_root_mean_square_is_the_norm_of_the_library(shape):
    x = jnp.asarray(RANDOM.normal(size=shape))
    assert jnp.allclose(root_mean_square(x), optx.rms_norm(x) if x.size else 0.0, rtol=1e-14)
    lanes = jnp.stack([x, 2 * x])
    assert jnp.allclose(jax.vmap(root_mean_square)(lanes)[1], 2 * root_mean_square(x), rtol=1e-14)
