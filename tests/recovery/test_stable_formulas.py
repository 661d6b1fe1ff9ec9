"""Equations have finite values and slopes where the function they were read from has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from jax.scipy import special

import stiffrax as srx

x = sp.Symbol("x")
FUNCTIONS = {
    "off": (lambda t, y, a: jax.nn.sigmoid((1.0 - y) / 1e-3), 1.2),
    "on": (lambda t, y, a: jax.nn.sigmoid((y - 1.0) / 1e-3), 1.2),
    "hot": (lambda t, y, a: jax.nn.sigmoid((y - 350.0) / 0.5), np.float32(400)),
    "rate": (lambda t, y, a: jnp.exp(-3e4 * (1 / y - 1 / 298.15)), np.float32(280)),
    "far": (lambda t, y, a: -jax.nn.sigmoid(1e4 * y) * y, -0.1),
    "swish": (lambda t, y, a: jax.nn.silu(y), -1e4),
    "softplus": (lambda t, y, a: jax.nn.softplus(y), -40.0),
    "gamma": (lambda t, y, a: jax.lax.lgamma(y), 200.0),
    "gamma of what is positive": (lambda t, y, a: jax.lax.lgamma(jnp.exp(y)), 7.0),
    "scaled Bessel function": (lambda t, y, a: special.i0e(y), 900.0),
    "odd scaled Bessel function": (lambda t, y, a: special.i1e(-y), np.float32(95)),
    "mean direction": (lambda t, y, a: special.i1e(y) / special.i0e(y), 900.0),
    "Bessel function": (lambda t, y, a: special.i0(y) + special.i1(y), 0.5),
    "diode": (lambda t, y, a: 1e-12 * jnp.expm1(y / 0.02), 1e-12),
    "loss": (lambda t, y, a: -jnp.expm1(-y), 1e-12),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_slope_of_what_comes_back_are_those_of_the_function(name):
    function, value = FUNCTIONS[name]
    y = jnp.asarray(value).reshape(1)
    for digits in (None, 12):
        back = srx.from_sympy(srx.to_sympy(function, ["x"], digits=digits), ["x"])
        read = srx.from_sympy(srx.from_text(srx.to_text(function, ["x"])))
        rtol = 1e-4 if y.dtype == jnp.float32 else 1e-9
        for model in (back, read):
            np.testing.assert_allclose(model(0.0, y), function(0.0, y, None), rtol=rtol)
            slope = jax.jacfwd(model, 1)(0.0, y)
            np.testing.assert_allclose(slope, jax.jacfwd(function, 1)(0.0, y, None), rtol=rtol)


def test_bessel_functions_have_their_slopes_at_zero():
    # JAX 0.10 has the slope 1 of `i0` there.
    back = srx.from_sympy(srx.to_sympy(lambda t, y, a: special.i0(y) + special.i1(y), ["x"]), ["x"])
    np.testing.assert_allclose(jax.jacfwd(back, 1)(0.0, jnp.zeros(1)), [[0.5]], rtol=1e-12)


def test_what_an_exponent_adds_is_written_as_a_decimal():
    rows = srx.to_sympy(lambda t, y, a: jnp.exp(0.125 - 2.5 * y), ["x"])
    assert rows == (sp.exp(sp.Rational(1, 8) - sp.Float(2.5) * x),)
    assert srx.to_text(rows, ["x"]) == "dx/dt = exp(0.125 - 2.5*x)"
    assert srx.to_text(rows, ["x"], digits=2) == "dx/dt = exp(0.12 - 2.5*x)"
    assert "e^{0.125 - 2.5 x}" in srx.to_latex(rows, ["x"])
    power = sp.exp(1 / x + sp.Rational(1, 3)) ** x
    assert srx.to_text((power,), ["x"]) == "dx/dt = exp(1/3 + 1/x)**x"


@pytest.mark.parametrize("write", [srx.to_text, srx.to_latex, srx.from_sympy, srx.compare])
def test_numbers_that_no_double_is_are_refused(write):
    for bad in (sp.exp(1000.5 - x), (sp.Float("1e-200") * x) ** 2):
        with pytest.raises(ValueError, match=r"The equations hold .*, which is outside double"):
            write({"x": bad}, *([{"x": x}] if write is srx.compare else []))
    with pytest.raises(ValueError, match="outside double precision"):
        srx.to_sympy(lambda t, y, a: (1e200 * y) ** 2, ["x"], digits=3)
