import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx
from stiffrax.stages import flat_field

SHIFTS = [np.array([3.6]), np.array([2.7 + 3.0j, 1.5 + 4.0j])]


def banded_matrix(n, lower, upper):
    values = np.random.default_rng(0).normal(size=(n, n))
    distance = np.arange(n)[None] - np.arange(n)[:, None]
    return np.where((distance >= -lower) & (distance <= upper), values, 0) - 3 * np.eye(n)


def block_matrix(n, size):
    values = np.random.default_rng(1).normal(size=(n, n))
    block = np.arange(n) // size
    return np.where(block[:, None] == block[None], values, 0) - 3 * np.eye(n)


CASES = {
    "dense": (srx.Dense(), banded_matrix(5, 4, 4)),
    "dense, LU": (srx.Dense(lx.LU()), banded_matrix(5, 4, 4)),
    "tridiagonal": (srx.Banded(1, 1), banded_matrix(9, 1, 1)),
    "diagonal": (srx.Banded(0, 0), banded_matrix(4, 0, 0)),
    "one band below": (srx.Banded(2, 0), banded_matrix(7, 2, 0)),
    "one band above": (srx.Banded(0, 3), banded_matrix(8, 0, 3)),
    "wide": (srx.Banded(2, 4), banded_matrix(21, 2, 4)),
    "long": (srx.Banded(2, 1), banded_matrix(75, 2, 1)),
    "wider than the matrix": (srx.Banded(4, 4), banded_matrix(3, 2, 2)),
    "blocks": (srx.BlockDiagonal(3), block_matrix(12, 3)),
    "blocks of four": (srx.BlockDiagonal(4), block_matrix(8, 4)),
    "sparse": (srx.Sparsity(banded_matrix(9, 1, 2) != 0), banded_matrix(9, 1, 2)),
    "matrix-free": (srx.MatrixFree(rtol=1e-12, max_steps=1000), banded_matrix(6, 1, 1)),
    "bands for a wider one": (
        srx.MatrixFree(srx.Banded(1, 1), rtol=1e-12, max_steps=1000),
        banded_matrix(10, 2, 2),
    ),
}


@functools.cache
def solved(name, shifts_index):
    """Solutions of the shifted systems, by the structure and by NumPy; for the matrix times 0.3."""
    structure, matrix = CASES[name]
    shifts = SHIFTS[shifts_index]
    n, h, t = len(matrix), 0.3, jnp.array(0.0)
    field, y, _ = flat_field(lambda t, y: jnp.asarray(matrix) @ y, t, jnp.ones(n))
    rhs = np.random.default_rng(2).normal(size=(len(shifts), n)).astype(shifts.dtype)
    if np.iscomplexobj(shifts):
        rhs = rhs + 1j * np.cos(np.arange(n))

    def solve():
        hJ = structure.scaled(jnp.asarray(h), structure.jacobian(field, t, y))
        return structure.solve(structure.factor(shifts, hJ), jnp.asarray(rhs))

    expected = [
        np.linalg.solve(s * np.eye(n) - h * matrix, b) for s, b in zip(shifts, rhs, strict=True)
    ]
    return eqx.filter_jit(solve)(), np.stack(expected)


