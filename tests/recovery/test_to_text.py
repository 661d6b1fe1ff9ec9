"""Equations as text, and their way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings, strategies as st

import stiffrax as srx

x, v, t = sp.symbols("x v t")
coefficient = st.floats(allow_nan=False, allow_infinity=False)


def round_trip(expressions, names=("x", "v")):
    return tuple(srx.from_text(srx.to_text(expressions, names)).values())


@given(st.lists(coefficient, min_size=12, max_size=12))
@settings(max_examples=20, deadline=None)
def test_polynomial_comes_back_with_every_digit(values):
    model = srx.Polynomial(2, 2, coefficients=np.reshape(values, (2, 6)))
    expressions = srx.to_sympy(model, ["x", "v"])
    assert round_trip(model) == round_trip(expressions) == expressions


@pytest.mark.parametrize(
    "expression",
    [
        x / (x + sp.Float(0.5)) * sp.Float(1 / 3),
        -x / 3 + sp.sqrt(v) - 1 / x**2,
        sp.exp(-sp.Float(1e3) / v) * sp.E + sp.pi,
        x ** sp.Rational(-2, 3) + x**v + x ** sp.Float(1.37),
        sp.sin(t) * sp.tanh(x - v) - sp.Abs(x - 1) + sp.Max(x, 0) + sp.atan2(x, v),
        -((x - v) ** 2) * (x + v),
        sp.Float(3e7) * x**2 - sp.Float(0.04) * v + sp.Float(1e300) + sp.Float(5e-324) * x,
        sp.Integer(0),
        sp.Piecewise((x, (x > 1) & ~(v < 2) | sp.Ne(x, v)), (v, sp.Eq(x, 3)), (0, True)),
        sp.Piecewise((1, sp.Xor(x > 1, v >= 1)), (2, sp.ITE(x > 1, v <= 1, v < 0)), (0, True)),
        sp.erfc(x) + sp.erfinv(x) + sp.gamma(x) * sp.loggamma(v) + sp.digamma(x) + sp.Heaviside(x),
        sp.besseli(0, x)
        + sp.Mod(x, 3)
        + sp.log(sp.Abs(sp.gamma(v)))
        + sp.sec(x)
        + sp.polygamma(2, x),
    ],
    ids=str,
)
def test_formula_comes_back_as_it_was(expression):
    assert round_trip((expression, x)) == (expression, x)


def test_every_formula_that_is_read_from_jax_comes_back():
    def field(t, y, args):
        smaller, special = jnp.minimum(y[0], 2.0), jax.scipy.special
        pieces = jnp.where((y[0] > 1) & (y[1] != 2) | (t >= 3), y[0] % 0.3, jnp.floor(y[1]))
        functions = special.erfc(y[1]) + special.gammaln(y[0]) + special.digamma(y[0])
        return jnp.stack([smaller * pieces, functions + special.erf(y[0]) + special.i0e(y[1])])

    assert round_trip(field) == srx.to_sympy(field, ["x", "v"])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t, y, a: jnp.abs(y * jnp.exp(-2 * t)), "exp(-2*t)*Abs(x)"),
        (lambda t, y, a: jnp.abs(y * jnp.exp(-3e3 / y)), "exp(-3000/x)*Abs(x)"),
        (lambda t, y, a: jnp.abs(jnp.abs(y) ** (1 + t)), "Abs(x)**(t + 1)"),
        (lambda t, y, a: -jnp.nan_to_num(1 / y), "-1/x"),
        (lambda t, y, a: jnp.where(jnp.isinf(1 / y) | (y >= jnp.inf), 1.0, y), "x"),
        (lambda t, y, a: jnp.where((y > -jnp.inf) & (1 / y != jnp.inf), y, 1.0), "x"),
    ],
    ids="abs Arrhenius power nan_to_num isinf bounds".split(),
)
def test_states_are_real_and_finite(function, expected):
    assert srx.to_text(function, ["x"]) == f"dx/dt = {expected}"
    assert srx.compare(function, srx.from_text(f"dx/dt = {expected}")).num_extra == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda t, y, a: jax.nn.softplus(jnp.exp(y)) + jnp.cbrt(jnp.exp(y)),
        lambda t, y, a: jnp.mod(jnp.exp(y), 1.0) + jax.scipy.special.i0e(jnp.exp(y)),
    ],
    ids=["softplus", "mod"],
)
def test_functions_of_real_parts_come_back(function):
    assert round_trip(function) == srx.to_sympy(function, ["x", "v"])


def test_expressions_and_text_are_of_real_states_too():
    assert srx.to_text((sp.Abs(sp.exp(x)) + sp.re(x),), ["x"]) == "dx/dt = x + exp(x)"
    assert srx.from_text("dx/dt = Abs(exp(x))") == {"x": sp.exp(x)}


def test_truths_are_zeros_and_ones():
    expected = "dx/dt = Piecewise((1, x < 1), (0, True))"
    assert srx.to_text(lambda t, y, args: y < 1.0, ["x"]) == expected


def test_lines_are_named_after_the_states():
    text = srx.to_text((v, -4 * x + sp.Float(0.5)), ["x", "v"])
    assert text == "dx/dt = v\ndv/dt = 0.5 - 4*x"
    assert srx.to_text({"x": v, "v": -4 * x + sp.Float(0.5)}) == text


def test_digits_round_models_and_expressions_alike():
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -1.7100004]])
    assert srx.to_text(model, digits=3) == "dy1/dt = -1.71*y1"
    assert srx.to_text(srx.to_sympy(model), digits=3) == "dy1/dt = -1.71*y1"


@pytest.mark.parametrize(
    "model",
    [
        lambda t, y, args: jnp.stack([1e-9 * y[0] ** 2 - 12345.6 * y[0]]),
        srx.from_sympy((sp.Float(1e-9) * x**2 - 12346 * x,), (x,)),
        srx.Library([lambda y: 1.23456 * y[0]], 1, coefficients=[[-10000.0]]),
        srx.PartiallyKnown(
            lambda t, y, args: 1e-9 * y**2,
            srx.Polynomial(1, 1, coefficients=[[0, -12345.6]]),
        ),
    ],
    ids=["function", "symbolic model", "library", "known part"],
)
def test_digits_and_threshold_reach_every_kind_of_model(model):
    (expression,) = srx.to_sympy(model, ["x"], digits=3, threshold=1e-8)
    assert expression == -12300 * x


def test_a_threshold_judges_the_sum_of_known_and_learned():
    def total(known, learned):
        parts = [srx.Polynomial(1, 1, coefficients=[[0.0, c]]) for c in (known, learned)]
        return srx.to_sympy(srx.PartiallyKnown(*parts), ["x"], threshold=1e-3)

    assert total(-1.0, 0.9999999) == (0,)
    assert total(6e-4, 6e-4) == (1.2e-3 * x,)


def test_a_constraint_is_written_as_one():
    model = srx.ConstrainedField(
        srx.Polynomial(2, 1, coefficients=[[0, -2, 1]], num_outputs=1),
        lambda t, y, args: y[0] + y[1] - 1,
        num_states=2,
        differential=(1,),
    )
    assert srx.to_text(model, ["x", "v"]) == "0 = v + x - 1\ndv/dt = v - 2*x"
    assert srx.to_latex(model, ["x", "v"]).splitlines()[1] == r"0 &= v + x - 1 \\"


def test_states_named_like_numbers_and_functions_come_back():
    names = ("E", "I", "exp")
    E, imaginary, exponential = sp.symbols(names)
    expressions = (E * imaginary, sp.exp(1) * exponential, sp.exp(exponential))
    assert round_trip(expressions, names) == expressions


def test_other_symbols_than_states_are_refused():
    with pytest.raises(ValueError, match=r"The equations hold \['x'\], which are not among"):
        srx.to_text((x,))


@pytest.mark.parametrize("name", ["a b", "1y", "lambda", ""])
def test_name_that_could_not_be_read_back_is_refused(name):
    with pytest.raises(ValueError, match="cannot be a symbol in an equation"):
        srx.to_text(srx.Polynomial(1, 1), [name])


def test_model_that_is_no_vector_field_is_refused():
    with pytest.raises(ValueError, match="One equation a state is needed, got 1 equations"):
        srx.to_text(srx.Polynomial(2, 1, num_outputs=1))
