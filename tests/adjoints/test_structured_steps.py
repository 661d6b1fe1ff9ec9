"""Gradients of steps whose Jacobian has a known pattern: the same numbers, and no dense matrix."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import stiffrax as srx
from stiffrax.linear_algebra import LARGEST_LEFT, SparseMatrix, units_left
from stiffrax.stages import StageEquations, factor_sparse_stages

ADJOINTS = {
    "discrete": srx.DiscreteAdjoint(chunk=4),
    "steps": srx.DiscreteAdjoint(memory="steps", chunk=4),
    "maps": srx.DiscreteAdjoint(recurrence="scan", chunk=4),
    "checkpoints": diffrax.RecursiveCheckpointAdjoint(),
}


def chain(t, y, args):
    """Cells of two species that react, and flow on to the next cell."""
    u, v = y[::2], y[1::2]
    before = jnp.concatenate([jnp.ones(1), u[:-1]])
    reaction = args[0] * u * v**2
    du, dv = args[1] * (before - u) - reaction, reaction - jnp.sin(t) * v
    return jnp.stack([du, dv], axis=1).reshape(-1)


def cells(t, y, args):
    """The same without the flow."""
    u, v = y[::2], y[1::2]
    reaction = args[0] * u * v**2
    return jnp.stack([args[1] - reaction, reaction - v], axis=1).reshape(-1)


def pattern(n):
    index = np.arange(n)
    return np.abs(index[:, None] - index[None]) <= 2


def value(field, solver, adjoint, y0, args, mass=None):
    term = diffrax.ODETerm(field) if mass is None else srx.MassMatrixTerm(field, mass)
    solution = diffrax.diffeqsolve(
        term, solver, 0.0, 1.0, 0.2, y0, args, adjoint=adjoint, max_steps=6
    )
    return jnp.sum(jnp.asarray(solution.ys)[-1] ** 2)


def gradient(field, solver, adjoint, n=26, mass=None):
    y0, args = jnp.linspace(0.5, 1.5, n), jnp.array([1.0, 3.0])
    grad = jax.grad(lambda y0, args: value(field, solver, adjoint, y0, args, mass), (0, 1))
    return jnp.concatenate(jax.jit(grad)(y0, args))


GIVEN = {"Banded": srx.Banded(2, 1), "Sparsity": srx.Sparsity(pattern(26))}


@functools.cache
def dense_gradient():
    return gradient(chain, srx.RadauIIA3(), srx.DiscreteAdjoint())


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("structure", GIVEN)
def test_gradient_with_a_pattern_is_the_dense_one(structure, adjoint):
    given = GIVEN[structure]
    found = gradient(chain, srx.RadauIIA3(structure=given), ADJOINTS[adjoint])
    np.testing.assert_allclose(found, dense_gradient(), rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["discrete", "checkpoints"])
def test_gradient_with_blocks_is_the_dense_one(adjoint):
    solver = srx.RadauIIA5(structure=srx.BlockDiagonal(2))
    found = gradient(cells, solver, ADJOINTS[adjoint])
    expected = gradient(cells, srx.RadauIIA5(), srx.DiscreteAdjoint())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [srx.Trapezoid, srx.Rodas4P])
def test_gradient_with_a_pattern_is_the_dense_one_for_other_steps(solver):
    found = gradient(chain, solver(structure=srx.Banded(2, 1)), ADJOINTS["discrete"])
    expected = gradient(chain, solver(), srx.DiscreteAdjoint())
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["discrete", "checkpoints"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "matrix"])
def test_gradient_with_a_pattern_and_a_mass_is_the_dense_one(full, adjoint):
    mass = jnp.linspace(1.0, 2.0, 26)
    mass = jnp.diag(mass) + 0.1 * jnp.eye(26, k=1) if full else mass
    solver = srx.RadauIIA3(structure=srx.Banded(2, 1))
    found = gradient(chain, solver, ADJOINTS[adjoint], mass=mass)
    expected = gradient(chain, srx.RadauIIA3(), srx.DiscreteAdjoint(), mass=mass)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def exchange(t, y, args):
    """Cells that equalize fast, fed by what `Banded(1, 1)` leaves out: the mean grows slowly."""
    flow = 1e4 * jnp.diff(y, prepend=y[:1], append=y[-1:])
    return jnp.diff(flow) + args * y[-1] * jnp.eye(3)[0]


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_gradient_is_right_whatever_small_entries_a_pattern_leaves_out(adjoint):
    def found(structure, adjoint):
        solver = srx.RadauIIA3(structure=structure)
        grad = jax.grad(lambda y0, args: value(exchange, solver, adjoint, y0, args), (0, 1))
        return jnp.append(*jax.jit(grad)(jnp.ones(3), 2.0))

    given = found(srx.Banded(1, 1), ADJOINTS[adjoint])
    np.testing.assert_allclose(given, found(None, ADJOINTS["discrete"]), rtol=1e-10)


@pytest.mark.slow
def test_tangents_are_right_whatever_small_entries_a_pattern_leaves_out():
    def found(structure):
        solver = srx.RadauIIA3(structure=structure)
        end = lambda y0: value(exchange, solver, ADJOINTS["discrete"], y0, 2.0)
        return jax.jit(jax.jacfwd(end))(jnp.ones(3))

    np.testing.assert_allclose(found(srx.Banded(1, 1)), found(None), rtol=1e-10)


@pytest.mark.slow
def test_an_explicit_stage_refuses_what_a_pattern_leaves_out():
    solver = srx.Trapezoid(structure=srx.Banded(1, 1))
    grad = jax.grad(lambda y0: value(exchange, solver, ADJOINTS["discrete"], y0, 2.0))
    with pytest.raises(Exception, match="entry outside of `structure="):
        jax.block_until_ready(jax.jit(grad)(jnp.ones(3)))


@pytest.mark.slow
@pytest.mark.parametrize("solver", [srx.RadauIIA3, srx.Rodas4P])
def test_forward_mode_and_second_derivatives_with_a_pattern_are_the_dense_ones(solver):
    def rows(given):
        def of_rates(args):
            y0 = jnp.linspace(0.5, 1.5, 10)
            return value(chain, given, ADJOINTS["discrete"], y0, args)

        return jax.jit(lambda a: (jax.jacfwd(of_rates)(a), jax.hessian(of_rates)(a)))

    args = jnp.array([1.0, 3.0])
    found, expected = rows(solver(structure=srx.Banded(2, 1)))(args), rows(solver())(args)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def shapes(jaxpr):
    """The shapes of all values that a program computes, in loops and branches too."""
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars if hasattr(v.aval, "shape"))
        for x in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(x):
                yield from shapes(getattr(x, "jaxpr", x))


def is_program(x):
    return isinstance(x, Jaxpr | ClosedJaxpr)


@pytest.mark.slow_cases("checkpoints-*", "steps-*", "discrete-RadauIIA3")
@pytest.mark.parametrize("solver", [srx.RadauIIA3, srx.Rodas4P])
@pytest.mark.parametrize("adjoint", ["discrete", "steps", "checkpoints"])
def test_no_matrix_of_all_states_is_formed(adjoint, solver):
    n = 58  # Twice a prime: no other axis is a multiple of it.

    def grad(given):
        return jax.grad(lambda y0: value(chain, given, ADJOINTS[adjoint], y0, jnp.ones(2)))

    def matrices(given):
        program = jax.make_jaxpr(grad(given))(jnp.ones(n))
        return [s for s in shapes(program.jaxpr) if sum(k > 0 and k % n == 0 for k in s) > 1]

    assert matrices(solver(structure=srx.Banded(2, 1))) == []
    assert matrices(solver()) != []


@jax.jit
def solved(J, rhs):
    """Of stage equations with a Jacobian for each stage, transposed and not."""
    given = srx.Sparsity(pattern(30)).pattern
    hJ = SparseMatrix(jax.vmap(lambda J: J[given.rows, given.columns])(J), given)
    T = TABLEAU.transform
    ways = (A, T, hJ), (A.T, T.transposed, hJ.T)
    return [factor_sparse_stages(a, T, None, J).solve(rhs) for a, T, J in ways]


TABLEAU = srx.tableaus.radau_iia(2)
A = TABLEAU.A_inverse


def stage_equations(J):
    return np.kron(A, np.eye(30)) - jax.scipy.linalg.block_diag(*J)


@pytest.mark.slow_cases("by iteration")
@pytest.mark.parametrize("change", [0.02, 1.0], ids=["by iteration", "as one matrix"])
def test_stage_equations_with_a_pattern_are_solved_either_way(change):
    rng = np.random.default_rng(0)
    J, changes = rng.normal(size=(2, 2, 30, 30))
    J = np.where(pattern(30), J[:1] + change * changes, 0) - 4 * np.eye(30)
    rhs = rng.normal(size=60)
    matrix = stage_equations(J)
    for found, expected in zip(solved(J, rhs), (matrix, matrix.T), strict=True):
        np.testing.assert_allclose(found, np.linalg.solve(expected, rhs), rtol=1e-12, atol=1e-14)


def test_components_far_smaller_than_the_others_are_solved_as_well():
    J = -np.stack([np.diag(np.linspace(1, x, 30)) for x in (2, 6)])
    rhs = np.repeat(np.logspace(0, -30, 30)[None], 2, axis=0).reshape(-1)
    found = solved(J, rhs)[0]
    np.testing.assert_allclose(found, np.linalg.solve(stage_equations(J), rhs), rtol=1e-12)


def test_a_component_that_is_flushed_to_zero_leaves_rounding():
    given = srx.Sparsity(np.eye(2, dtype=bool)).pattern
    hJ = SparseMatrix(jnp.array([[-1e4, -1.0]] * 2, jnp.float32), given)
    equations = StageEquations(jnp.asarray(A, jnp.float32), None, hJ)

    @jax.jit
    def left(G):
        V = jax.vmap(lambda g: g / jnp.array([1e4, 1e9], jnp.float32), 0)(G)
        return V, units_left(*equations.residual(V, G))

    V, size = left(jnp.array([[5.9e-36, 0.0]] * 2, jnp.float32))
    assert not np.any(V)
    assert size < 2
    # What is right but for rounding is not told from zero, all else is.
    assert left(jnp.array([[5.9e-36, 1e-20]] * 2, jnp.float32))[1] > LARGEST_LEFT


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
def test_a_component_whose_sensitivity_decays_to_nearly_nothing_leaves_the_others(mode):
    def end(y0):
        term = diffrax.ODETerm(lambda t, y, args: -jnp.array([1e5, 1.0], jnp.float32) * y)
        solver = srx.RadauIIA5(structure=srx.Sparsity(np.eye(2, dtype=bool)))
        times = jnp.array([0.0, 2.0, 0.1], jnp.float32)
        solution = diffrax.diffeqsolve(
            term, solver, *times, y0, max_steps=32, adjoint=srx.DiscreteAdjoint()
        )
        return jnp.sum(solution.ys[-1])

    found = jax.jit(mode(end))(jnp.ones(2, jnp.float32))
    np.testing.assert_allclose(found, [0, np.exp(-2.0)], rtol=1e-5, atol=1e-30)


def test_no_right_hand_side_has_no_solution_to_look_for():
    J = np.stack([a * np.eye(30) for a in np.diagonal(A)])
    assert not np.any(solved(J, np.zeros(60)))


def test_pivots_that_vanish_leave_no_wrong_number():
    rng = np.random.default_rng(1)
    # All that is left on the diagonal, of both stages, is zero.
    J = np.stack([a * np.eye(30) + np.eye(30, k=1) + np.eye(30, k=-1) for a in np.diagonal(A)])
    rhs = rng.normal(size=60)
    found = np.asarray(solved(J, rhs)[0])
    expected = np.linalg.solve(stage_equations(J), rhs)
    is_lost = np.isnan(found).all()
    assert is_lost or np.max(np.abs(found - expected)) < 1e-10 * np.max(np.abs(expected))
