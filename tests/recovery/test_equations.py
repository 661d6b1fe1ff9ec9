"""Every model gives its equations, and equations give a model."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
import sympy as sp
from hypothesis import given, settings, strategies as st

import stiffrax as srx

y1, y2 = sympy.symbols("y1 y2")
coefficient = st.floats(allow_nan=False, allow_infinity=False)


def random_pi_net(num_states, degree):
    rng = np.random.default_rng(0)
    net = srx.PiNet(num_states, 3, degree, key=jax.random.key(0))
    return jax.tree.map(lambda x: jnp.array(rng.normal(size=x.shape)), net)


@given(st.lists(coefficient, min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_coefficients_of_a_polynomial_come_through_with_every_digit(values):
    model = srx.Polynomial(2, 2, coefficients=[values], num_outputs=1)
    (expression,) = srx.to_sympy(model)
    terms = expression.as_coefficients_dict()
    monomials = [1, y1, y2, y1**2, y1 * y2, y2**2]
    assert [float(terms[sympy.sympify(m)]) for m in monomials] == values


def test_rates_from_hundredths_to_tens_of_millions_stay_exact():
    problem = srx.problems.robertson()
    expressions = srx.to_sympy(problem.vector_field, problem.names)
    comparison = srx.compare(expressions, problem.true_equations())
    assert comparison.largest_relative_error == 0.0
    assert (comparison.num_found, comparison.num_extra) == (6, 0)


@pytest.mark.parametrize(
    ("num_states", "degree"),
    [(2, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 3), (3, 1)])],
)
def test_pi_net_is_multiplied_out(num_states, degree):
    net = random_pi_net(num_states, degree)
    y = np.linspace(-1.0, 2.0, num_states)
    expressions = srx.to_sympy(net)
    numbers: dict[Any, Any] = {f"y{i + 1}": y[i] for i in range(num_states)}
    values = [float(e.subs(numbers)) for e in expressions]
    np.testing.assert_allclose(values, net(0.0, jnp.array(y)), rtol=1e-12)
    assert [e.expand() for e in expressions] == list(expressions)


def test_pruned_terms_do_not_appear():
    model = srx.Polynomial(1, 1, coefficients=[[1.0, 2.0]], active=[[False, True]])
    assert srx.to_sympy(model) == (2 * y1,)


def test_model_of_zeros_gives_zero():
    assert srx.to_sympy(srx.Polynomial(2, 2)) == (0, 0)


def test_library_gives_its_formulas():
    functions = [lambda y: y[0] / (1 + y[0]), lambda y: jnp.exp(-5.0 / y[0])]
    model = srx.Library(functions, 1, coefficients=[[-1.5, 0.25]])
    x = sympy.Symbol("x")
    expected = -sympy.Float(1.5) * x / (1 + x) + sympy.Float(0.25) * sympy.exp(-5 / x)
    assert srx.to_sympy(model, ["x"]) == (expected,)


def test_partially_known_adds_the_learned_terms_to_the_known_ones():
    learned = srx.Polynomial(1, 2, coefficients=[[0.0, 0.0, 7.0]])
    model = srx.PartiallyKnown(
        lambda t, y, args: jnp.stack([jnp.sin(t) * y[1], -args * y[0]]),
        learned,
        inputs=(1,),
        outputs=(0,),
        num_states=2,
    )
    expected = (sympy.sin(sympy.Symbol("t")) * y2 + 7 * y2**2, -3 * y1)
    assert srx.to_sympy(model, args=3.0) == expected


def test_parts_of_another_size_are_refused_in_the_words_of_the_model():
    def returning(size):
        return lambda t, y, args: jnp.resize(args(y), (size,))

    learned, args = srx.Polynomial(2, 1), jnp.sin
    assert len(srx.to_sympy(srx.PartiallyKnown(returning(2), learned), args=args)) == 2
    for size in (1, 3):
        with pytest.raises(ValueError, match=rf"`known` must return shape \(2,\), got \({size},\)"):
            srx.to_sympy(srx.PartiallyKnown(returning(size), learned), args=args)


def test_known_part_may_be_a_model_itself():
    known = srx.from_sympy((y2, -y1))
    net = random_pi_net(2, 2)
    total = srx.to_sympy(srx.PartiallyKnown(known, net), ["a", "b"])
    learned = srx.to_sympy(net, ["a", "b"])
    a, b = sympy.symbols("a b")
    difference = [sympy.expand(t - e) for t, e in zip(total, learned, strict=True)]
    point = {a: 0.3, b: 0.7}
    np.testing.assert_allclose([float(d.subs(point)) for d in difference], [0.7, -0.3])


def test_symbolic_model_gives_back_its_expressions_under_any_names():
    model = srx.from_sympy((y2, -y1))
    assert srx.to_sympy(model) == (y2, -y1)
    # The names are exchanged at once, not one after the other.
    assert srx.to_sympy(model, ["y2", "y1"]) == (y1, -y2)


def test_a_function_that_returns_no_vector_is_refused():
    with pytest.raises(ValueError, match=r"returned shape \(\) for 1 states.*`jnp.stack\(\["):
        srx.to_sympy(lambda t, y, args: -y[0], ["x"])


def test_names_are_those_of_the_model():
    model = srx.from_sympy({"b": -sp.Symbol("b"), "a": sp.Symbol("b")})
    assert srx.to_text(model) == "db/dt = -b\nda/dt = b"
    assert srx.to_text(srx.PartiallyKnown(model, srx.Polynomial(2, 1))) == srx.to_text(model)


def test_any_vector_field_is_traced():
    expressions = srx.to_sympy(lambda t, y, args: jnp.stack([t * y[1], -y[0]]), ["p", "q"])
    p, q, t = sympy.symbols("p q t")
    assert expressions == (t * q, -p)


def test_float32_model_gives_the_decimals_it_was_set_to():
    model = srx.Polynomial(1, 1, coefficients=np.array([[0.43, -1.71]], np.float32))
    assert srx.to_sympy(model) == (sympy.Float(0.43) - sympy.Float(1.71) * y1,)


def test_digits_round_the_coefficients():
    model = srx.Polynomial(1, 1, coefficients=[[123456.0, -1.7100004]])
    assert srx.to_sympy(model, digits=4) == (123500 - sympy.Float(1.71) * y1,)


def test_threshold_leaves_out_coefficients_up_to_it():
    model = srx.Polynomial(1, 2, coefficients=[[1e-9, -1e-8, 2e-8]])
    assert srx.to_sympy(model, threshold=1e-8) == (sympy.Float(2e-8) * y1**2,)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_digits_below_one_are_refused(bad):
    with pytest.raises(ValueError, match="digits"):
        srx.to_sympy(srx.Polynomial(1, 1), digits=bad)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_threshold_that_is_no_size_is_refused(bad):
    with pytest.raises(ValueError, match="`threshold` must be a number of at least 0"):
        srx.to_sympy(srx.Polynomial(1, 1), threshold=bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_coefficient_that_is_not_finite_is_refused_with_its_place(bad):
    model = srx.Polynomial(2, 1, coefficients=[[0, 1, 2], [0, 1, bad]])
    with pytest.raises(ValueError, match="for the term `y2` in output 2: the fit has failed"):
        srx.to_sympy(model)


def test_pruned_coefficient_may_be_anything():
    model = srx.Polynomial(1, 1, coefficients=[[float("nan"), 2.0]], active=[[False, True]])
    assert srx.to_sympy(model) == (2 * y1,)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`names` has 1 names, but there are 2 states"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a"])
    with pytest.raises(ValueError, match="`names` holds 'a' twice"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "a"])
    with pytest.raises(ValueError, match="`names` holds 't', which is the time"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "t"])
    with pytest.raises(ValueError, match="`names` holds 'pi', which is the number pi"):
        srx.to_sympy(srx.Polynomial(2, 1), ["a", "pi"])


def test_names_are_asked_for_where_the_number_of_states_is_unknown():
    with pytest.raises(ValueError, match="`names` must be given for a function"):
        srx.to_sympy(lambda t, y, args: -y)


@pytest.mark.parametrize("kind", ["Polynomial", "PiNet"])
def test_a_scaled_model_gives_equations_in_the_units_of_the_data(kind):
    net = srx.PiNet(2, 3, 2, key=jax.random.key(0))
    net = net if kind == "PiNet" else net.to_polynomial()
    model = srx.ScaledField(net, y_scale=[1.0, 1e-3], t_scale=10.0, states="scaled")
    equations = srx.to_sympy(model)
    y = np.array([0.7, 2e-3])
    values = [float(e.subs({y1: y[0], y2: y[1]})) for e in equations]
    np.testing.assert_allclose(values, model(0.0, jnp.asarray(y)), rtol=1e-6)


x, v = sp.symbols("x v")
t = sp.Symbol("t")

# JAX on a CPU flushes subnormal numbers to zero.
COEFFICIENT = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
EXPRESSIONS = {
    "rational": (x / (1 + v), 1 / x),
    "powers": (x**3 * v**-2, sp.sqrt(v) + v ** sp.Rational(1, 3)),
    "exponential": (sp.exp(-10 / v), sp.log(x) + sp.E),
    "trigonometric": (sp.sin(x) * sp.cos(v), sp.atan2(x, v) + sp.pi),
    "piecewise": (sp.Piecewise((x, x > 1), (v, True)), sp.Max(x, v) - sp.Min(x, 1)),
    "absolute": (sp.Abs(x - v), sp.sign(v - x) * sp.floor(x)),
    "special functions": (
        sp.erf(x) + sp.erfc(v) + sp.erfinv(x / 4) + sp.besseli(0, v) + sp.besseli(1, x),
        sp.gamma(x) + sp.loggamma(v) + sp.digamma(x) + sp.polygamma(1, v),
    ),
    "constant": (sp.Integer(3), sp.Rational(1, 3)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_value_is_that_of_the_expressions(name):
    model = srx.from_sympy(EXPRESSIONS[name], (x, v))
    expected = [float(e.subs({x: 1.7, v: 2.3})) for e in EXPRESSIONS[name]]
    np.testing.assert_allclose(model(0.0, jnp.array([1.7, 2.3])), expected, rtol=1e-14)


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        min_size=2,
        max_size=2,
    )
)
@settings(max_examples=20, deadline=None)
def test_every_digit_of_a_coefficient_arrives(values):
    model = srx.from_sympy([sp.Float(value) * x for value in values], (x, v))
    np.testing.assert_array_equal(model(0.0, jnp.ones(2)), values)


def test_model_to_sympy_and_back_is_the_same_function():
    coefficients = np.random.default_rng(0).normal(size=(3, 10)) * 10.0 ** np.arange(-5, 5)
    model = srx.Polynomial(3, 2, coefficients=coefficients)
    y = jnp.array([0.2, -3.0, 1.0])
    back = srx.from_sympy(srx.to_sympy(model))
    np.testing.assert_allclose(back(0.0, y), model(0.0, y), rtol=1e-12)


def test_robertson_with_rates_nine_orders_apart_is_exact():
    problem = srx.problems.robertson()
    model = srx.from_sympy(problem.true_equations())
    y = jnp.array([0.8, 2e-5, 0.2])
    np.testing.assert_allclose(model(0.0, y), problem.vector_field(0.0, y), rtol=1e-15)


def test_derivatives_of_whole_powers_are_exact_at_zero_and_for_negative_states():
    model = srx.from_sympy((x**2 * v, v**-3), (x, v))
    jacobian = jax.jacfwd(model, 1)(0.0, jnp.array([0.0, -2.0]))
    np.testing.assert_array_equal(jacobian, [[0.0, 0.0], [0.0, -3 / 16]])


def test_time_is_the_symbol_t():
    model = srx.from_sympy((sp.sin(t) * x,), (x,))
    np.testing.assert_allclose(model(2.0, jnp.array([3.0])), [3 * np.sin(2.0)])


def test_float32_stays_float32_and_big_integers_do_not_overflow():
    model = srx.from_sympy((444_000_000_000 * x, sp.Integer(10) ** 12 + v), (x, v))
    value = model(0.0, jnp.ones(2, jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, [4.44e11, 1e12], rtol=1e-6)


def test_integer_state_gives_floats():
    model = srx.from_sympy((x / 2,), (x,))
    assert model(0.0, jnp.array([3])).tolist() == [1.5]


def test_vmap_and_jit_give_the_single_values():
    model = srx.from_sympy(EXPRESSIONS["rational"], (x, v))
    ys = jnp.arange(1.0, 7.0).reshape(3, 2)
    batch = jax.jit(jax.vmap(model, in_axes=(None, 0)))(0.0, ys)
    np.testing.assert_allclose(batch, [model(0.0, y) for y in ys], rtol=1e-15)


def test_model_is_a_diffrax_vector_field():
    model = srx.from_sympy({"x": v, "v": -x})
    slope = diffrax.ODETerm(model).vf(0.0, jnp.array([2.0, 3.0]), None)
    np.testing.assert_allclose(slope, [3.0, -2.0], rtol=1e-15)


def test_equal_expressions_make_models_that_share_a_compilation():
    traces = []

    @jax.jit
    def value(model):
        traces.append(1)
        return model(0.0, jnp.ones(1))

    value(srx.from_sympy((2 * x,), (x,)))
    value(srx.from_sympy((x + x,), (x,)))
    assert len(traces) == 1


def test_nothing_in_it_is_trained():
    assert jax.tree.leaves(srx.from_sympy((v, -x), (x, v))) == []


def test_symbols_that_are_no_states_are_refused():
    with pytest.raises(ValueError, match=r"The equations hold \['k'\], which are not among"):
        srx.from_sympy((sp.Symbol("k") * x,), (x,))
    with pytest.raises(ValueError, match=r"The equations hold \['x'\].*give the names"):
        srx.from_sympy((-x,))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("bad", ["x", x, 3])
def test_a_single_expression_is_refused(bad):
    with pytest.raises(ValueError, match="sequence of SymPy expressions"):
        srx.from_sympy(bad, (x,))


def test_text_in_place_of_an_expression_is_refused_and_not_run():
    with pytest.raises(ValueError, match="read text with `from_text`"):
        srx.from_sympy(["x.__class__"], (x,))  # type: ignore[list-item]


def test_no_equations_are_refused():
    with pytest.raises(ValueError, match="one or more SymPy expressions, got none"):
        srx.from_sympy(())


def test_number_of_equations_must_be_that_of_the_states():
    with pytest.raises(ValueError, match="One equation a state is needed, got 1 equations"):
        srx.from_sympy((v,), (x, v))


def test_names_as_one_string_are_refused():
    with pytest.raises(ValueError, match=r"`names` is x alone: write \(x,\)"):
        srx.from_sympy((x,), x)
    of_time = sympy.Function("x")(sympy.Symbol("t"))
    with pytest.raises(ValueError, match=r"`names` is x\(t\) alone: write \(x\(t\),\)"):
        srx.from_sympy((of_time,), of_time)
    with pytest.raises(ValueError, match="`names` is 'x' alone"):
        srx.from_sympy((x,), "x")


def test_names_that_contradict_the_mapping_are_refused():
    with pytest.raises(ValueError, match="leave `names` out"):
        srx.from_sympy({"x": v, "v": x}, ["v", "w"])


def test_names_put_the_equations_of_a_mapping_in_their_order():
    assert srx.from_sympy({"v": -x, "x": 2 * v}, ["x", "v"]) == srx.from_sympy((2 * v, -x), (x, v))
    assert srx.from_sympy({v: -x, x: 2 * v}).names == ("v", "x")


def test_own_names_in_another_order_would_exchange_states_and_are_refused():
    network = srx.ReactionNetwork(["A -> B"])
    for write in (srx.to_sympy, srx.to_text, srx.to_latex, srx.to_reactions):
        with pytest.raises(
            ValueError, match=r"`names` are \('B', 'A'\), and the model has its states"
        ):
            write(network, ["B", "A"])


def test_special_functions_are_traced_and_differentiated():
    model = srx.from_sympy(srx.from_text("dx/dt = erf(x) + loggamma(x)"))
    slope = jax.jit(jax.jacfwd(model, 1))(0.0, jnp.array([1.0]))
    expected = 2 / np.sqrt(np.pi) * np.exp(-1) - np.euler_gamma
    np.testing.assert_allclose(slope, [[expected]], rtol=1e-12)


@pytest.mark.parametrize("function", [sp.Function("g"), sp.zeta, sp.factorial])
def test_function_that_jax_has_not_is_refused(function):
    with pytest.raises(ValueError, match=rf"JAX has not all of the functions .*{function}"):
        srx.from_sympy((function(x),), (x,))


def test_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"one state of shape \(1,\), got shape \(2,\)"):
        srx.from_sympy((x,), (x,))(0.0, jnp.ones(2))


def test_a_complex_state_is_refused_and_not_made_real():
    with pytest.raises(ValueError, match="`y` must be real, got complex128: make"):
        srx.from_sympy((-x,), (x,))(0.0, jnp.array([1j]))


@pytest.mark.parametrize("name", ["e", "E", "exp", "select", "jax", "sqrt", "less", "array", "x0"])
def test_a_state_may_have_the_name_of_what_generated_code_uses(name):
    x = sympy.Symbol(name)
    formula = sp.exp(1) * x + sp.exp(-x) + sp.Piecewise((sp.sqrt(x), x < 5), (sp.pi, True))
    model = srx.from_sympy({name: formula})
    expected = np.e * 0.25 + np.exp(-0.25) + 0.5
    np.testing.assert_allclose(model(0.0, jnp.array([0.25])), [expected], rtol=1e-12)
