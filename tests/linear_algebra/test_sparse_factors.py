"""Factors of sparse matrices in the order of a dissection, by the multifrontal method."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags_array, eye_array, kron
from scipy.sparse.linalg import spsolve

import stiffrax as srx
from stiffrax.linear_algebra._dissection import dissect, dissect_band
from stiffrax.linear_algebra._sparse_matrix import SparseMatrix
from stiffrax.stages import flat_field


def grid(side, species=2):
    """The pattern of so many species that diffuse in a square."""
    line = diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(side, side))
    cells = kron(line, eye_array(side)) + kron(eye_array(side), line)
    reactions = kron(eye_array(side**2), np.ones((species, species)))
    return csr_matrix(kron(cells, eye_array(species)) + reactions)


def random_pattern(n, seed=0):
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.uniform(size=(n, n)) < 2.5 / n) + np.eye(n))


def arrow(n):
    pattern = np.eye(n)
    pattern[0], pattern[:, 0] = 1, 1
    return csr_matrix(pattern)


PATTERNS = {
    "grid": grid(8),
    "random": random_pattern(90),
    "arrow": arrow(60),
    "two parts": csr_matrix(kron(eye_array(2), grid(4))),
    "one state": csr_matrix(np.ones((1, 1))),
}


def matrices(pattern, seed=0):
    """Jacobians whose Newton matrix has a diagonal that weighs, and one right-hand side."""
    rng = np.random.default_rng(seed)
    n = pattern.shape[0]
    size = np.asarray(pattern.sum(axis=1)).max()
    values = np.asarray(pattern.todense() != 0) * rng.uniform(-1, 1, (n, n))
    return values - 2 * size * np.eye(n), rng.normal(size=n)


def sparse(structure, matrix):
    pattern = structure.pattern
    return SparseMatrix(jnp.asarray(matrix)[pattern.rows, pattern.columns], pattern)


@eqx.filter_jit
def solved(structure, shift, hJ, rhs):
    return structure.solve(structure.factor(np.array([shift]), hJ), rhs[None])[0]


@pytest.mark.slow_cases("*-random", "*-two parts", "complex-*")
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shift", [1.5, 1.5 + 2.0j], ids=["real", "complex"])
def test_solutions_are_those_of_scipy(name, shift):
    structure = srx.Sparsity(PATTERNS[name])
    matrix, rhs = matrices(PATTERNS[name])
    found = solved(structure, shift, sparse(structure, matrix), jnp.asarray(rhs + 0 * shift))
    expected = spsolve(csr_matrix(shift * np.eye(len(rhs)) - matrix).tocsc(), rhs)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tree", [dissect(grid(9)), dissect_band(200, 2)], ids=["grid", "band"])
def test_parts_below_a_separator_touch_each_other_in_no_entry(tree):
    n = sum(map(len, tree[-1])) + sum(len(node) for level in tree[:-1] for node in level)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([node for level in tree for node in level])), np.arange(n)
    )
    band = diags_array([1.0] * 5, offsets=range(-2, 3), shape=(n, n))
    pattern = grid(9) if n == 162 else band
    branch = np.full(n, -1)
    k = len(tree[-1]) // len(tree[1])
    for level in range(1, len(tree)):
        each = len(tree[level]) // len(tree[1])
        for i, node in enumerate(tree[level]):
            branch[node] = i // each
    assert k >= 1
    rows, columns = pattern.nonzero()
    across = (branch[rows] >= 0) & (branch[columns] >= 0)
    assert np.all(branch[rows[across]] == branch[columns[across]])


def test_fill_of_a_grid_grows_no_faster_than_that_of_nested_dissection():
    costs = [
        sum(level.cost for level in srx.Sparsity(grid(side)).pattern.levels) for side in (16, 32)
    ]
    # Four times the states: a band would cost 16 times as much, fronts without padding 4^1.5 = 8.
    assert costs[1] / costs[0] < 12


def test_a_pattern_that_fills_up_is_planned_as_a_dense_matrix():
    assert len(srx.Sparsity(np.ones((60, 60))).pattern.levels) == 1


@pytest.fixture(scope="module")
def chain():
    """A grid, and a function that solves with its values in many units at once."""
    structure = srx.Sparsity(grid(5, species=1))
    matrix, rhs = matrices(grid(5, species=1))
    return structure, matrix, rhs


def test_solutions_do_not_depend_on_the_units_of_states(chain):
    structure, matrix, rhs = chain
    units = 10.0 ** np.random.default_rng(0).integers(-60, 61, (4, len(rhs)))
    expected = np.linalg.solve(1.5 * np.eye(len(rhs)) - matrix, rhs)
    many = np.stack([u[:, None] * matrix / u for u in units])
    hJ = jax.vmap(lambda m: sparse(structure, m))(many)
    found = jax.vmap(lambda a, b: solved(structure, 1.5, a, b))(hJ, jnp.asarray(units * rhs))
    np.testing.assert_allclose(found / units, np.tile(expected, (4, 1)), rtol=1e-9)


def test_a_zero_on_the_diagonal_is_exchanged_within_its_front(chain):
    # A differential and an algebraic unknown, each determined by the other's equation.
    structure = srx.Sparsity(np.kron(np.eye(6), np.ones((2, 2))))
    matrix = np.kron(np.diag(np.arange(1.0, 7.0)), np.array([[1.5, 1.0], [1.0, 0.0]]))
    matrix[np.arange(0, 12, 2), np.arange(0, 12, 2)] = 1.5
    rhs = np.arange(12.0)
    S = 1.5 * np.diag(np.tile([1.0, 0.0], 6)) - matrix
    mass = SparseMatrix(
        jnp.asarray(np.diag(np.tile([1.0, 0.0], 6)))[
            structure.pattern.rows, structure.pattern.columns
        ],
        structure.pattern,
    )
    factors = structure.factor(np.array([1.5]), sparse(structure, matrix), mass)
    np.testing.assert_allclose(
        structure.solve(factors, jnp.asarray(rhs)[None])[0], np.linalg.solve(S, rhs), rtol=1e-10
    )


def test_single_precision_keeps_its_digits(chain):
    structure, matrix, rhs = chain
    hJ = sparse(structure, matrix.astype(np.float32))
    found = solved(structure, 1.5, hJ, jnp.asarray(rhs, jnp.float32))
    assert found.dtype == jnp.float32
    expected = np.linalg.solve(1.5 * np.eye(len(rhs)) - matrix, rhs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("structure", "written"),
    [
        (srx.Banded(0, 1), r"Banded\(0, 1\)"),
        (srx.BlockDiagonal(2), r"BlockDiagonal\(2\)"),
        (srx.Sparsity(np.eye(4)), r"Sparsity\(\.\.\.\)"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_entry_outside_of_the_structure_is_refused(structure, written):
    def field(t, y):
        # The third state drives the second: outside of all three.
        return (
            -y
            + jnp.array([0.0, 1e-2, 0.0, 0.0]) * jnp.roll(y, -1) * y
            + jnp.array([0.0, 0.0, 1e-2, 0.0]) * jnp.roll(y, 1)
        )

    flat, y, _ = flat_field(field, jnp.array(0.0), jnp.ones(4))

    @eqx.filter_jit
    def jacobian(y):
        return structure.jacobian(flat, jnp.array(0.0), y)

    with pytest.raises(Exception, match=f"entry outside of `structure={written}`"):
        jax.block_until_ready(jacobian(y))
