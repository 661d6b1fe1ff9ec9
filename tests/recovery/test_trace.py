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
# On the other side of each condition, and with another order of the entries.
OTHER = np.array([0.3, 0.2, 0.9])

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
    "places beyond": lambda y: (
        y.at[jnp.arange(3) + 1].get(mode="fill", fill_value=0.0)
        + jnp.where(jnp.arange(3) < 2, jnp.take(y, jnp.arange(3) + 1), 0.0)
        + (y > 0.5).at[jnp.arange(3) + 2].get(mode="fill", fill_value=True).astype(float)
        - y.at[jnp.arange(3) + 1].set(2 * y)
        - jnp.take(y, jnp.arange(3) + 1, mode="clip")
        - jnp.take(y, jnp.arange(3) + 1, mode="wrap")
        + jax.lax.dynamic_slice(y, (2,), (3,))
    ),
    "reshapes": lambda y: jnp.tile(y[:, None], (1, 2)).T.reshape(3, 2)[1:],
    "padding": lambda y: jnp.pad(y, (1, 2), constant_values=5.0),
    "splits": lambda y: jnp.split(jnp.concatenate([y, y]), 2)[1] * y,
    "assignment": lambda y: y.at[1].set(7.0).at[0].add(y[2]).at[jnp.array([0, 0])].add(y[1]),
    "dynamic index": lambda y: jax.lax.dynamic_slice(y, (1,), (2,)),
    "choices": lambda y: jnp.where(y > 0.5, y**2, 0.0) + jnp.clip(y, 0.5, 1.0),
    "comparisons": lambda y: (
        ((y >= 0.4) & ~(y < 0.5) | (y == 0.4)).astype(float) * 2.0
        + (y <= 0.5).astype(float)
        + (y != 1).astype(float)
    ),
    "concrete choice": lambda y: jnp.where(np.array([True, False, True]), y, 2 * y),
    "constants": lambda y: jnp.linspace(0, 1, 3) + jnp.eye(3)[1] * jnp.sum(jnp.arange(4.0)) + 0 * y,
    "no state": lambda y: jnp.array([1.5, 2.0]),
    "jit and checkpoint": lambda y: jax.jit(jax.checkpoint(lambda z: jnp.sin(z) * y[0]))(y),
    "map": lambda y: jax.vmap(lambda z: z * y[0] + jnp.dot(y, y))(y),
    "unpacking": lambda y: (lambda a, b, c: jnp.stack([a * b, b - c, 2 * c]))(*y),
    "rows": lambda y: sum(jnp.outer(y, y)),
    "selections": lambda y: jnp.select([y > 1.0, y > 0.5], [y, 2 * y], 0.0),
    "pieces": lambda y: jnp.piecewise(y, [y < 0.5], [lambda x: -x, lambda x: x**2]),
    "branches": lambda y: jax.lax.cond(y[0] > 0.5, lambda z: 2 * z, lambda z: z, y),
    "known branch": lambda y: jax.lax.switch(1, [jnp.sin, jnp.cos, jnp.tan], y),
    "bounds": lambda y: jax.lax.clamp(0.5, y, 1.0) + jax.nn.relu6(5 * y),
    "counts": lambda y: y * jnp.sum(y > 0.5).astype(float),
    "truths": lambda y: jnp.where(jnp.all(y > 0.5) ^ jnp.any(y > 1), y, 0.0),
    "chosen truths": lambda y: jnp.where(
        jnp.where(y > 0.5, y > 1, y < 0.35) & (y[2] < 0.5), y, 0.0
    ),
    "largest place": lambda y: y * jnp.argmax(y).astype(float),
    "running totals": lambda y: jnp.cumsum(y) + jnp.cumprod(y) - jax.lax.cummax(y, reverse=True),
    "logarithms of sums": lambda y: jax.nn.logsumexp(y) + jax.nn.softmax(y),
    "averages": lambda y: jnp.array([jnp.mean(y), jnp.var(y), jnp.std(y)]),
    "remainders": lambda y: jnp.mod(y - 1, 0.3) + jnp.fmod(y - 1, 0.3),
    "other roots": lambda y: jnp.cbrt(y - 1) + jnp.hypot(y, y[0]) + jnp.log2(y),
    "special functions": lambda y: jax.scipy.special.erfc(y) + jax.scipy.special.gammaln(y),
    "batched product": lambda y: jax.vmap(lambda r: r @ jnp.outer(y, y))(jnp.outer(y, y)),
    "products of rows": lambda y: jnp.einsum("ij,ij->i", jnp.outer(y, y), jnp.outer(y, y) + 1),
    "assigned products": lambda y: y.at[0].multiply(y[1]).at[1].min(0.3).at[2].max(y[0]),
    "convolution": lambda y: jnp.convolve(y, jnp.array([1.0, 2.0])),
    "moving sum": lambda y: jax.lax.reduce_window(y, 0.0, jax.lax.add, (2,), (1,), "VALID"),
    "constant system": lambda y: jnp.diff(y) + jnp.tril(jnp.outer(y, y))[1:, 0],
    "loop": lambda y: jax.lax.fori_loop(0, 3, lambda k, z: z * y + k, y),
    "scan": lambda y: jax.lax.scan(lambda s, x: (s + x, s * x), 0.0, y, reverse=True)[1],
    "no rounds": lambda y: y + jax.lax.scan(lambda s, x: (s + x, s), 0.0, y[:0])[0],
    "known while": lambda y: jax.lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * y), (0, y)
    )[1],
    "polynomial": lambda y: jnp.polyval(jnp.array([1.0, 2.0, 3.0]), y) + jnp.polyval(y, 2.0),
    "no gradient": lambda y: jax.lax.stop_gradient(y) * y,
    "derivative": lambda y: jax.grad(lambda z: jnp.sum(z**3) * jnp.exp(z[0]))(y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_formula_has_the_value_of_the_function(name):
    formula = trace(FUNCTIONS[name], SYMBOLS)
    for state in (STATE, OTHER):
        expected = np.asarray(FUNCTIONS[name](jnp.array(state)), float)
        numbers = dict(zip(SYMBOLS, state, strict=True))
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


def test_what_is_computed_and_not_used_needs_no_formula():
    def used(y):
        jax.debug.callback(lambda x: None, y)
        return jnp.sort(y), -y

    def in_loop(y):
        return jax.lax.scan(lambda x, _: (x + 1, used(x)[1]), y, None, length=2)[0]

    x, v = sympy.symbols("x v")
    for field in (used, jax.jit(used)):
        assert srx.to_sympy(lambda t, y, args, f=field: f(y)[1], ["x", "v"]) == (-x, -v)
    assert srx.to_sympy(lambda t, y, args: in_loop(y), ["x", "v"]) == (x + 2, v + 2)
    remainder = lambda t, y, args: jnp.divmod(y, 0.7)[1]
    model = srx.from_sympy(srx.to_sympy(remainder, ["x", "v"]), ["x", "v"])
    y = jnp.array([2.0, -0.3])
    np.testing.assert_allclose(model(0.0, y), remainder(0.0, y, None), rtol=1e-12)
    with pytest.raises(ValueError, match="uses `jnp.round` or `//`: write it"):
        srx.to_sympy(lambda t, y, args: y // 2.5, ["x"])


def test_loop_that_ends_by_the_state_is_refused_by_name():
    def halved(y):
        return jax.lax.while_loop(lambda z: jnp.max(z) > 1, lambda z: z / 2, y)

    with pytest.raises(ValueError, match="uses `while`: write it with arithmetic"):
        trace(halved, SYMBOLS)


def test_loop_of_many_rounds_is_refused_by_name():
    def power(y):
        return jax.lax.fori_loop(0, 1000, lambda _, z: z * y, y)

    with pytest.raises(ValueError, match="uses `scan`: write it with arithmetic"):
        trace(power, SYMBOLS)


@pytest.mark.parametrize(
    "function", [jnp.sort, jnp.round, lambda y: jnp.convolve(y, y)], ids=["sort", "round", "square"]
)
def test_operation_that_is_not_affine_is_not_taken_for_one(function):
    with pytest.raises(ValueError, match="uses `.*`: write it with arithmetic"):
        trace(function, SYMBOLS)


@pytest.mark.parametrize(
    "function",
    [lambda y: jnp.real(jnp.exp(1j * y.astype(complex))), lambda y: jax.lax.complex(y, y).real],
    ids=["cast", "pair"],
)
def test_complex_numbers_are_refused_by_name(function):
    with pytest.raises(ValueError, match="uses complex numbers: write it with arithmetic"):
        trace(function, SYMBOLS)


def test_state_as_an_index_is_refused():
    with pytest.raises(ValueError, match="turns states into integers"):
        trace(lambda y: y[jnp.argmax(y)], SYMBOLS)


def test_loop_over_numbers_alone_is_no_obstacle():
    formula = trace(lambda y: y * jax.lax.fori_loop(0, 3, lambda _, z: 2 * z, 1.0), SYMBOLS)
    assert formula.tolist() == [8 * a, 8 * b, 8 * c]


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.astype(int),
        lambda y: 3 * (y > 1).astype(int) // 2,
    ],
    ids=["cast", "quotient"],
)
def test_state_as_an_integer_is_refused(function):
    with pytest.raises(ValueError, match="turns states into integers"):
        trace(function, SYMBOLS)


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (2 * g,))


