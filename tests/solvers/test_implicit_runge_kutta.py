import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from every_solver import IMPLICIT, QUICK_KINDS, one_of_each_kind

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful
every_solver = pytest.mark.parametrize("solver", IMPLICIT.values(), ids=repr)
every_kind = pytest.mark.parametrize("name", one_of_each_kind(IMPLICIT, QUICK_KINDS))
decay = diffrax.ODETerm(lambda t, y, args: -y)


def step(solver, term, t0, t1, y0, args=None):
    state = solver.init(term, t0, t1, y0, args)
    return solver.step(term, t0, t1, y0, args, state, made_jump=False)


def solve(vector_field, solver, y0, t1=1.0, dt0=1.0, controller=None, **kwargs):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        solver,
        0.0,
        t1,
        dt0,
        jnp.asarray(y0),
        stepsize_controller=diffrax.ConstantStepSize() if controller is None else controller,
        throw=False,
        **kwargs,
    )


def no_value_below_zero(t, y, args):
    return -10 * jnp.sqrt(y)


def blow_up(t, y, args):
    return y**2


def no_second_root(t, y, tiny):
    """Backward Euler has no real root for the second component, however small it is."""
    return jnp.stack([jnp.zeros(()), y[1] ** 2 / tiny + tiny])


class TestFailures:
    """Never a wrong number that is called a success."""

    FAILING = {
        "out of domain": (no_value_below_zero, 0.01),
        "no root": (blow_up, 1.0),
        "NaN field": (lambda t, y, args: y * jnp.nan, 1.0),
        "infinite later": (lambda t, y, args: jnp.where(t > 0.5, jnp.inf, -y), 1.0),
        "NaN state": (lambda t, y, args: -y, jnp.nan),
    }

    @pytest.mark.slow_cases("simplified")
    @pytest.mark.parametrize(
        "solver",
        [srx.BackwardEuler(), srx.BackwardEuler(root_finder=optx.Newton(1e-8, 1e-8))],
        ids=["simplified", "newton"],
    )
    def test_constant_steps_end_with_a_failing_code(self, solver):
        fields, starts = zip(*self.FAILING.values(), strict=True)

        @jax.jit
        def failed(k, y0):
            def field(t, y, args):
                return jax.lax.switch(k, fields, t, y, args)

            return solve(field, solver, y0).result != SUCCESS

        for k, (name, y0) in enumerate(zip(self.FAILING, starts, strict=True)):
            assert failed(k, y0), name

    @pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA3", "RadauIIA13")
    @every_kind
    def test_a_singular_newton_matrix_is_never_called_solved(self, name):
        transform = IMPLICIT[name].tableau.transform
        if not len(transform.real):
            pytest.skip("no real eigenvalue: no real Jacobian is singular")
        pole = float(transform.real[0])
        sol = solve(lambda t, y, args: pole * y, IMPLICIT[name], jnp.ones(2))
        assert sol.result != SUCCESS

    @pytest.mark.slow
    def test_a_failure_throws_where_the_caller_asks_for_it(self):
        with pytest.raises(Exception, match="Nonlinear solve diverged"):
            diffrax.diffeqsolve(
                diffrax.ODETerm(blow_up), srx.BackwardEuler(), 0.0, 1.0, 1.0, jnp.array(1.0)
            )

    @pytest.mark.slow
    def test_steps_after_a_failed_one_are_not_taken(self):
        sol = solve(blow_up, srx.BackwardEuler(), 1.0, t1=2.0, dt0=0.2, max_steps=16)
        # y_1 solves y_1 - 0.2 y_1^2 = y_0, which has a root below y_0 = 1.25 only.
        assert sol.result != SUCCESS
        assert sol.stats["num_steps"] < 4

    @pytest.mark.parametrize("tiny", [1e-6, 1e-10])
    def test_a_component_far_smaller_than_the_others_must_converge_as_well(self, tiny):
        found = solve(no_second_root, srx.BackwardEuler(), [1.0, tiny], args=jnp.asarray(tiny))
        assert found.result != SUCCESS

    def test_adaptive_steps_shrink_until_the_iteration_converges(self):
        controller = diffrax.PIDController(rtol=1e-6, atol=1e-9)
        sol = solve(blow_up, srx.RadauIIA5(), 1.0, 0.9, 0.9, controller)
        assert sol.result == SUCCESS
        assert sol.stats["num_rejected_steps"] > 0
        np.testing.assert_allclose(sol.ys[-1], 10.0, rtol=1e-5)

    @pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA13", "GaussLegendre4")
    @every_kind
    def test_a_failed_step_has_an_infinite_error_and_a_failing_code(self, name):
        # Both: a controller that may retry needs the one, constant steps the other.
        adaptive = type(IMPLICIT[name])(root_finder=srx.SimplifiedNewton(1e-6, 1e-6))
        out_of_domain = diffrax.ODETerm(lambda t, y, args: jnp.sqrt(y - 1 - t))
        y0 = jnp.array([1.0])
        _, error, _, _, result = jax.jit(lambda: step(adaptive, out_of_domain, 0.0, 1.0, y0))()
        assert jnp.all(jnp.isposinf(error))
        assert result != SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize(("tiny", "dtype"), [(1e-14, "float64"), (1e-5, "float32")])
