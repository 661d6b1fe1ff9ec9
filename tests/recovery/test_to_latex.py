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
    assert r"\frac{d NO_{2}}{d t} &= - 1.71 NO_{2}" in srx.to_latex(model, ["NO2"], digits=3)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`names` has 2 names, but there are 1 states"):
        srx.to_latex(srx.Polynomial(1, 1), ["a", "b"])
