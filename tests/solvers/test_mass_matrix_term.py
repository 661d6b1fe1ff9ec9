"""`M y' = f` with every solver; differential-algebraic equations with those that can."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
import scipy.integrate
from every_solver import IMPLICIT

import stiffrax as srx


def field(t, y, args):
    return jnp.stack([jnp.cos(t) - 2 * y[0] * y[1], y[0] - 20 * y[1] ** 2, -y[2] * y[1]])


def half(t, y, args):
    return field(t, y, args) / 2


START = jnp.array([1.0, 0.5, 0.3])
EXPLICIT = (np.zeros((1, 1)), np.ones(1), np.zeros(1))


def one_step(term, solver, h=0.1, y0=START):
    """The end of one step, and values of its dense output.

    Not its coefficients, whose digits cancel in the values: 1e-16 in a stage of order 13 are 1e-14
    in a coefficient, and differ with the order of operations.
    """
    y0, t0 = jnp.asarray(y0), jnp.zeros((), float)
    state = solver.init(term, t0, t0 + h, y0, None)
    y1, _, dense, _, result = solver.step(term, t0, t0 + h, y0, None, state, False)
    step = solver.interpolation_cls(t0=t0, t1=t0 + h, **dense)
    return y1, jax.vmap(step.evaluate)(t0 + h * jnp.linspace(0.0, 1.0, 5)), result


@functools.cache
def steps_with_twice_the_identity(name):
    # Of a constant a diagonal is made; a matrix that is traced stays one.
    @jax.jit
    def run(matrix):
        terms = [srx.MassMatrixTerm(field, mass) for mass in (2 * jnp.eye(3), matrix)]
        return [one_step(x, IMPLICIT[name])[:2] for x in (*terms, diffrax.ODETerm(half))]

    return run(2 * jnp.eye(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", IMPLICIT)
def test_twice_the_identity_is_half_the_vector_field(name):
    *steps, expected = steps_with_twice_the_identity(name)
    for found in steps:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 16])
def test_an_explicit_first_stage_divides_by_a_traced_matrix_once(n):
    @jax.jit
    def solve(mass):
        decay = srx.MassMatrixTerm(lambda t, y, args: -y, mass)
        return adaptive(decay, srx.Trapezoid(), 1.0, jnp.ones(n), 1e-6, 1e-8).ys[-1]

    np.testing.assert_allclose(solve(2 * jnp.eye(n)), np.exp(-0.5), rtol=1e-5)


# Index 1: y = exp(sin t), z = y^2.
def index_1(t, x, args):
    y, z = x
    return jnp.stack([jnp.cos(t) * z / y, z**3 + z - y**6 - y**2])


# Index 2: a pendulum whose multiplier follows from the constraint of its velocity.
def pendulum(t, x, args):
    p, q, u, v, tension = x
    return jnp.stack([u, v, -tension * p, -tension * q - 1, p * u + q * v])


PENDULUM_MASS, PENDULUM_INDEX = np.array([1.0, 1, 1, 1, 0]), (1, 1, 1, 1, 2)
PENDULUM_START = jnp.array([1.0, 0, 0, 0, 0])


@functools.cache
def pendulum_end():
    """The state at t = 1, from the equation of the angle."""
    angle, rate = scipy.integrate.solve_ivp(
        lambda t, x: [x[1], np.cos(x[0])], (0, 1), [0, 0], rtol=1e-12, atol=1e-12
    ).y[:, -1]
    p, q = np.cos(angle), -np.sin(angle)
    return np.array([p, q, q * rate, -p * rate, rate**2 - q])


@functools.cache
def marched(solver, vector_field, mass, y0):
    term = srx.MassMatrixTerm(vector_field, np.array(mass))

    def march(n):
        h = 1 / n

        def body(k, carry):
            y, state = carry
            y, _, _, state, _ = solver.step(term, k * h, k * h + h, y, None, state, False)
            return y, state

        start = jnp.array(y0)
        first = start, solver.init(term, 0.0 * h, h, start, None)
        return jax.lax.fori_loop(0, n, body, first)[0]

    return jax.jit(march)


def orders(march, exact, coarse, fine):
    errors = [np.abs(march(jnp.array(n)) - exact) for n in (coarse, fine)]
    return [
        np.log(errors[0][part].max() / errors[1][part].max()) / np.log(fine / coarse)
        for part in (slice(-1), slice(-1, None))
    ]


def test_index_1_has_the_classical_order_in_all_components():
    y = np.exp(np.sin(1.0))
    march = marched(srx.RadauIIA5(), index_1, (1, 0), (1.0, 1.0))
    found = orders(march, np.array([y, y**2]), 10, 20)
    np.testing.assert_allclose(found, [5, 5], atol=0.25)


@pytest.mark.slow
def test_index_2_has_the_classical_order_and_multipliers_the_order_of_the_stages():
    march = marched(srx.RadauIIA5(), pendulum, tuple(PENDULUM_MASS), tuple(PENDULUM_START.tolist()))
    found = orders(march, pendulum_end(), 15, 30)
    np.testing.assert_allclose(found, [5, 3], atol=0.35)


def adaptive(term, solver, t1, y0, rtol, atol, args=None, **options):
    controller = diffrax.PIDController(rtol=rtol, atol=atol)
    return diffrax.diffeqsolve(
        term,
        solver,
        0.0,
        t1,
        None,
        y0,
        args,
        stepsize_controller=controller,
        throw=False,
        **options,
    )


@pytest.mark.slow
def test_the_index_of_a_multiplier_saves_it_from_tiny_steps():
    def solve(index):
        term = srx.MassMatrixTerm(pendulum, PENDULUM_MASS, index)
        return adaptive(term, srx.RadauIIA5(), 1.0, PENDULUM_START, 1e-8, 1e-8, max_steps=500)

    sol, without = solve(PENDULUM_INDEX), solve(None)
    assert sol.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(sol.ys[-1, :4], pendulum_end()[:4], atol=1e-7)
    assert sol.stats["num_steps"] < 100
    assert without.stats["num_steps"] > 5 * sol.stats["num_steps"]


def test_robertson_as_dae_at_1e11_has_the_digits_that_its_constraint_leaves():
    problem = srx.problems.robertson_dae()
    term = srx.MassMatrixTerm(problem.vector_field, problem.mass)
    y0 = jnp.array(problem.y0)
    sol = jax.jit(
        lambda y0: adaptive(term, srx.RadauIIA5(), problem.t1, y0, 1e-8, 1e-16, problem.args)
    )(y0)
    assert sol.result == diffrax.RESULTS.successful
    # y1 is what y2 and y3 leave of one: each rounding of that sum is 5e-9 of y1, which y2 follows.
    # How many there are depends on the order in which the compiler adds.
    rounding = 2.0**-53 / problem.reference[0]
    np.testing.assert_allclose(sol.ys[-1], problem.reference, rtol=8 * rounding)


@pytest.mark.slow
def test_a_tolerance_below_the_rounding_of_a_constraint_does_not_grind():
    problem = srx.problems.robertson_dae()
    term = srx.MassMatrixTerm(problem.vector_field, np.diag(problem.mass))
    y0 = jnp.array(problem.y0)
    sol = adaptive(term, srx.RadauIIA9(), 1e5, y0, 1e-10, 1e-18, problem.args)
    assert sol.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(sol.ys[-1], problem.reference_values[7], rtol=1e-8)


@pytest.fixture(scope="module")
def amplifier():
    problem = srx.problems.transistor_amplifier()
    return problem, srx.MassMatrixTerm(problem.vector_field, problem.mass)


@pytest.mark.slow
def test_the_transistor_amplifier_has_nine_digits(amplifier):
    problem, term = amplifier
    sol = adaptive(term, srx.RadauIIA9(), problem.t1, jnp.array(problem.y0), 1e-10, 1e-10)
    assert sol.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(sol.ys[-1], problem.reference, rtol=1e-9)


def test_a_mass_that_has_an_inverse_is_not_carried_through_the_steps():
    field = lambda t, y, args: -y
    for mass, carried in ((jnp.eye(2) + jnp.eye(2, k=1), False), (jnp.ones((2, 2)), True)):
        term = srx.MassMatrixTerm(field, mass)
        init = lambda term=term: srx.RadauIIA5().init(term, 0.0, 0.1, jnp.ones(2), None)
        assert (jax.eval_shape(init).mass is not None) == carried


def test_a_mass_that_the_field_was_divided_by_is_not_carried_through_the_steps():
    def init(mass):
        term = srx.MassMatrixTerm(lambda t, y, args: -y, mass)
        return srx.Trapezoid().init(term, 0.0, 0.1, jnp.ones(2), None)

    assert jax.eval_shape(init, jnp.eye(2)).mass is None


COUPLED_MASS = jnp.array([[2.0, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])


def coupled(t, y, args):
    a, b, c, d = y
    return jnp.stack([-a + jnp.sin(t), -b * a, c - d**2, -d])


STRUCTURES = [
    srx.Banded(1, 1),
    srx.BlockDiagonal(2),
    srx.Sparsity(np.kron(np.eye(2), np.ones((2, 2)))),
    srx.MatrixFree(rtol=1e-10),
]


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: type(s).__name__)
def test_every_structure_solves_with_a_mass_matrix(structure):
    term, y0 = srx.MassMatrixTerm(coupled, COUPLED_MASS), jnp.array([1.0, 0.5, 0.04, 0.2])

    @jax.jit
    def both():
        return [
            one_step(term, srx.RadauIIA5(structure=s), 0.1, y0)[0] for s in (srx.Dense(), structure)
        ]

    np.testing.assert_allclose(*both(), rtol=1e-12)


@pytest.mark.slow
def test_a_banded_system_longer_than_its_dense_end_solves_with_a_mass_matrix():
    n = 37
    mass = jnp.eye(n) * 4 + jnp.eye(n, k=1) + jnp.eye(n, k=-1)
    term = srx.MassMatrixTerm(
        lambda t, y, args: 100 * (jnp.roll(y, 1).at[0].set(0) - 2 * y), mass.at[3, 3].set(5)
    )
    y0 = jnp.sin(jnp.arange(1.0, n + 1))

    @jax.jit
    def both():
        solvers = srx.RadauIIA5(), srx.RadauIIA5(structure=srx.Banded(1, 1))
        return [one_step(term, solver, 0.1, y0)[0] for solver in solvers]

    np.testing.assert_allclose(*both(), rtol=1e-10, atol=1e-12)


class Diagonal(srx.AbstractStructure):
    def jacobian(self, field, t, y):
        return jnp.diag(field.jacobian(t, y))

    def factor(self, shifts, hJ):
        return [s - hJ for s in shifts]

    def solve(self, factors, rhs):
        return jnp.stack([b / f for f, b in zip(factors, rhs, strict=True)])


def test_a_structure_without_masses_is_refused_by_name():
    term = srx.MassMatrixTerm(lambda t, y, args: -y, 2.0)
    with pytest.raises(ValueError, match="structure=Diagonal"):
        one_step(term, srx.RadauIIA5(structure=Diagonal()))


@pytest.mark.slow
def test_an_explicit_first_stage_asks_no_structure_for_masses():
    term = srx.MassMatrixTerm(lambda t, y, args: -y, 2.0)
    solver = srx.Trapezoid(structure=Diagonal())
    sol = adaptive(term, solver, 1.0, jnp.ones(16), 1e-4, 1e-4)
    np.testing.assert_allclose(sol.ys[-1], np.exp(-0.5), rtol=1e-3)


@pytest.mark.parametrize("solver", [srx.Trapezoid(), srx.GaussLegendre4()])
def test_solvers_without_damping_refuse_a_singular_mass_and_name_one_that_can(solver):
    term = srx.MassMatrixTerm(index_1, jnp.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="stiffrax.RadauIIA5"):
        diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.1, jnp.ones(2))


def test_an_explicit_first_stage_refuses_a_structure_that_the_inverse_mass_breaks():
    term = srx.MassMatrixTerm(field, jnp.eye(3) + jnp.eye(3, k=1))
    with pytest.raises(ValueError, match="structure=Banded"):
        one_step(term, srx.Trapezoid(structure=srx.Banded(1, 1)))


@pytest.mark.parametrize("solver", [diffrax.Kvaerno5(), diffrax.Tsit5()])
def test_solvers_of_diffrax_refuse_it(solver):
    with pytest.raises(ValueError, match="takes no mass matrix"):
        adaptive(srx.MassMatrixTerm(field, 2.0), solver, 1.0, START, 1e-3, 1e-3)


@pytest.mark.parametrize("tableau", [srx.tableaus.radau_iia(2), EXPLICIT], ids=["radau", "euler"])
def test_a_learnable_tableau_refuses_it(tableau):
    term = srx.MassMatrixTerm(field, 2.0)
    solver = srx.LearnableRungeKutta.from_tableau(tableau, order=1)
    with pytest.raises(ValueError, match="MassMatrixTerm"):
        diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.1, START)


def test_the_slope_with_a_mass_that_has_an_inverse_is_the_derivative():
    mass = jnp.array([[1.0, 0.999], [0.999, 1.0]])
    term = srx.MassMatrixTerm(lambda t, y, args: y, mass)
    y = jnp.array([1.0, 2.0])
    found = srx.RadauIIA5().func(term, 0.0, y, None)
    np.testing.assert_allclose(found, np.linalg.solve(mass, y), rtol=1e-12)


def test_the_implicit_adjoint_of_a_steady_state_is_refused_under_constraints():
    with pytest.raises(ValueError, match="ImplicitAdjoint\\(\\)` was given with a mass matrix"):
        diffrax.diffeqsolve(
            srx.MassMatrixTerm(index_1, jnp.array([1.0, 0.0])),
            srx.BackwardEuler(),
            0.0,
            jnp.inf,
            0.1,
            jnp.ones(2),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3),
            adjoint=diffrax.ImplicitAdjoint(),
            event=diffrax.Event(diffrax.steady_state_event()),
            max_steps=None,
        )


def test_an_index_above_3_is_refused():
    with pytest.raises(ValueError, match="1, 2 or 3"):
        srx.MassMatrixTerm(pendulum, PENDULUM_MASS, [1, 1, 1, 1, 4])


@pytest.mark.slow
def test_lanes_of_a_batch_run_backward_in_time_and_in_float32():
    term = srx.MassMatrixTerm(index_1, jnp.array([1.0, 0.0]))

    @jax.jit
    @jax.vmap
    def back(t0):
        y = jnp.exp(jnp.sin(t0))
        sol = diffrax.diffeqsolve(
            term, srx.RadauIIA5(), t0, t0 - 1, jnp.float32(-0.1), jnp.stack([y, y**2])
        )
        return sol.ys[-1]

    t0 = jnp.array([1.0, 2.0], jnp.float32)
    found, y = back(t0), jnp.exp(jnp.sin(t0 - 1))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, jnp.stack([y, y**2], axis=1), rtol=1e-5)


@pytest.mark.slow
def test_events_and_dense_output_know_the_algebraic_components():
    term = srx.MassMatrixTerm(index_1, jnp.array([1.0, 0.0]))
    event = diffrax.Event(
        lambda t, y, args, **kwargs: y[1] - 3.0, optx.Newton(rtol=1e-9, atol=1e-9)
    )
    sol = diffrax.diffeqsolve(
        term, srx.RadauIIA5(), 0.0, 1.0, 0.05, jnp.ones(2), event=event,
        saveat=diffrax.SaveAt(t1=True, ts=jnp.array([0.33])),
    )  # fmt: skip
    np.testing.assert_allclose(sol.ts[-1], np.arcsin(np.log(3.0) / 2), rtol=1e-6)
    y = np.exp(np.sin(0.33))
    np.testing.assert_allclose(sol.ys[0], [y, y**2], rtol=1e-5)


def test_a_mass_in_units_of_very_different_size_is_not_singular():
    mass = jnp.array([[1.0, 0.0, 0.0], [0.0, 2e-18, 1e-18], [0.0, 1e-18, 2e-18]])
    assert not srx.MassMatrixTerm(lambda t, y, args: -mass @ y, mass).singular
    assert srx.MassMatrixTerm(lambda t, y, args: -y, mass.at[2].set(mass[1])).singular


def test_the_mass_of_a_system_is_taken_as_written():
    system = srx.System(lambda t, y, args: -y, jnp.ones(2), mass=np.array([1.0, 0.0]))
    term = srx.MassMatrixTerm(system, system.mass)
    assert term.mass.tolist() == [1.0, 0.0]
    assert term.singular
