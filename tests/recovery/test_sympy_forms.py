"""The forms in which SymPy and NumPy hand over equations."""

import numpy as np
import pytest
import sympy as sp

import stiffrax as srx

x, v = sp.symbols("x v")


def test_names_symbols_and_keys_of_a_mapping_are_one():
    expected = srx.from_sympy((v, -x), (x, v))
    assert srx.from_sympy((v, -x), ["x", "v"]) == expected
    assert srx.from_sympy({"x": v, "v": -x}) == expected
    assert srx.from_sympy((sp.Symbol("v", real=True), -x), (x, v)) == expected
    assert (expected.num_states, expected.num_outputs) == (2, 2)


def test_columns_and_numbers_of_numpy_are_read():
    expected = srx.from_sympy((v, -x), (x, v))
    column = sp.ImmutableMatrix([[0, 1], [-1, 0]]) * sp.Matrix([x, v])
    assert srx.from_sympy(column, (x, v)) == expected
    found = srx.from_sympy((np.int64(2), np.float32(0.1)), (x, v))
    assert found == srx.from_sympy((2, 0.1), (x, v))


def test_states_may_be_functions_of_the_time():
    expected, t = srx.from_sympy((v, -x), (x, v)), sp.Symbol("t")
    of_time, other = sp.Function("x")(t), sp.Function("v")(t)
    assert srx.from_sympy((other, -of_time), (of_time, other)) == expected
    assert srx.from_sympy({of_time: other, other: -of_time}) == expected
    for bad in (of_time.diff(t), of_time.subs(t, t - 1)):
        with pytest.raises(ValueError, match=r"JAX has not all .* \['x'\]"):
            srx.from_sympy((bad,), ("x",))


def test_sums_and_derivatives_are_worked_out():
    k = sp.Symbol("k")
    rows = (sp.Sum(x**k, (k, 1, 2)), sp.Derivative(x**3, x))
    assert srx.from_sympy(rows, (x, v)) == srx.from_sympy((x + x**2, 3 * x**2), (x, v))