@pytest.mark.slow_cases(
    "real-long",
    "real-bands*",
    "complex-tridiagonal",
    "complex-long",
    "complex-one band*",
    "complex-wider*",
    "complex-blocks of four",
    "complex-dense, LU",
    "complex-matrix-free",
    "complex-bands for a wider one",
    "real-wide",
    "real-one band above",
    "real-one band below",
    "complex-diagonal",
    "real-wider than the matrix",
    "real-matrix-free",
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shifts", [0, 1], ids=["real", "complex"])
def test_every_structure_solves_the_shifted_systems(name, shifts):
    found, expected = solved(name, shifts)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_a_singular_diagonal_block_gives_no_number_that_looks_like_a_solution():
    structure = srx.Banded(1, 1)
    matrix = jnp.array([[1.0, 0.0], [0.0, -1.0]])
    field, y, _ = flat_field(lambda t, y: matrix @ y, jnp.array(0.0), jnp.ones(2))
    hJ = structure.jacobian(field, jnp.array(0.0), y)
    x = structure.solve(structure.factor(np.array([1.0]), hJ), jnp.ones((1, 2)))
    assert not jnp.all(jnp.isfinite(x))


def test_columns_of_a_band_are_evaluated_in_as_many_groups_as_the_band_is_wide():
    assert srx.Sparsity(banded_matrix(30, 1, 2) != 0).num_groups == 4


def test_sparse_arrays_of_scipy_are_patterns():
    from scipy.sparse import diags_array

    assert srx.Sparsity(diags_array([1.0, 1.0], offsets=[0, 1], shape=(6, 6))).num_groups == 2


def heat(t, y, args):
    """Linear diffusion between walls at zero, and a reaction; the Jacobian is tridiagonal."""
    n = y.size
    left, right = jnp.concatenate([jnp.zeros(1), y[:-1]]), jnp.concatenate([y[1:], jnp.zeros(1)])
    return (n + 1) ** 2 * (left - 2 * y + right) - y**3


def approximate_inverse(t, y, h, shift):
    n = y.size
    beside = jnp.full(n, -h * (n + 1) ** 2)
    diagonal = shift + 2 * h * (n + 1) ** 2 + 0 * y
    below, above = beside.at[0].set(0.0), beside.at[-1].set(0.0)
    return lambda v: jax.lax.linalg.tridiagonal_solve(below, diagonal, above, v[:, None])[:, 0]


STRUCTURES = {
    "banded": srx.Banded(1, 1),
    "sparse": srx.Sparsity(banded_matrix(20, 1, 1) != 0),
    "matrix-free": srx.MatrixFree(),
    "matrix-free, preconditioned": srx.MatrixFree(approximate_inverse),
    "matrix-free, by a part": srx.MatrixFree(srx.Banded(1, 1)),
}


@functools.cache
def diffusion(structure, solver=srx.RadauIIA5, batch=False):
    def solve(scale):
        x = jnp.linspace(0, jnp.pi, 22)[1:-1]
        return diffrax.diffeqsolve(
            diffrax.ODETerm(heat),
            solver(structure=STRUCTURES.get(structure)),
            0.0,
            0.1,
            1e-3,
            scale * jnp.sin(x),
            stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-8),
            adjoint=srx.DiscreteAdjoint(),
        )

    return eqx.filter_jit(jax.vmap(solve) if batch else solve)(
        jnp.array([1.0, 3.0]) if batch else jnp.array(1.0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_solve_with_a_structure_is_that_without_one(name):
    found, expected = diffusion(name), diffusion("dense")
    np.testing.assert_allclose(found.ys, expected.ys, rtol=1e-6)
    assert abs(found.stats["num_steps"] - expected.stats["num_steps"]) <= 2


def test_entries_beside_a_declared_part_are_not_taken_for_its_own():
    matrix = banded_matrix(12, 3, 3)
    field, y, _ = flat_field(lambda t, y: jnp.asarray(matrix) @ y, jnp.array(0.0), jnp.ones(12))
    band = srx.Banded(1, 1).part(field, jnp.array(0.0), y)
    inside = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 1
    np.testing.assert_allclose(band.as_matrix(), np.where(inside, matrix, 0), atol=1e-14)
    blocks = srx.BlockDiagonal(2).part(field, jnp.array(0.0), y)
    expected = [matrix[i : i + 2, i : i + 2] for i in range(0, 12, 2)]
    np.testing.assert_allclose(blocks, expected, atol=1e-14)


def test_a_declared_pattern_may_be_a_part_of_the_jacobian():
    matrix = np.diag(np.arange(1.0, 13.0)) + np.eye(12, k=7)
    field, y, _ = flat_field(lambda t, y: jnp.asarray(matrix) @ y, jnp.array(0.0), jnp.ones(12))
    part = srx.Sparsity(np.eye(12, dtype=bool)).part(field, jnp.array(0.0), y)
    np.testing.assert_allclose(part.as_matrix(), np.diag(np.arange(1.0, 13.0)), atol=1e-14)
    with pytest.raises(ValueError, match="pattern of shape .11, 11. was given for a state of 12"):
        srx.Sparsity(np.eye(11, dtype=bool)).part(field, jnp.array(0.0), y)


@pytest.mark.slow
def test_a_component_at_rest_costs_an_iteration_on_products_nothing():
    def cycles(rest):
        def field(t, y, args):
            return jnp.concatenate([-jnp.arange(1.0, 5.0) * y[:4], 0 * y[4:]])

        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.BackwardEuler(structure=srx.MatrixFree()),
            0.0,
            1.0,
            0.5,
            jnp.ones(4 + rest),
            # The largest error, which the component at rest does not change.
            stepsize_controller=srx.PredictiveController(0.0, 0.1, norm=optx.max_norm),
            adjoint=srx.DiscreteAdjoint(),
        ).stats["num_gmres_cycles"]

    # 144 and 135; 78 to 113 where one at rest ended the iteration.
    assert abs(cycles(1) / cycles(0) - 1) < 0.1


def test_a_field_that_is_not_a_number_later_is_never_called_solved():
    @jax.jit
    def result(end_of_numbers):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: jnp.where(t > end_of_numbers, jnp.nan, -y)),
            srx.BackwardEuler(structure=srx.MatrixFree()),
            0.0,
            1.0,
            0.1,
            jnp.ones(3),
            throw=False,
        ).result

    assert result(0.5) != diffrax.RESULTS.successful
    assert result(2.0) == diffrax.RESULTS.successful


