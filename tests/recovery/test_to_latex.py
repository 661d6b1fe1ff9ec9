"""Equations as LaTeX."""

import pytest
import sympy as sp

import stiffrax as srx


def test_block_has_a_line_for_each_state():
    y1, y2 = sp.symbols("y1 y2")
    expected = r"""\begin{aligned}
\frac{d y_{1}}{d t} &= y_{2} \\
\frac{d y_{2}}{d t} &= - \frac{2 y_{1}}{y_{2} + 1}
\end{aligned}"""
    assert srx.to_latex((y2, -2 * y1 / (1 + y2))) == expected


def test_names_and_digits_are_used():
    model = srx.Polynomial(1, 1, coefficients=[[0.0, -1.7100004]])
    block = srx.to_latex(model, ["NO2"], digits=3)
    assert r"\frac{d \mathrm{NO}_{2}}{d t} &= - 1.71 \mathrm{NO}_{2}" in block


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`names` has 2 names, but there are 1 states"):
        srx.to_latex(srx.Polynomial(1, 1), ["a", "b"])


def test_names_are_not_read_as_accents_letters_or_functions():
    names = ["Pi", "Chi", "X", "xdot", "Nabs", "x1", "x_1", "alpha2"]
    block = srx.to_latex([sp.Integer(0)] * 8, names)
    found = [line.split("}{d t}")[0].removeprefix(r"\frac{d ") for line in block.splitlines()[1:-1]]
    assert found[:5] == [r"\mathrm{Pi}", r"\mathrm{Chi}", "X", r"\mathrm{xdot}", r"\mathrm{Nabs}"]
    assert found[5:] == ["x_{1}", r"\mathrm{x\_1}", r"\alpha_{2}"]
    assert (
        srx.to_latex({"Pi": sp.Symbol("Pi") ** 2}).splitlines()[1].endswith(r"&= \mathrm{Pi}^{2}")
    )
