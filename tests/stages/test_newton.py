import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

SUCCESS = optx.RESULTS.successful


def solve(fn, y0, newton=None, max_steps=100, args=None):
    newton = srx.SimplifiedNewton(rtol=1e-10, atol=1e-10) if newton is None else newton
    return optx.root_find(fn, newton, y0, args, max_steps=max_steps, throw=False)


def test_a_function_without_a_root_is_never_called_solved():
    for start in (0.3, 1.0, 5.0):
        assert solve(lambda y, _: y**2 + 1, jnp.array(start)).result != SUCCESS


def test_a_singular_jacobian_at_the_start_is_never_called_solved():
    result = solve(lambda y, _: y**2 - 1, jnp.array(0.0)).result
    assert result == optx.RESULTS.nonfinite


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_infinite_jacobian_at_the_start_is_never_called_solved(dtype):
    result = solve(lambda y, _: jnp.sqrt(y) - 1, jnp.zeros((), dtype)).result
    assert result == optx.RESULTS.nonfinite


def test_a_residual_that_becomes_nan_is_never_called_solved():
    # The first step leads to y = -5, where the logarithm has no value.
    result = solve(lambda y, _: jnp.log(y) + 2 * jnp.sqrt(y), jnp.array(3.0)).result
    assert result != SUCCESS


def test_an_iteration_cut_short_is_never_called_solved():
    solution = solve(lambda y, _: y**3 - 8, jnp.array(2.5), max_steps=2)
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


def test_a_slow_iteration_does_not_stop_before_its_distance_is_within_tolerance():
    # Contraction 0.9: a step is a tenth of the distance, and a test on steps alone stops too early.
    newton = srx.SimplifiedNewton(rtol=0.0, atol=1e-6)
    start = jnp.array(2 + jnp.pi / 2)
    solution = solve(lambda y, _: y - 0.9 * jnp.sin(y - 2) - 2, start, newton, max_steps=300)
    assert solution.result == SUCCESS
    assert abs(solution.value - 2) < 1e-6


def test_without_tolerances_a_root_is_found_to_rounding():
    for dtype in ("float32", "float64"):
        root = solve(lambda y, _: y**2 - 2, jnp.asarray(1.4, dtype), srx.SimplifiedNewton()).value
        assert root.dtype == dtype
        assert abs(float(root) - np.sqrt(2)) < 20 * jnp.finfo(dtype).eps


def test_a_slow_iteration_of_a_small_component_beside_a_large_one_is_never_called_solved():
    def fn(y, _):
        return jnp.stack([y[0] - 1, y[1] - 1e-4 + 1e9 * jnp.expm1(y[1] / 1e-5)])

    start = jnp.array([1.0, 1e-4], jnp.float32)
    solution = solve(fn, start, srx.SimplifiedNewton())
    # From 1e-4 it has come to 7e-5 by then; the root is zero.
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


def test_a_displacement_that_rounding_explains_is_of_a_root():
    # The second component is a small difference of the two others, known to their rounding alone.
    def fn(y, _):
        fast = 1e6 * (y[0] - y[2] - y[1])
        return jnp.stack([y[0] + y[2] - 2 + y[1] ** 2, fast, y[0] ** 3 - 1.000003 * y[2]])

    start = jnp.array([1.0, 0.0, 1.01], jnp.float32)
    solution = solve(fn, start, srx.SimplifiedNewton())
    assert solution.result == SUCCESS
    exact = solve(fn, start.astype(jnp.float64)).value
    np.testing.assert_allclose(solution.value, exact, atol=1e-5)


def test_a_linear_system_takes_one_iteration_and_a_check():
    matrix = jnp.array([[3.0, 1.0], [-1.0, 2.0]])
    solution = solve(lambda y, _: matrix @ y - jnp.ones(2), jnp.zeros(2))
    np.testing.assert_allclose(matrix @ solution.value, 1.0, rtol=1e-13)
    assert solution.stats["newton_iterations"] == 2