@pytest.mark.slow
def test_a_part_that_holds_all_that_is_stiff_costs_no_steps_and_few_cycles():
    found, expected = diffusion("matrix-free, by a part"), diffusion("banded")
    assert found.stats["num_steps"] <= 1.1 * expected.stats["num_steps"]
    assert found.stats["num_gmres_cycles"] <= 6 * found.stats["num_newton_iterations"]
    assert expected.stats["num_gmres_cycles"] == 0


@pytest.mark.slow
def test_methods_without_a_real_eigenvalue_have_structures_as_well():
    found = diffusion("banded", srx.RadauIIA3)
    np.testing.assert_allclose(found.ys, diffusion("dense").ys, rtol=1e-5)


@pytest.mark.slow
def test_structures_work_in_a_batch():
    found = diffusion("banded", batch=True)
    np.testing.assert_allclose(found.ys[0], diffusion("banded").ys, rtol=1e-10)


@pytest.mark.parametrize("wrap", [lambda solver: solver, lx.Normal])
def test_a_linear_solver_of_ones_own_may_say_that_it_assumes_no_full_rank(wrap):
    class Own(lx.LU):
        def assume_full_rank(self):
            return False

    for make in (srx.RadauIIA5, srx.Rodas5P):
        make(linear_solver=wrap(Own()))
        make(structure=srx.Dense(wrap(Own())))


class TestRaises:
    def test_a_preconditioner_that_is_none_is_refused(self):
        with pytest.raises(
            ValueError, match="needs a structure, or a function of `t, y, h, shift`"
        ):
            srx.MatrixFree(preconditioner=2.0)

    def test_a_preconditioner_without_factors_is_refused(self):
        with pytest.raises(ValueError, match="needs a structure that has factors"):
            srx.MatrixFree(preconditioner=srx.MatrixFree())

    def test_a_linear_solver_beside_a_structure_is_refused(self):
        with pytest.raises(ValueError, match=r"Both `linear_solver` and `structure`.*Dense\("):
            srx.RadauIIA5(linear_solver=lx.LU(), structure=srx.Banded(1, 1))

    @pytest.mark.parametrize(
        "solver", [lx.SVD(), lx.AutoLinearSolver(well_posed=False), lx.Normal(lx.LSMR(1e-3, 1e-3))]
    )
    def test_a_linear_solver_of_least_squares_is_refused(self, solver):
        for parts in ({"linear_solver": solver}, {"structure": srx.Dense(solver)}):
            with pytest.raises(ValueError, match="may leave equations unsolved"):
                srx.RadauIIA5(**parts)
            with pytest.raises(ValueError, match="may leave equations unsolved"):
                srx.Rodas5P(**parts)

    @pytest.mark.parametrize("widths", [(-1, 1), (1, -2), (True, 1)])
    def test_bandwidths_that_are_no_numbers_are_refused(self, widths):
        with pytest.raises(ValueError, match=r"numbers of diagonals.*Banded\(1, 1\)"):
            srx.Banded(*widths)

    @pytest.mark.parametrize("size", [0, True, 1.5])
    def test_a_block_size_that_is_no_number_is_refused(self, size):
        with pytest.raises(ValueError, match=r"BlockDiagonal\(.*rows of a block"):
            srx.BlockDiagonal(size)

    @pytest.mark.parametrize("wrap", [lambda s: s, srx.MatrixFree], ids=["alone", "preconditioner"])
    def test_a_block_size_that_does_not_divide_the_state_is_refused(self, wrap):
        field = diffrax.ODETerm(lambda t, y, args: -y)
        solver = srx.RadauIIA5(structure=wrap(srx.BlockDiagonal(np.int64(2))))
        with pytest.raises(ValueError, match="state of 5 components.*must divide it"):
            diffrax.diffeqsolve(field, solver, 0.0, 1.0, 0.5, jnp.ones(5))

    def test_a_pattern_that_is_not_square_is_refused(self):
        with pytest.raises(ValueError, match=r"pattern of shape \(2, 3\)"):
            srx.Sparsity(np.ones((2, 3), bool))

    def test_a_pattern_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match=r"pattern of shape \(2, 2\).*state of 3 components"):
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: -y),
                srx.RadauIIA5(structure=srx.Sparsity(np.eye(2, dtype=bool))),
                0.0,
                1.0,
                0.5,
                jnp.ones(3),
            )


def test_a_system_that_gmres_cannot_solve_is_not_taken_for_solved():
    # Each product moves the right-hand side by one place: nothing is gained before the last.
    structure = srx.MatrixFree(restart=2, max_steps=2)
    zero = jnp.zeros(())
    field, y, _ = flat_field(lambda t, y: 1e6 * jnp.roll(y, 1), zero, jnp.zeros(20))
    point = structure.scaled(jnp.ones(()), structure.jacobian(field, zero, y))
    factors = structure.factor(np.array([1.0]), point)
    assert jnp.all(jnp.isnan(structure.solve(factors, jnp.eye(20)[:1])))