@pytest.mark.parametrize("function", [jax.nn.relu, doubled, jax.checkpoint(jnp.sin)])
def test_calls_with_own_derivatives_are_run_on_numbers_too(function):
    (formula, *_) = trace(lambda y: function(jnp.array(2.0)) * y, SYMBOLS)
    assert float(formula.coeff(a)) == float(function(jnp.array(2.0)))


def test_float32_constants_gain_no_digits_by_a_state_of_double_precision():
    row, number = jnp.array([0.3, -0.7], jnp.float32), jnp.array(0.3, jnp.float32)

    def function(y):
        # Moved, added to a number of double precision, and as it is.
        return jnp.stack([y[0] * row[::-1][0].astype(y.dtype), y[0] * number.astype(y.dtype)])

    assert trace(function, SYMBOLS).tolist() == [-0.7 * a, 0.3 * a]
    (mixed,) = trace(lambda y: y[:1] * (number.astype(y.dtype) + jnp.ones(())), SYMBOLS)
    assert float(mixed.coeff(a)) == float(np.float32(0.3)) + 1


def test_interpolation_in_a_table_is_refused_by_its_name():
    table = jnp.arange(3.0)
    with pytest.raises(ValueError, match=r"uses `jnp.interp` or `jnp.searchsorted`"):
        trace(lambda y: jnp.interp(y, table, table), SYMBOLS)
    (scaled, *_) = trace(lambda y: y * jnp.interp(0.5, table, 4 * table), SYMBOLS)
    assert scaled == 2 * a
