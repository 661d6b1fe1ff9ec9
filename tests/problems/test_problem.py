"""What holds for every problem, and the faults `Problem` names."""

import functools
import inspect
import pickle

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

ALL = [
    value
    for name, value in vars(srx.problems).items()
    if inspect.isfunction(value) and name != "hires_initial_states"
]
each_problem = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


@functools.cache
def compiled(make):
    """A problem and its vector field, compiled for one state and for a batch."""
    problem = make()
    field = jax.jit(problem.vector_field)
    return problem, field, jax.jit(jax.vmap(problem.vector_field, (None, 0)))


def random_states(problem, count=20):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, len(problem.y0)))


def test_every_problem_is_covered():
    assert len(ALL) == 21


@each_problem
def test_field_is_finite_with_a_finite_jacobian_at_the_start(make):
    problem, field, _ = compiled(make)
    assert np.isfinite(field(problem.t0, problem.y0)).all()
    jacobian = jax.jit(jax.jacfwd(problem.vector_field, argnums=1))(problem.t0, problem.y0)
    assert jacobian.shape == (len(problem.y0),) * 2
    assert np.isfinite(jacobian).all()


@each_problem
def test_single_precision_stays_single_and_agrees(make):
    problem, _, fields = compiled(make)
    states = random_states(problem).astype(np.float32)
    single = fields(np.float32(0), states)
    assert single.dtype == jnp.float32
    expected = np.asarray(fields(0.0, states.astype(np.float64)))
    # Sums cancel, so an entry is only as good as the largest one.
    size = np.abs(expected).max(axis=1)
    assert np.all(np.abs(np.asarray(single) - expected).max(axis=1) <= 1e-5 * size + 1e-5)


@each_problem
def test_numbers_are_double_precision_on_the_host(make):
    problem = make()
    for array in (problem.y0, problem.reference_times, problem.reference_values):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
    assert problem.t0 < problem.t1
    assert len(problem.names) == len(set(problem.names)) == len(problem.y0)


@each_problem
def test_true_equations_evaluate_to_the_vector_field(make):
    import sympy

    problem, _, fields = compiled(make)
    if not problem.polynomial:
        with pytest.raises(ValueError, match=f"{problem.name} is no polynomial"):
            problem.true_equations()
        return
    equations = problem.true_equations()
    assert tuple(equations) == problem.names
    sides = [getattr(e, "rhs", e) for e in equations.values()]
    function = sympy.lambdify(sympy.symbols(problem.names), sides, "numpy")
    states = random_states(problem)
    for y, field in zip(states, np.asarray(fields(0.0, states)), strict=True):
        np.testing.assert_allclose(
            field, function(*y), rtol=1e-12, atol=1e-15 * np.abs(field).max()
        )


def test_the_row_of_a_constraint_is_no_rate_of_change():
    text = srx.to_text(srx.problems.robertson_dae().true_equations())
    assert text.splitlines()[2] == "0 = y1 + y2 + y3 - 1"


@each_problem
def test_two_of_a_kind_have_equal_vector_fields(make):
    # Otherwise every call of a solver with a new copy would compile again.
    assert make().vector_field == make().vector_field


def test_given_parameters_replace_the_standard_ones():
    problem = srx.problems.lorenz()
    y = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(problem.vector_field(0.0, y, (1.0, 0.0, 0.0)), [1.0, -5.0, 2.0])
    assert str(problem.true_equations((1.0, 0.0, 0.0))["x"]) == "-1.0*x + 1.0*y"


def test_field_is_differentiable_in_its_parameters():
    problem = srx.problems.robertson()
    y = jnp.array([0.5, 1e-3, 0.5])
    derivative = jax.jacfwd(lambda k: problem.vector_field(0.0, y, k))(jnp.asarray(problem.args))
    np.testing.assert_allclose(derivative[2], [0.0, 1e-6, 0.0])


def test_diffrax_solves_a_problem_under_jit():
    problem = srx.problems.lotka_volterra()

    @eqx.filter_jit
    def end(problem):
        term = diffrax.ODETerm(problem.vector_field)
        controller = diffrax.PIDController(rtol=1e-9, atol=1e-9)
        solution = diffrax.diffeqsolve(
            term,
            diffrax.Dopri8(),
            problem.t0,
            problem.t1,
            None,
            jnp.asarray(problem.y0),
            args=problem.args,
            stepsize_controller=controller,
        )
        assert solution.ys is not None
        return solution.ys[-1]

    np.testing.assert_allclose(end(problem), problem.reference_values[-1], rtol=1e-7)


def test_problem_cannot_be_changed():
    with pytest.raises(AttributeError):
        srx.problems.hires().t1 = 1.0


def test_problem_survives_pickling():
    problem = pickle.loads(pickle.dumps(srx.problems.hires()))
    np.testing.assert_array_equal(problem.reference, srx.problems.hires().reference)


def test_closed_form_takes_one_time_or_many():
    problem = srx.problems.linear_pair()
    assert problem.solution(0.5).shape == (2,)
    np.testing.assert_allclose(problem.solution([0.0, 0.5])[0], problem.y0, atol=1e-15)


@pytest.mark.parametrize(
    "make",
    [make for make in ALL if make().closed_form is not None],
    ids=lambda make: make.__name__,
)
def test_closed_form_satisfies_the_equation(make):
    # By the default rates nothing is left to see at the first sample.
    slow = make.__name__ in ("linear_decay", "linear_relaxation")
    problem = make(rate=5.0) if slow else make()
    ts = np.linspace(problem.t0, problem.t1, 7)[1:]
    step = 1e-4 * ts[0] * np.array([-2, -1, 1, 2])
    weights = np.array([1, -8, 8, -1]) / 12
    field = jax.jit(problem.vector_field)
    assert np.max(np.abs(field(ts[0], problem.solution(ts[0])))) > 1e-3
    for t in ts:
        slope = weights @ problem.solution(t + step) / (1e-4 * ts[0])
        y = problem.solution(t)
        # The field's own rounding, rate times that of y, bounds the agreement.
        atol = 1e-8 + 1e-15 * 1e6
        np.testing.assert_allclose(field(t, y), slope, rtol=1e-7, atol=atol)


def test_problem_without_closed_form_says_what_to_use():
    with pytest.raises(
        ValueError, match="HIRES has no closed form: compare with `reference_times`"
    ):
        srx.problems.hires().solution(1.0)


def test_repr_is_one_short_line():
    assert repr(srx.problems.hires()) == "Problem(HIRES, n=8, t from 0 to 321.8122)"