def test_a_component_below_the_rounding_of_the_largest_must_converge_as_well(tiny, dtype):
    def field(t, y, args):
        return jnp.stack([0 * y[0], y[1] ** 2 / tiny + tiny])

    y0, t = jnp.asarray([1.0, tiny], dtype), jnp.asarray(1.0, dtype)
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field), srx.BackwardEuler(), 0 * t, t, t, y0, throw=False
    )
    assert sol.result != SUCCESS


class TestByHand:
    @pytest.mark.slow
    def test_whole_numbers_as_times_do_not_round_the_stages(self):
        moving = diffrax.ODETerm(lambda t, y, args: jnp.cos(t) - y)
        y0 = jnp.array(1.0)
        expected = step(srx.RadauIIA5(), moving, 0.0, 1.0, y0)[0]
        for times in ((0, 1), (0, 1.0), (jnp.array(0), jnp.array(1))):
            assert step(srx.RadauIIA5(), moving, *times, y0)[0] == expected

    @pytest.mark.slow
    def test_a_python_number_is_a_state(self):
        y1, *_ = step(srx.BackwardEuler(), decay, 0.0, 1.0, 1.0)
        assert y1 == 0.5

    def test_no_tolerances_are_needed_and_steps_are_solved_to_rounding(self):
        cubic = diffrax.ODETerm(lambda t, y, args: -(y**3))
        take = jax.jit(lambda y0: step(srx.BackwardEuler(), cubic, 0.0, 1.0, y0))
        y1, error, _, _, result = take(jnp.array(1.0))
        assert result == SUCCESS
        assert jnp.isfinite(error)
        assert abs(y1 + y1**3 - 1) < 4e-15

    @pytest.mark.slow
    def test_given_tolerances_are_used_and_give_an_error_estimate(self):
        loose = srx.BackwardEuler(root_finder=srx.SimplifiedNewton(1e-3, 1e-3))
        cubic = diffrax.ODETerm(lambda t, y, args: -(y**3))
        y1, error, _, _, result = step(loose, cubic, 0.0, 1.0, jnp.array(1.0))
        assert result == SUCCESS
        assert 1e-8 < abs(y1 + y1**3 - 1) < 1e-2
        assert jnp.isfinite(error)

    @pytest.mark.slow_cases("BackwardEuler", "Trapezoid", "RadauIIA13", "GaussLegendre4")
    @every_kind
    def test_the_last_steps_polynomial_starts_the_next(self, name):
        solver = IMPLICIT[name]
        # Exact for a solution of its degree: one iteration that changes nothing.
        degree = len(solver.tableau.c)
        power = diffrax.ODETerm(lambda t, y, args: degree * t ** (degree - 1) + 0 * y)
        y = jnp.array(0.0)
        state = jax.jit(lambda y: solver.init(power, 0.0, 0.5, y, None))(y)
        take = jax.jit(lambda t, y, state: solver.step(power, t, t + 0.5, y, None, state, False))
        for t in (0.0, 0.5):
            y, _, _, state, _ = take(t, y, state)
        np.testing.assert_allclose(y, 1.0, rtol=1e-13)
        np.testing.assert_allclose(jnp.sum(state.polynomial.coefficients), 1 - 0.5**degree)