def test_pytrees_args_and_auxiliary_output_pass_through():
    def fn(y, args):
        return {"a": y["a"] ** 2 - args, "b": y["b"] - y["a"]}, y["a"]

    start = {"a": jnp.array(2.9), "b": jnp.ones(2)}
    newton = srx.SimplifiedNewton(rtol=1e-12, atol=1e-12)
    solution = optx.root_find(fn, newton, start, 9.0, has_aux=True)
    assert abs(solution.value["a"] - 3) < 1e-11
    np.testing.assert_allclose(solution.value["b"], 3.0, rtol=1e-11)
    assert solution.aux.shape == ()


@pytest.mark.parametrize("linear_solver", [lx.LU(), lx.QR(), srx.SmallInverse()])
def test_any_linear_solver_finds_the_root(linear_solver):
    newton = srx.SimplifiedNewton(rtol=1e-12, atol=1e-12, linear_solver=linear_solver)
    root = solve(lambda y, _: jnp.sin(y) + y[::-1] - 1, jnp.array([0.4, 0.6]), newton).value
    np.testing.assert_allclose(jnp.sin(root) + root[::-1], 1.0, rtol=1e-11)


def test_a_lane_without_a_root_changes_no_bit_of_its_neighbors():
    @jax.jit
    @jax.vmap
    def roots(c):
        newton = srx.SimplifiedNewton(rtol=1e-12, atol=1e-12, linear_solver=srx.SmallInverse())
        solution = solve(lambda y, c: y**2 - c, jnp.array(1.5), newton, args=c)
        return solution.value, solution.result == SUCCESS

    healthy, _ = roots(jnp.array([2.0, 3.0, 2.5]))
    for c in (-1.0, jnp.nan):
        values, found = roots(jnp.array([2.0, c, 2.5]))
        assert found.tolist() == [True, False, True]
        np.testing.assert_array_equal(values[::2], healthy[::2])


def test_the_norm_decides_when_it_is_enough():
    newton = srx.SimplifiedNewton(rtol=0.0, atol=1e-3, norm=lambda x: 1e-9 * optx.max_norm(x))
    solution = solve(lambda y, _: y**3 - 8, jnp.array(2.5), newton)
    assert solution.stats["newton_iterations"] == 1


def test_one_tolerance_of_two_is_refused():
    for one in ({"rtol": 1e-3}, {"atol": 1e-3}):
        with pytest.raises(ValueError, match=r"has one tolerance of two. Give both, or neither"):
            srx.SimplifiedNewton(**one)


def test_equations_may_have_another_structure_than_the_unknowns():
    start = {"a": jnp.array(0.0), "b": jnp.array(0.0)}
    root = solve(lambda y, _: jnp.stack([y["a"] - 1, y["a"] + y["b"] - 3]), start)
    assert root.result == SUCCESS
    assert {name: float(x) for name, x in root.value.items()} == {"a": 1.0, "b": 2.0}


def test_of_several_conditions_those_that_are_zero_everywhere_do_not_count():
    root = solve(lambda y, _: (0 * y, y**2 - 4), jnp.array(2.1))
    assert root.result == SUCCESS
    assert abs(root.value - 2) < 1e-9


def test_an_iteration_that_contracts_slowly_goes_on_whatever_a_digit_of_the_time_changes():
    def fn(y, t):
        # Of slope one where the iteration begins, and a twentieth around the root: by 0.95 a time.
        beyond = jnp.maximum(jnp.abs(y - t) - 1, 0)
        return 0.05 * (y - t) + 0.95 * jnp.sign(y - t) * beyond

    options = {"later": lambda t, digits: t + 1e-3 * digits}
    newton = srx.SimplifiedNewton(rtol=1e-8, atol=1e-8)
    t = jnp.asarray(3.0)
    root = optx.root_find(fn, newton, t + 2, t, options=options, max_steps=1000).value
    np.testing.assert_allclose(root, t, atol=1e-6)
