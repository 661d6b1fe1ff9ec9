"""Equations are finite and real."""

import jax.numpy as jnp
import pytest
import sympy

import stiffrax as srx

x = sympy.Symbol("x")


def test_an_output_that_is_never_finite_is_refused():
    message = "Output 2 of the model is nan whatever the state is"
    with pytest.raises(ValueError, match=message):
        srx.to_sympy(lambda t, y, args: jnp.take(y, jnp.arange(2) + 1) - y, ["x", "v"])
    beyond = srx.Library([lambda y: jnp.take(y, 2)], 2, coefficients=[[0.0], [1.0]])
    for model in (beyond, srx.PartiallyKnown(beyond, srx.Polynomial(2, 1))):
        for threshold in (0.0, 0.1):
            with pytest.raises(ValueError, match=message):
                srx.to_sympy(model, threshold=threshold)
    with pytest.raises(ValueError, match=r"Output 1 of the model is oo\*x whatever the state is"):
        srx.to_sympy(lambda t, y, args: y * jnp.inf, ["x"])


@pytest.mark.parametrize("bad", [sympy.oo, sympy.nan, x + sympy.oo, x / sympy.Float(0)])
def test_equations_that_are_not_finite_are_refused(bad):
    for use in (srx.from_sympy, srx.to_text, lambda rows: srx.compare(rows, {"x": x})):
        with pytest.raises(ValueError, match="which is not finite: a division by zero"):
            use({"x": bad})


def test_whole_numbers_and_fractions_that_no_double_is_are_refused():
    for bad in ("x*10**400", "x/10**400"):
        with pytest.raises(ValueError, match=r"The equations hold 1.00E.400, which is outside"):
            srx.from_sympy(srx.from_text(f"dx/dt = {bad}"))
    model = srx.from_sympy({"x": x * sympy.Rational(10**400 + 1, 10**400)})
    assert model(0.0, jnp.ones(1)).tolist() == [1.0]


def test_branches_that_are_nan_are_written():
    (row,) = srx.to_sympy(lambda t, y, args: jnp.where(y > 0, y, jnp.nan), ["x"])
    assert row.has(sympy.nan)
    for branch in (sympy.nan, sympy.oo, sympy.zoo):
        model = srx.from_sympy({"x": sympy.Piecewise((x, x > 0), (branch, True))})
        values = [float(model(0.0, jnp.array([v]))[0]) for v in (2.0, -2.0)]
        assert (values[0], jnp.isfinite(values[1])) == (2.0, False)


def test_equations_that_are_not_real_are_refused():
    with pytest.raises(ValueError, match="is not real, for it is .*Write for example `-2`"):
        srx.from_text("dx/dt = (-8)**(1/3)*x")
    for bad in (sympy.sqrt(-2) * x, sympy.log(-1) * x, x * sympy.root(-8, 3)):
        with pytest.raises(ValueError, match="which is not real: a root of a negative number"):
            srx.from_sympy((bad,), (x,))