class TestRaises:
    def test_states_that_are_not_floating_point_are_refused(self):
        leaf = jnp.array(1)
        with pytest.raises(ValueError, match=f"leaf of dtype {leaf.dtype}.*floating.*jnp.asarray"):
            step(srx.RadauIIA5(), decay, 0.0, 1.0, {"a": jnp.array(1.0), "b": leaf})

    @pytest.mark.filterwarnings("ignore:.*is not marked as converging to either")
    @pytest.mark.parametrize("kind", ["MultiTerm", "ControlTerm"])
    def test_terms_that_are_no_odeterm_are_refused(self, kind):
        path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0))
        noise = diffrax.ControlTerm(lambda t, y, args: y, path)
        term = {"MultiTerm": diffrax.MultiTerm(decay, noise), "ControlTerm": noise}[kind]
        message = rf"A {kind} was given.*needs a `diffrax.ODETerm\(vector_field\)`.*KenCarp4"
        with pytest.raises(ValueError, match=message):
            srx.RadauIIA5().init(term, 0.0, 1.0, jnp.array(1.0), None)
        with pytest.raises(ValueError, match=message):
            diffrax.diffeqsolve(term, srx.RadauIIA5(), 0.0, 1.0, 0.1, jnp.array(1.0))


@every_solver
def test_representations_are_short_and_name_what_is_not_default(solver):
    assert repr(solver) == f"{type(solver).__name__}()"
    changed = type(solver)(root_finder=optx.Newton(1e-8, 1e-8), linear_solver=srx.SmallInverse())
    shown = f"{type(solver).__name__}(root_finder=Newton(...), linear_solver=SmallInverse(...))"
    assert repr(changed) == shown


@every_solver
def test_solvers_are_equal_to_their_copies_so_that_nothing_compiles_twice(solver):
    copy = type(solver)()
    assert hash(copy) == hash(solver)
    assert copy == solver


def test_a_dense_structure_names_the_solver_of_exact_systems_as_a_linear_solver_does():
    assert srx.RadauIIA5(structure=srx.Dense(lx.QR())).exact_linear_solver == lx.QR()
    assert srx.RadauIIA5(linear_solver=lx.QR()).exact_linear_solver == lx.QR()
    assert srx.RadauIIA5(structure=srx.Banded(1, 1)).exact_linear_solver is None


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", [srx.DiscreteAdjoint(), diffrax.RecursiveCheckpointAdjoint()])
def test_an_iterative_linear_solver_solves_small_states_and_small_cotangents(adjoint):
    @jax.jit
    @jax.value_and_grad
    def end(y0):
        solver = srx.RadauIIA5(linear_solver=lx.GMRES(1e-5, 1e-5))
        term = diffrax.ODETerm(lambda t, y, args: -y)
        sol = diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.5, y0, adjoint=adjoint)
        return 1e-8 * jnp.sum(sol.ys[-1])

    value, gradient = end(jnp.full(3, 1e-8, jnp.float32))
    np.testing.assert_allclose(value, 3e-16 * np.exp(-1.0), rtol=1e-4)
    np.testing.assert_allclose(gradient, 1e-8 * np.exp(-1.0), rtol=1e-4)


@pytest.mark.slow
def test_jacobians_and_factorizations_of_iterations_that_newton_proper_repeats_are_counted():
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: 1 - 100 * y**3),
        srx.BackwardEuler(),
        0.0,
        1.0,
        1.0,
        jnp.array(0.0),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=1,
    )
    stats = sol.stats
    assert stats["num_steps"] == 1
    assert stats["num_jacobians"] > 5
    assert stats["num_jacobians"] == stats["num_factorizations"]
    assert stats["num_newton_iterations"] > stats["num_jacobians"] - 1
