"""The formula of a JAX function is that function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

import stiffrax as srx
from stiffrax.recovery._trace import trace

a, b, c = SYMBOLS = sympy.symbols("a b c")
STATE = np.array([0.7, 1.3, 0.4])

FUNCTIONS = {
    "arithmetic": lambda y: jnp.stack([y[0] * y[1] - y[2], -y[0] / y[2], y[1] ** 2 + 3]),
    "powers": lambda y: jnp.array([y[0] ** 3, y[1] ** -2, y[2] ** 0.5, y[0] ** y[1], 2.0 ** y[0]]),
    "exponentials": lambda y: jnp.exp(-1 / y) + jnp.log(y) + jnp.expm1(y) + jnp.log1p(y),
    "binary exponential": jnp.exp2,
    "roots": lambda y: jnp.sqrt(y) + jax.lax.rsqrt(y) + jnp.square(y),
    "trigonometry": lambda y: jnp.sin(y) * jnp.cos(y) + jnp.tan(y) + jnp.arctan2(y, y[0]),
    "inverse trigonometry": lambda y: jnp.arcsin(y[:1]) + jnp.arccos(y[2]) + jnp.arctan(y),
    "hyperbolic": lambda y: jnp.tanh(y) + jnp.sinh(y) - jnp.cosh(y) + jnp.arcsinh(y),
    "activations": lambda y: jax.nn.sigmoid(y) + jax.nn.softplus(y) + jax.nn.relu(y - 1),
    "error function": lambda y: jax.scipy.special.erf(y),
    "rounding": lambda y: jnp.floor(y) + jnp.ceil(y) + jnp.sign(y - 1) + jnp.abs(y - 1),
    "matrix product": lambda y: jnp.arange(6.0).reshape(2, 3) @ y,
    "outer product": lambda y: jnp.outer(y, y),
    "reductions": lambda y: jnp.array([y.sum(), y.prod(), y.max(), y.min(), jnp.mean(y)]),
    "norm": lambda y: jnp.linalg.norm(y),
    "indices": lambda y: y[jnp.array([2, 0, -1])] + y[::-1] + jnp.roll(y, 1),
    "reshapes": lambda y: jnp.tile(y[:, None], (1, 2)).T.reshape(3, 2)[1:],
    "padding": lambda y: jnp.pad(y, (1, 2), constant_values=5.0),
    "splits": lambda y: jnp.split(jnp.concatenate([y, y]), 2)[1] * y,
    "assignment": lambda y: y.at[1].set(7.0).at[0].add(y[2]).at[jnp.array([0, 0])].add(y[1]),
    "dynamic index": lambda y: jax.lax.dynamic_slice(y, (1,), (2,)),
    "choices": lambda y: jnp.where(y > 0.5, y**2, 0.0) + jnp.clip(y, 0.5, 1.0),
    "comparisons": lambda y: ((y >= 0.4) & ~(y < 0.5) | (y == 0.4)) * 2.0 + (y <= 0.5) + (y != 1),
    "concrete choice": lambda y: jnp.where(np.array([True, False, True]), y, 2 * y),
    "constants": lambda y: jnp.linspace(0, 1, 3) + jnp.eye(3)[1] * jnp.sum(jnp.arange(4)) + 0 * y,
    "no state": lambda y: jnp.array([1.5, 2.0]),
    "jit and checkpoint": lambda y: jax.jit(jax.checkpoint(lambda z: jnp.sin(z) * y[0]))(y),
    "map": lambda y: jax.vmap(lambda z: z * y[0] + jnp.dot(y, y))(y),
    "derivative": lambda y: jax.grad(lambda z: jnp.sum(z**3) * jnp.exp(z[0]))(y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_formula_has_the_value_of_the_function(name):
    expected = np.asarray(FUNCTIONS[name](jnp.array(STATE)), float)
    formula = trace(FUNCTIONS[name], SYMBOLS)
    numbers = dict(zip(SYMBOLS, STATE, strict=True))
    values = np.array([float(e.subs(numbers)) for e in formula.ravel()]).reshape(formula.shape)
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-15)


def test_formula_is_as_one_would_write_it():
    (formula,) = trace(lambda y: (2.0 * y[0] / (0.5 + y[0]) + jnp.sqrt(y[1]) * 1.0)[None], SYMBOLS)
    assert formula == 2 * a / (a + sympy.Float(0.5)) + sympy.sqrt(b)


def test_condition_becomes_piecewise():
    (formula,) = trace(lambda y: jnp.where(y[:1] > 1, y[0], 0.0), SYMBOLS)
    assert formula == sympy.Piecewise((a, a > 1), (0, True))


def test_float32_constants_keep_the_digits_that_were_written():
    (formula,) = trace(lambda y: jnp.float32(0.43) * y[:1].astype(jnp.float32), SYMBOLS)
    assert formula == sympy.Float(0.43) * a


@pytest.mark.parametrize("name", ["robertson", "van_der_pol", "oregonator", "hires"])
def test_problem_written_for_jax_is_its_own_formula(name):
    problem = getattr(srx.problems, name)()
    symbols = sympy.symbols(problem.names)
    formula = trace(lambda y: problem.vector_field(0.0, y), symbols)
    written = problem.components(0.0, symbols, problem.args)
    assert srx.compare(tuple(formula), written, names=problem.names).largest_relative_error < 1e-15


def test_loop_is_refused_by_name():
    def power(y):
        return jax.lax.fori_loop(0, 3, lambda _, z: z * y, y)

    with pytest.raises(ValueError, match="uses `(scan|while)`: write it with arithmetic"):
        trace(power, SYMBOLS)


def test_loop_over_numbers_alone_is_no_obstacle():
    formula = trace(lambda y: y * jax.lax.fori_loop(0, 3, lambda _, z: 2 * z, 1.0), SYMBOLS)
    assert formula.tolist() == [8 * a, 8 * b, 8 * c]


def test_state_as_an_integer_is_refused():
    with pytest.raises(ValueError, match="turns states into integers"):
        trace(lambda y: y.astype(int), SYMBOLS)


def test_batched_matrix_product_is_refused():
    with pytest.raises(ValueError, match="batched matrix product"):
        trace(lambda y: jnp.einsum("i,ij->ij", y, jnp.outer(y, y)) @ jnp.ones((3, 3, 3)), SYMBOLS)
