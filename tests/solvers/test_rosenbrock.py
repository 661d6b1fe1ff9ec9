"""What Rosenbrock methods do that no iteration does: and what they must not do without one."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.stages import flat_field

SUCCESS = diffrax.RESULTS.successful
SOLVERS = (srx.Rosenbrock23, srx.Rodas3P, srx.Rodas4P, srx.Rodas5P)


def solve(term, solver, t1, y0, rtol, **options):
    return diffrax.diffeqsolve(
        term,
        solver,
        0.0,
        t1,
        None,
        y0,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * 1e-3),
        max_steps=1024,
        throw=False,
        **options,
    )


def is_read(field):
    return flat_field(field, jnp.asarray(0.0), jnp.ones(2))[0].depends_on_time


def test_whether_a_field_reads_the_time_is_seen_in_its_trace():
    assert not is_read(lambda t, y: -(y**2))
    assert not is_read(lambda t, y: jax.jit(lambda t, y: -y)(2 * t, y))
    assert is_read(lambda t, y: -y * t)
    assert is_read(lambda t, y: jnp.where(t > 1, y, -y))
    assert is_read(lambda t, y: jax.lax.cond(t > 1, jnp.sin, jnp.cos, y))
    assert is_read(lambda t, y: jax.lax.fori_loop(0, 2, lambda _, x: x * t, y))
    assert is_read(lambda t, y: y * jnp.array([0.0, 1.0, 2.0])[t.astype(int)])


@eqx.filter_jit
def count(rates):
    field = lambda t, y, args: -rates * (y - jnp.cos(t))
    adjoint = srx.DiscreteAdjoint()
    solution = solve(diffrax.ODETerm(field), srx.Rodas5P(), 1.0, jnp.ones(2), 1e-5, adjoint=adjoint)
    return solution.stats


def test_a_step_has_one_jacobian_one_factorization_and_no_iteration():
    stats = count(jnp.array([1.0, 1000.0]))
    steps = stats["num_steps"]
    assert stats["num_jacobians"] == stats["num_factorizations"] == steps
    assert stats["num_f_evaluations"] == 8 * steps
    assert stats["num_newton_iterations"] == 0


def test_the_solves_that_judge_a_step_are_counted():
    # Eight stages and what a Newton iteration would move each by; four powers of the estimate, and
    # one of the way of that which bends most.
    stats = count(jnp.array([1.0, 1000.0]))
    assert stats["num_linear_solves"] == (8 + 8 + 4 + 1) * stats["num_steps"]


def number_of_traces(solver):
    calls = []

    def field(t, y, args):
        calls.append(t)
        return -(y**3)

    jax.jit(lambda y: solve(diffrax.ODETerm(field), solver, 1.0, y, 1e-3).ys).trace(jnp.ones(3))
    return len(calls)


@pytest.mark.slow
def test_more_stages_do_not_trace_the_field_more_often():
    # Compiling costs by how often the field is in the program.
    few = number_of_traces(srx.Rosenbrock23())
    assert number_of_traces(srx.Rodas5P()) == few > 0
    assert few <= number_of_traces(srx.RadauIIA5())


def chain(t, y, args):
    """Four pairs, coupled within."""
    pairs = y.reshape(4, 2)
    rates = jnp.array([1.0, 10.0, 100.0, 1000.0])[:, None]
    return (rates * (pairs[:, ::-1] ** 2 - pairs) + jnp.sin(t)).reshape(-1)


PAIRS = np.kron(np.eye(4, dtype=bool), np.ones((2, 2), bool))
STRUCTURES = {
    "solver": {"linear_solver": lx.LU()},
    "banded": {"structure": srx.Banded(1, 1)},
    "blocks": {"structure": srx.BlockDiagonal(2)},
    "sparsity": {"structure": srx.Sparsity(PAIRS)},
}


@eqx.filter_jit
def end_and_gradient(solver):
    def end(rate):
        term = diffrax.ODETerm(lambda t, y, args: rate * chain(t, y, args))
        y = solve(term, solver, 0.3, jnp.full(8, 0.5), 1e-4, adjoint=srx.DiscreteAdjoint()).ys[-1]
        return jnp.sum(y), y

    return jax.value_and_grad(end, has_aux=True)(1.0)


@eqx.filter_jit
def one_step(solver):
    term, y0 = diffrax.ODETerm(chain), jnp.full(8, 0.5)
    return solver.step(term, 0.0, 0.1, y0, None, None, False)[0]


@pytest.mark.slow_cases("solver", "banded")
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_gives_the_step_of_dense_matrices(name):
    found = one_step(srx.Rodas5P(**STRUCTURES[name]))
    np.testing.assert_allclose(found, one_step(srx.Rodas5P()), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_gives_the_steps_and_gradients_of_dense_matrices(name):
    (_, expected), slope = end_and_gradient(srx.Rodas5P())
    (_, found), same = end_and_gradient(srx.Rodas5P(**STRUCTURES[name]))
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    np.testing.assert_allclose(same, slope, rtol=1e-10)


def test_matrices_with_a_pivot_of_zero_are_solved_as_others_are():
    # Of 1 / gamma - h J the first pivot vanishes at h = 0.1; four states are eliminated unpivoted.
    pole = srx.tableaus.rodas5p().shift / 0.1
    J = jnp.diag(jnp.array([pole, -1.0, -2.0, -3.0])) + jnp.array(
        [[0, 40.0, 0, 0], [-60.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    )
    term, y0 = diffrax.ODETerm(lambda t, y, args: J @ y), jnp.array([1.0, 2.0, 3.0, 4.0])

    @jax.jit
    def step(t1):
        memory = srx.Rodas5P().init(term, 0.0, t1, y0, None)
        return srx.Rodas5P().step(term, 0.0, t1, y0, None, memory, False)[0]

    s = srx.tableaus.rodas5p()
    h, n = 0.1, 8
    stages = np.kron(np.eye(n) * s.shift - s.C, np.eye(4))
    stages = stages - h * np.kron(np.eye(n) + s.A, J)
    U = np.linalg.solve(stages, np.tile(h * J @ y0, n)).reshape(n, 4)
    np.testing.assert_allclose(step(h), y0 + s.m @ U, rtol=1e-10)


@pytest.mark.slow_cases("Rodas3P", "Rodas4P")
@pytest.mark.parametrize("make", SOLVERS[1:], ids=lambda make: make.__name__)
def test_constraints_of_index_one_are_met_with_the_order_of_the_method(make):
    # y' = -y + z - t, 0 = z - y^2 - t: y' = y^2 - y.
    def field(t, y, args):
        return jnp.stack([-y[0] + y[1] - t, y[1] - y[0] ** 2 - t])

    solver, term = make(), srx.MassMatrixTerm(field, jnp.array([1.0, 0.0]))

    @jax.jit
    def errors(steps):
        def body(k, y):
            t = k * h
            return solver.step(term, t, t + h, y, None, None, False)[0]

        h = 2 / steps
        y = jax.lax.fori_loop(0, steps, body, jnp.array([0.5, 0.25]))
        exact = 1 / (1 + jnp.exp(2.0))
        return jnp.abs(y - jnp.stack([exact, exact**2 + 2.0]))

    coarse, fine = errors(8), errors(16)
    assert np.all(np.log2(coarse / fine) > make().order(None) - 0.3)


@pytest.mark.slow
def test_a_general_mass_matrix_gives_the_steps_of_the_equation_divided_by_it():
    M = jnp.array([[2.0, 1.0], [0.0, 1.0]])
    field = lambda t, y, args: -y * jnp.array([1.0, 50.0]) + jnp.sin(t)
    divided = lambda t, y, args: jnp.linalg.solve(M, field(t, y, args))
    y0 = jnp.array([1.0, 0.5])
    found, expected = (
        diffrax.diffeqsolve(term, srx.Rodas4P(), 0.0, 1.0, 0.1, y0).ys[-1]
        for term in (srx.MassMatrixTerm(field, M), diffrax.ODETerm(divided))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("turned", [False, True])
def test_increments_that_come_of_a_singular_matrix_are_no_step(turned):
    solver = srx.Rodas5P()
    angle = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] if turned else np.eye(3)
    matrix = angle @ np.diag([1.0, -2.0, -50.0]) @ angle.T

    @jax.jit
    def result(h):
        term, t0, y0 = diffrax.ODETerm(lambda t, y, args: matrix @ y), jnp.zeros(()), jnp.ones(3)
        state = solver.init(term, t0, h, y0, None)
        return solver.step(term, t0, h, y0, None, state, False)[-1]

    singular = solver.tableau.shift * (1 + 2e-16 * np.arange(3))
    assert all(result(h) == diffrax.RESULTS.nonfinite for h in singular)
    assert result(solver.tableau.shift * (1 - 1e-9)) == diffrax.RESULTS.successful


def test_large_increments_of_small_ones_in_other_units_are_a_step():
    """From zero: `y' = 1`, and what is a million times as large in single precision."""
    solver = srx.Rodas5P()

    @jax.jit
    def end():
        term = srx.MassMatrixTerm(
            lambda t, y, args: jnp.stack([jnp.ones_like(y[0]), y[1] - 1e6 * y[0]]),
            jnp.array([1.0, 0.0], jnp.float32),
        )
        t0, y0 = jnp.zeros((), jnp.float32), jnp.zeros(2, jnp.float32)
        state = solver.init(term, t0, t0 + 1, y0, None)
        return solver.step(term, t0, t0 + 1, y0, None, state, False)

    y1, *_, result = end()
    assert result == diffrax.RESULTS.successful
    np.testing.assert_allclose(y1, [1.0, 1e6], rtol=1e-5)


def test_a_singular_mass_matrix_needs_a_method_that_is_stiffly_accurate():
    term = srx.MassMatrixTerm(lambda t, y, args: -y, jnp.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="`Rosenbrock23` was given a singular mass matrix"):
        diffrax.diffeqsolve(term, srx.Rosenbrock23(), 0.0, 1.0, 0.1, jnp.zeros(2))


def test_an_index_above_one_is_refused_by_name():
    term = srx.MassMatrixTerm(lambda t, y, args: -y, jnp.array([1.0, 0.0]), index=(1, 2))
    with pytest.raises(
        ValueError, match=r"`Rodas5P` was given a mass matrix with `index=\(1, 2\)`"
    ):
        diffrax.diffeqsolve(term, srx.Rodas5P(), 0.0, 1.0, 0.1, jnp.zeros(2))


def test_solves_without_a_matrix_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`Rodas5P\(structure=MatrixFree\(...\)\)` was given"):
        srx.Rodas5P(structure=srx.MatrixFree())


class Own(srx.AbstractStructure):
    jacobian = factor = solve = lambda self, *args: args  # pyright: ignore[reportAssignmentType]


def test_a_structure_that_does_not_say_what_it_leaves_out_is_refused_by_name():
    with pytest.raises(ValueError, match=r"`Rodas5P\(structure=Own\(...\)\)` was given"):
        srx.Rodas5P(structure=Own())


@pytest.mark.parametrize(
    "parts",
    [
        {"linear_solver": lx.GMRES(1e-2, 1e-2)},
        {"linear_solver": lx.Normal(lx.CG(1e-2, 1e-2))},
        {"structure": srx.Dense(lx.BiCGStab(1e-2, 1e-2))},
        {"structure": srx.Sparsity(np.eye(2), lx.GMRES(1e-2, 1e-2))},
    ],
)
def test_linear_solvers_that_iterate_are_refused_by_name(parts):
    with pytest.raises(
        ValueError, match=r"`Rodas5P\(linear_solver=.*\(...\)\)` was given; a Rosenb"
    ):
        srx.Rodas5P(**parts)


def test_one_of_linear_solver_and_structure_is_enough():
    with pytest.raises(ValueError, match="Both `linear_solver` and `structure`"):
        srx.Rodas5P(linear_solver=lx.LU(), structure=srx.Banded(1, 1))
    assert repr(srx.Rodas5P(structure=srx.Banded(1, 1))) == "Rodas5P(structure=Banded(...))"


def test_a_step_that_overflows_is_tried_again_with_a_smaller_one():
    # Van der Pol's equation in the midst of a jump: stages of a step of 0.22 leave the range of floats.
    problem = srx.problems.van_der_pol()
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        srx.Rodas5P(),
        0.0,
        0.3,
        0.21946243896286433,
        jnp.array([-0.99399415, 0.23301018]),
        stepsize_controller=diffrax.PIDController(rtol=1e-2, atol=1e-5),
        max_steps=64,
        throw=False,
    )
    assert solution.result == SUCCESS
    assert solution.stats["num_rejected_steps"] > 0


@pytest.mark.slow_cases("Rodas5P()")
@pytest.mark.parametrize("solver", [srx.Rodas5P(), srx.RadauIIA5()], ids=repr)
def test_a_first_step_whose_slope_overflows_is_tried_again_with_a_smaller_one(solver):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -1e200 * y),
        solver,
        0.0,
        1e10,
        1e9,
        jnp.array([1e100]),
        stepsize_controller=diffrax.PIDController(rtol=1e-2, atol=1e90),
        max_steps=64,
        throw=False,
    )
    assert solution.result == SUCCESS
    assert solution.stats["num_rejected_steps"] > 0
    assert abs(solution.ys[-1, 0]) < 1e90


def test_continuous_adjoints_refuse_it_by_name():
    def end(y0):
        term = diffrax.ODETerm(lambda t, y, args: -y)
        adjoint = srx.GaussAdjoint()
        return diffrax.diffeqsolve(term, srx.Rodas5P(), 0.0, 1.0, 0.1, y0, adjoint=adjoint).ys[-1]

    with pytest.raises(
        ValueError, match=r"`adjoint=GaussAdjoint\(\)` was given the solver Rodas5P"
    ):
        jax.grad(end)(1.0)


# The first pivot of the matrix of Rodas5P for steps of 0.1 is 1e-13 of its terms.
NEARLY_SINGULAR = np.array(
    [[1 / 0.21193756319429014 / 0.1 * (1 - 1e-13), 1e3, 0.0, 0.0], [-1e3, -50.0, 0.0, 0.0]]
    + [[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 1.0, -2.0]]
)


@jax.jit
def linear_step(J, forcing, y0):
    term = diffrax.ODETerm(lambda t, y, args: J @ y + forcing)
    return diffrax.diffeqsolve(term, srx.Rodas5P(), 0.0, 0.1, 0.1, y0).ys[-1]


def step_in_order(order, y0):
    J, forcing = NEARLY_SINGULAR[np.ix_(order, order)], np.arange(1.0, 5.0)[list(order)]
    return linear_step(J, forcing, y0[list(order)])


@pytest.mark.parametrize("y0", [np.zeros(4), np.eye(4)[3], np.ones(4)], ids=str)
def test_a_pivot_next_to_zero_is_found_whatever_components_are_zero(y0):
    # In another order of the states the pivots are large.
    order = (1, 0, 3, 2)
    y1, permuted = step_in_order((0, 1, 2, 3), y0), step_in_order(order, y0)
    np.testing.assert_allclose(y1[jnp.array(order)], permuted, rtol=1e-12)


@pytest.mark.slow_cases("Rodas5P()-*", "*-fixed")
@pytest.mark.parametrize("controller", ["fixed", "adaptive"])
@pytest.mark.parametrize("solver", [srx.Rodas3P(), srx.Rodas5P()], ids=repr)
def test_a_state_at_rest_is_moved_by_what_depends_on_time(solver, controller):
    # Slope and state are zero at the start: what stages are made of is the derivative by the time.
    adaptive = diffrax.PIDController(rtol=1e-6, atol=1e-8)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.sin(t) - y),
        solver,
        0.0,
        1.0,
        0.02,
        jnp.zeros(1),
        stepsize_controller=diffrax.ConstantStepSize() if controller == "fixed" else adaptive,
        throw=False,
    )
    assert solution.result == SUCCESS
    assert solution.stats["num_steps"] < 100
    np.testing.assert_allclose(solution.ys[-1], (np.sin(1) - np.cos(1) + np.exp(-1)) / 2, rtol=1e-5)


def test_a_state_decayed_to_nothing_wakes_at_a_jump_that_nobody_has_named():
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.where(t > 1.0005, 1.0, 0.0) - y),
        srx.Rodas3P(),
        0.0,
        2.0,
        0.1,
        jnp.full(1, 1e-25),
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-4),
        throw=False,
    )
    assert solution.result == SUCCESS
    np.testing.assert_allclose(solution.ys[-1], 1 - np.exp(-0.9995), rtol=1e-2)
