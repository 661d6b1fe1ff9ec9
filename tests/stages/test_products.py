import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stiffrax.stages._products import small_matmul

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
